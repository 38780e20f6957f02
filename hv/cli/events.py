"""`hv run --events`: each domain's event channels as they are, or were at its end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hv.machine import event_table

if TYPE_CHECKING:
    from hv.machine.domain import Domain


def show(domains: list[Domain]) -> None:
    for domain in domains:
        when = "at its end" if domain.ended else "now"
        title = f"hv: event channels of {domain.name}, {when}:"
        print("\n".join([title, *event_table.lines(domain.events)]), file=sys.stderr)
