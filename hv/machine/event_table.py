"""Event channels as a table for people: `hv run --events` and the debugger show it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hv.core.event_channel import Row

HEADER = ("port", "state", "bound to", "vCPU", "pending", "masked", "priority", "sent", "merged")
RIGHT = (0, 3, 6, 7, 8)  # columns of numbers


def _cells(row: Row) -> tuple[str, ...]:
    priority = "-" if row.priority is None else str(row.priority)
    flags = ["yes" if flag else "no" for flag in (row.pending, row.masked)]
    numbers = str(row.sent), str(row.merged)
    return (str(row.port), row.state, row.target, str(row.vcpu), *flags, priority, *numbers)


def lines(rows: Iterable[Row]) -> list[str]:
    """A header, a line for each port, and one for each port where an event is stuck."""
    rows = list(rows)
    cells = [HEADER, *map(_cells, rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEADER))]
    aligned = (
        "  ".join(f"{cell:>{width}}" if i in RIGHT else f"{cell:<{width}}" for i, (cell, width) in enumerate(pairs))
        for pairs in (zip(line, widths, strict=True) for line in cells)
    )
    return [*(line.rstrip() for line in aligned), *(f"port {row.port} is {row.hint}" for row in rows if row.hint)]
