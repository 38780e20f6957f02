"""A summary of a trace, as `strace -c` prints: by hypercall, by event channel, by exception.

Times are virtual (with the host's clock, the host's). A hypercall's time is what it cost itself; what its vCPU then
slept stands beside it. An upcall counts for the event that asked for it; later events of the same upcall have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hv.trace import decode, words
from hv.trace.events import (
    TICKS_PER_NS,
    Event,
    GuestException,
    Hypercall,
    PortEvent,
    Runstate,
    SystemCall,
    Upcall,
)


@dataclass(slots=True)
class CallRow:
    calls: int = 0
    errors: int = 0
    ticks: int = 0
    slept: int = 0


@dataclass(slots=True)
class PortRow:
    source: str = ""
    events: int = 0
    merged: int = 0
    masked: int = 0
    latencies: list[int] = field(default_factory=lambda: [0, 0, 0])  # how many, sum, largest

    def answered(self, latency: int) -> None:
        self.latencies[0] += 1
        self.latencies[1] += latency
        self.latencies[2] = max(self.latencies[2], latency)


class Statistics:
    """Counts the events that it is given."""

    def __init__(self) -> None:
        self.calls: dict[str, CallRow] = {}
        self.ports: dict[tuple[int, int], PortRow] = {}
        self.exceptions: dict[tuple[int, str], int] = {}
        self._sleeping: dict[tuple[int, int | None], tuple[int, int]] = {}  # vCPU -> (call, since)
        self._called: dict[tuple[int, int | None], tuple[int, str]] = {}  # vCPU -> its last call
        self._port_of: dict[int, tuple[int, int]] = {}  # event -> its port, until the upcall
        self._add: dict[type[Event], Callable[..., None]] = {
            Hypercall: self._call,
            PortEvent: self._event,
            Upcall: self._upcall,
            Runstate: self._runstate,
            GuestException: self._exception,
            SystemCall: self._system_call,
        }

    def add(self, event: Event) -> None:
        count = self._add.get(type(event))
        if count is not None:
            count(event)

    def _call(self, event: Hypercall) -> None:
        name = event.name if event.op is None else f"{event.name}.{event.op}"
        row = self.calls.setdefault(name, CallRow())
        row.calls += 1
        row.errors += event.error is not None
        row.ticks += event.duration
        self._called[event.domain, event.vcpu] = event.id, name

    def _event(self, event: PortEvent) -> None:
        key = event.domain, event.port
        row = self.ports.setdefault(key, PortRow())
        row.source = words.source_of(event.state, event.detail, event.remote_port)
        row.events += 1
        row.merged += event.merged
        row.masked += event.masked
        if not event.merged and event.domain:
            self._port_of[event.id] = key

    def _upcall(self, event: Upcall) -> None:
        key = self._port_of.pop(event.cause, None)
        if key is not None:
            self.ports[key].answered(event.latency)

    def _runstate(self, event: Runstate) -> None:
        vcpu = event.domain, event.vcpu
        if event.new == "blocked":
            self._sleeping[vcpu] = event.cause, event.ticks
        elif event.old == "blocked" and vcpu in self._sleeping:
            call, since = self._sleeping.pop(vcpu)
            number, name = self._called.get(vcpu, (0, ""))
            if number == call:
                self.calls[name].slept += event.ticks - since

    def _exception(self, event: GuestException) -> None:
        self._count(event.domain, decode.exception_name(event.vector, event.software))

    def _system_call(self, event: SystemCall) -> None:
        self._count(event.domain, "system call")

    def _count(self, domain: int, what: str) -> None:
        self.exceptions[domain, what] = self.exceptions.get((domain, what), 0) + 1

    # --- text

    def text(self) -> str:
        """The tables; those without rows are left out."""
        tables = [self._call_table(), self._port_table(), self._exception_table()]
        return "\n\n".join(table for table in tables if table) or "nothing happened"

    def _call_table(self) -> str:
        rows = sorted(self.calls.items(), key=lambda item: (-item[1].ticks, item[0]))
        total = CallRow()
        for _, row in rows:
            total.calls, total.errors = total.calls + row.calls, total.errors + row.errors
            total.ticks, total.slept = total.ticks + row.ticks, total.slept + row.slept
        whole = max(total.ticks, 1)
        lines = [
            (f"{100 * row.ticks / whole:.2f}", _ns(row.ticks), _ns(row.ticks // row.calls), str(row.calls),
             str(row.errors or ""), _ns(row.slept) if row.slept else "", name)
            for name, row in [*rows, ("total", total)]
            if row.calls
        ]  # fmt: skip
        return _table(("% time", "ns", "ns/call", "calls", "errors", "then slept ns", "hypercall"), lines)

    def _port_table(self) -> str:
        lines = []
        for (domain, port), row in sorted(self.ports.items()):
            count, total, largest = row.latencies
            mean = _ns(total // count) if count else ""
            lines.append(
                (f"d{domain}", str(port), str(row.events), str(row.merged or ""), str(row.masked or ""),
                 str(count or ""), mean, _ns(largest) if count else "", row.source)
            )  # fmt: skip
        titles = ("domain", "port", "events", "merged", "masked", "upcalls", "mean ns", "max ns", "source")
        return _table(titles, lines)

    def _exception_table(self) -> str:
        lines = [(f"d{domain}", str(count), what) for (domain, what), count in sorted(self.exceptions.items())]
        return _table(("domain", "times", "exception"), lines)


def _ns(ticks: int) -> str:
    return str(ticks // TICKS_PER_NS)


def _table(titles: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    """Columns to the right, but the last to the left."""
    rows = list(lines)
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(len(titles) - 1)]
    return "\n".join(
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in [titles, *rows]
    )
