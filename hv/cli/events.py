"""The table of `hv run --events`: a domain's event channels as they are, or were at its end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hv.core.event_channel import Row
    from hv.machine.domain import Domain

HEADER = ("port", "state", "bound to", "vCPU", "pending", "masked", "priority", "sent", "merged")
RIGHT = (0, 3, 6, 7, 8)  # columns of numbers


def _cells(row: Row) -> tuple[str, ...]:
    priority = "-" if row.priority is None else str(row.priority)
    flags = ["yes" if flag else "no" for flag in (row.pending, row.masked)]
    numbers = str(row.sent), str(row.merged)
    return (str(row.port), row.state, row.target, str(row.vcpu), *flags, priority, *numbers)


def table(domain: Domain) -> str:
    """The table with a title, and a line for each port where an event is stuck."""
    rows = list(domain.events)
    lines = [HEADER, *map(_cells, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    aligned = (
        "  ".join(f"{cell:>{width}}" if i in RIGHT else f"{cell:<{width}}" for i, (cell, width) in enumerate(pairs))
        for pairs in (zip(line, widths, strict=True) for line in lines)
    )
    when = "at its end" if domain.ended else "now"
    text = [f"hv: event channels of {domain.name}, {when}:", *(line.rstrip() for line in aligned)]
    text += [f"port {row.port} is {row.hint}" for row in rows if row.hint]
    return "\n".join(text)


def show(domains: list[Domain]) -> None:
    for domain in domains:
        print(table(domain), file=sys.stderr)
