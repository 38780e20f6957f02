"""From binary records to events.

Rules:

1. A hypercall comes out when it has returned, and before its effects, which are held until then; so events come out in
   the order of their ids.
2. A reader may be given the records in any portions of whole ones; `finish` gives what a trace's end has left open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hv.trace import records as r
from hv.trace.events import (
    RUNSTATES,
    TIMERS,
    Crash,
    Destroyed,
    Event,
    Failsafe,
    GrantUse,
    GuestException,
    Hypercall,
    Iret,
    Note,
    PageTable,
    PortEvent,
    Runstate,
    Shutdown,
    SystemCall,
    TimerFired,
    Upcall,
)
from hv.trace.records import Record

WORD = 1 << 64


def _text(x: Record) -> bytes:
    """What stands behind the length in a record's last word."""
    return x.rest[: x.words[-1]]


def _base(x: Record) -> tuple[int, int, int, int, int | None]:
    return x.id, x.cause, x.ticks, x.domid, x.vcpu if x.vcpu != r.NOBODY else None


def _note(x: Record) -> Event:
    source, what, data = _text(x).split(b"\0", 2)
    return Note(*_base(x), source.decode(), what.decode(), data)


def _port_event(x: Record) -> Event:
    port, state, detail, remote_port = x.words
    return PortEvent(
        *_base(x), port, state, detail, remote_port, bool(x.flags & r.MERGED), bool(x.flags & r.MASKED)
    )


def _exception(x: Record) -> Event:
    rip, handler, vector, error, address = x.words
    software, kernel_mode = bool(x.flags & r.SOFTWARE), bool(x.flags & r.KERNEL)
    return GuestException(*_base(x), rip, handler, vector, error, address, software, kernel_mode)


def _page_table(x: Record) -> Event:
    slot, level, old, new, address = x.words
    return PageTable(*_base(x), slot, level, old, new, address if address != r.UNKNOWN_ADDRESS else None)


MAKERS: dict[int, Callable[[Record], Event]] = {
    r.CALL: lambda x: Hypercall(*_base(x), x.words[0], x.words[1:], bool(x.flags & r.INSIDE), r.pieces(x.rest)),
    r.EVENT: _port_event,
    r.UPCALL: lambda x: Upcall(
        *_base(x), x.words[0], x.words[1], x.ticks - x.words[2], bool(x.flags & r.KERNEL)
    ),
    r.EXCEPTION: _exception,
    r.SYSCALL: lambda x: SystemCall(*_base(x), *x.words),
    r.FAILSAFE: lambda x: Failsafe(*_base(x), *x.words),
    r.IRET: lambda x: Iret(*_base(x), x.words[0], x.words[1], bool(x.flags & r.KERNEL)),
    r.TIMER: lambda x: TimerFired(*_base(x), TIMERS[x.words[0]], x.words[1]),
    r.RUNSTATE: lambda x: Runstate(*_base(x), RUNSTATES[x.words[0]], RUNSTATES[x.words[1]]),
    r.PAGE_TABLE: _page_table,
    r.CRASH: lambda x: Crash(*_base(x), _text(x).decode(errors="replace")),
    r.SHUTDOWN: lambda x: Shutdown(*_base(x), x.words[0]),
    r.DESTROY: lambda x: Destroyed(*_base(x)),
    r.GRANT: lambda x: GrantUse(*_base(x), bool(x.words[0]), *x.words[1:]),
    r.NOTE: _note,
}


class Reader:
    """Turns one trace into events."""

    def __init__(self) -> None:
        self._open: dict[int, Hypercall] = {}
        self._held: list[Event] = []

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that are complete with these records."""
        opened, held = self._open, self._held
        for record in r.records(data):
            if record.kind == r.RETURN:
                self._close(record)
                if not opened:
                    yield from held
                    held.clear()
                continue
            event = MAKERS[record.kind](record)
            if isinstance(event, Hypercall):
                opened[event.id] = event
            if opened:
                held.append(event)
            else:
                yield event

    def _close(self, record: Record) -> None:
        call = self._open.pop(record.cause, None)
        if call is None:  # it began before the trace
            return
        call.duration = record.ticks - call.ticks
        call.again = bool(record.flags & r.AGAIN)
        if not call.again:
            value = record.words[1]
            call.result = value - WORD if value >> 63 else value
        call.written = r.pieces(record.rest)

    def finish(self) -> Iterator[Event]:
        """What was still under way."""
        yield from self._held
        self._held.clear()
        self._open.clear()
