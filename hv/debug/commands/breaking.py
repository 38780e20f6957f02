"""Commands about breakpoints. All of them are for the domain that is looked at when they are made."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hv.abi import vectors
from hv.debug.command import Command
from hv.errors import ConfigError
from hv.machine.breakpoints import Breakpoint

if TYPE_CHECKING:
    from hv.debug.session import Session

CONDITION = re.compile(r"(?:^|\s)if\b")
VECTORS = {mnemonic.removeprefix("#").lower(): vector for vector, (mnemonic, *_) in vectors.VECTORS.items()}
Maker = Callable[["Session", str, dict[str, Any]], Breakpoint]


def _parts(text: str) -> tuple[str, str | None]:
    """What stands before `if`, and the condition behind it."""
    match = CONDITION.search(text)
    if match is None:
        return text.strip(), None
    condition = text[match.end() :].strip()
    if not condition:
        raise ConfigError("a condition is missing behind if")
    return text[: match.start()].strip(), condition


def _number(text: str, what: str, session: Session) -> int | None:
    if text in ("", "any"):
        return None
    try:
        return int(text, 0)
    except ValueError:
        raise ConfigError(f"{text!r} is no {what}: give its number, or any") from None


def _at(session: Session, text: str, options: dict[str, Any]) -> Breakpoint:
    address = session.value(text) if text else session.registers["rip"]
    return session.machine.breakpoints.at(address, session.domain, **options)


def _hypercall(session: Session, text: str, options: dict[str, Any]) -> Breakpoint:
    words = text.split()
    if not words or words[1:] not in ([], ["after"], ["before"]):
        raise ConfigError("write break hypercall NAME[.OPERATION] [after]")
    name, _, operation = words[0].partition(".")
    return session.machine.breakpoints.hypercall(
        name, session.domain, after=words[1:] == ["after"], operation=operation or None, **options
    )


def _event(session: Session, text: str, options: dict[str, Any]) -> Breakpoint:
    return session.machine.breakpoints.event(_number(text, "event channel", session), session.domain, **options)


def _upcall(session: Session, text: str, options: dict[str, Any]) -> Breakpoint:
    return session.machine.breakpoints.upcall(_number(text, "event channel", session), session.domain, **options)


def _exception(session: Session, text: str, options: dict[str, Any]) -> Breakpoint:
    vector = VECTORS.get(text.removeprefix("#").lower())
    if vector is None:
        vector = _number(text, "exception", session)
    return session.machine.breakpoints.exception(vector, session.domain, **options)


def _store(session: Session, text: str, options: dict[str, Any]) -> Breakpoint:
    return session.machine.breakpoints.store(text, session.domain, **options)


WHAT: dict[str, Maker] = {  # the first word of `break`; anything else is a location
    "hypercall": _hypercall,
    "event": _event,
    "upcall": _upcall,
    "exception": _exception,
    "xenstore": _store,
}


def _make(session: Session, text: str, *, once: bool) -> None:
    place, condition = _parts(text)
    word, _, rest = place.partition(" ")
    maker, argument = (WHAT[word], rest.strip()) if word in WHAT else (_at, place)
    session.write(session.describe(maker(session, argument, {"condition": condition, "once": once})))


def break_(session: Session, text: str) -> None:
    _make(session, text, once=False)


def tbreak(session: Session, text: str) -> None:
    _make(session, text, once=True)


def _watch(session: Session, text: str, access: str) -> None:
    place, condition = _parts(text)
    where, _, size = place.rpartition(",") if "," in place else (place, "", "")
    address = session.value(where.strip())
    length = session.value(size) if size.strip() else _size_of(session, where.strip())
    made = session.machine.breakpoints.watch(address, length, access, session.domain, condition=condition)
    session.write(session.describe(made))


def _size_of(session: Session, name: str) -> int:
    """A variable's size, where it is a small one; else a word's."""
    size = session.domain.symbols.size(name)
    return size if 0 < size <= 4096 else 8


def _chosen(session: Session, text: str) -> list[Breakpoint]:
    points = session.machine.breakpoints
    try:
        return [points[int(word, 0)] for word in text.split()] or list(points)
    except ValueError:
        raise ConfigError(f"{text!r} are no numbers of breakpoints: info breakpoints lists them") from None


def delete(session: Session, text: str) -> None:
    for point in _chosen(session, text):
        session.machine.breakpoints.delete(point)


def _enable(session: Session, text: str, enabled: bool) -> None:
    for point in _chosen(session, text):
        point.enabled = enabled
    session.machine.breakpoints.changed()


def info(session: Session, text: str) -> None:
    points = list(session.machine.breakpoints)
    for point in points:
        session.write(session.describe(point))
    if not points:
        session.write("there are no breakpoints")


COMMANDS = (
    Command(
        "break",
        ("b", "br"),
        "[LOCATION | hypercall NAME... | event [PORT] | upcall [PORT] | exception [VECTOR] | xenstore PATH]",
        "Stop where something happens; if EXPRESSION behind that: only if it is not 0 then.\n"
        "LOCATION is an expression: main, main+0x10, *0xffffffff80000000; without one it is here.\n"
        "break hypercall NAME[.OPERATION] [after]   before it is made, or when it has its result\n"
        "break event 3                              when the port becomes pending\n"
        "break upcall 3                             when the event callback is entered while it is pending\n"
        "break exception #PF if address < 0x1000    when it enters the guest; the vector's number will do\n"
        "break xenstore control/shutdown            when a request or watch event is about the node, or one below\n"
        "break hypercall sched_op.SCHEDOP_poll after if result != 0",
        break_,
        "break",
    ),
    Command("tbreak", ("tb",), "as break", "As break, but only once.", tbreak, "break"),
    Command(
        "watch",
        ("wa",),
        "ADDRESS[, LENGTH] [if EXPRESSION]",
        "Stop behind an instruction that writes there; LENGTH is the variable's size, or 8.",
        lambda session, text: _watch(session, text, "write"),
        "location",
    ),
    Command(
        "rwatch",
        ("rw",),
        "ADDRESS[, LENGTH] [if EXPRESSION]",
        "Stop behind an instruction that reads there.",
        lambda session, text: _watch(session, text, "read"),
        "location",
    ),
    Command(
        "awatch",
        ("aw",),
        "ADDRESS[, LENGTH] [if EXPRESSION]",
        "Stop behind an instruction that reads or writes there.",
        lambda session, text: _watch(session, text, "access"),
        "location",
    ),
    Command("delete", ("d", "del"), "[NUMBER...]", "Delete breakpoints, or all.", delete, "breakpoint"),
    Command(
        "disable",
        ("dis",),
        "[NUMBER...]",
        "Let breakpoints, or all, stop nothing for now.",
        lambda session, text: _enable(session, text, False),
        "breakpoint",
    ),
    Command(
        "enable",
        ("en",),
        "[NUMBER...]",
        "Let them stop again.",
        lambda session, text: _enable(session, text, True),
        "breakpoint",
    ),
    Command("info breakpoints", ("i b",), "", "List the breakpoints and watchpoints.", info),
)
