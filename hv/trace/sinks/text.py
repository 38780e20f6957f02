"""One line an event, as strace writes: virtual time in ns, domain and vCPU, id, what happened, and the id of its cause.

What a hypercall, a timer or an event brings about at once is indented below it.
"""

from __future__ import annotations

from typing import BinaryIO

from hv.trace import decoders
from hv.trace.events import Entry, Event, Iret, TimerFired

BREAKS = (Entry, Iret)  # the guest goes on: nothing is under way any more
DEEPEST = 6


def line(event: Event, depth: int = 0) -> str:
    """An event without a newline."""
    where = f"d{event.domain}v{event.vcpu}" if event.vcpu is not None else f"d{event.domain}"
    cause = f"  ← {event.cause}" if event.cause else ""
    return f"{event.ns:>12} {where:<6} {event.id:>6}  {'  ' * depth}{decoders.text(event)}{cause}"


class Indentation:
    """How deep below its cause an event stands."""

    def __init__(self) -> None:
        self._around: list[int] = []

    def depth(self, event: Event) -> int:
        if isinstance(event, BREAKS):
            self._around.clear()
            return 0
        while self._around and (self._around[-1] != event.cause or isinstance(event, TimerFired)):
            self._around.pop()
        self._around.append(event.id)
        return min(len(self._around) - 1, DEEPEST)


class Sink:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._indentation = Indentation()

    def write(self, event: Event) -> None:
        self._file.write((line(event, self._indentation.depth(event)) + "\n").encode())

    def close(self) -> None:
        self._file.flush()
