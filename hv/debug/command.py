"""Commands as rows, and how a line finds its row.

Rules:

1. A row's name may be two words ("info traps"). An abbreviation that a row names is that row; otherwise a line's words
   may be any beginnings that fit one row only.
2. `completes` says what its argument is made of, for the prompt: a key of hv.debug.completion.SOURCES.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hv.errors import ConfigError

if TYPE_CHECKING:
    from hv.debug.session import Session

Handler = Callable[["Session", str], None]


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `help` starts with one sentence; examples may follow in further lines."""

    name: str
    abbreviations: tuple[str, ...]
    arguments: str
    help: str
    handler: Handler
    completes: str = ""

    @property
    def usage(self) -> str:
        return f"{self.name} {self.arguments}".rstrip()

    @property
    def summary(self) -> str:
        return self.help.split("\n")[0]


def commands() -> tuple[Command, ...]:
    from hv.debug.commands import COMMANDS

    return COMMANDS


def resolve(line: str, rows: Sequence[Command] | None = None) -> tuple[Command, str]:
    """The row of a line, and what follows its name. `x/4i $rip` is `x` with `/4i $rip`."""
    rows = commands() if rows is None else rows
    first, _, rest = line.strip().partition(" ")
    first, slash, format_ = first.partition("/")
    rest = f"{slash}{format_} {rest}".strip()
    second, _, behind = rest.partition(" ")
    two = [row for row in rows if " " in row.name and _fits(row.name, first, second)]
    exact = [row for row in rows if first in (row.name, *row.abbreviations)]
    if exact:
        return exact[0], rest
    pairs = [row for row in rows if f"{first} {second}" in (row.name, *row.abbreviations)] or two
    if len(pairs) == 1:
        return pairs[0], behind.strip()
    single = [row for row in rows if " " not in row.name and row.name.startswith(first)]
    if len(single) == 1 and not pairs:
        return single[0], rest
    raise ConfigError(_unclear(first, [*pairs, *single], rows))


def _fits(name: str, first: str, second: str) -> bool:
    one, two = name.split(" ")
    return bool(first and second) and one.startswith(first) and two.startswith(second)


def _unclear(word: str, candidates: Sequence[Command], rows: Sequence[Command]) -> str:
    if candidates:
        return f"{word!r} can be {', '.join(row.name for row in candidates)}: type more of it"
    groups = [row.name for row in rows if row.name.split(" ")[0].startswith(word) and " " in row.name]
    if groups:
        return f"{word!r} needs a second word: {', '.join(groups)}"
    return f"{word!r} is no command: help lists them"
