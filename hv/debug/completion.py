"""What the prompt offers for the word that is being typed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from hv.abi.hypercalls import BY_NAME
from hv.debug.command import commands, resolve
from hv.debug.commands.breaking import WHAT
from hv.errors import HvError

if TYPE_CHECKING:
    from hv.debug.session import Session

WORD = re.compile(r"[\w.$#]*$")


def _locations(session: Session, before: str) -> Iterable[str]:
    registers = () if session.domain.ended else session.registers
    return [*session.domain.symbols.names(), *(f"${name}" for name in registers)]


def _break(session: Session, before: str) -> Iterable[str]:
    words = before.split()
    if words[:1] == ["hypercall"]:
        rows = BY_NAME.values()
        return [row.name for row in rows] + [f"{row.name}.{op.name}" for row in rows for op in row.operations]
    return [*(WHAT if not words else ()), *_locations(session, before)]


SOURCES: dict[str, Callable[[Session, str], Iterable[str]]] = {
    "location": _locations,
    "break": _break,
    "breakpoint": lambda session, before: [str(point.number) for point in session.machine.breakpoints],
    "command": lambda session, before: [*(row.name for row in commands()), "expressions"],
}


def candidates(session: Session, line: str) -> tuple[str, list[str]]:
    """The beginning of a word at the end of `line`, and what it may become."""
    match = WORD.search(line)
    word = match[0] if match else ""
    before = line[: len(line) - len(word)].lstrip()
    found = set(_names(before))
    if before.strip():
        try:
            row, rest = resolve(before)
        except HvError:
            pass
        else:
            found |= set(SOURCES[row.completes](session, rest)) if row.completes else set()
    return word, sorted(name for name in found if name.startswith(word))


def _names(before: str) -> Iterable[str]:
    """Names of commands, or second words of those that begin with what stands there."""
    parts = before.split()
    if len(parts) > 1:
        return ()
    names = [row.name.split(" ") for row in commands()]
    if not parts:
        return {name[0] for name in names}
    return {name[1] for name in names if len(name) > 1 and name[0].startswith(parts[0])}
