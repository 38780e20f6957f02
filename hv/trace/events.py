"""What a trace consists of: one class for each kind of event.

Rules:

1. `id` counts up from 1 in the order in which things happened (some numbers are no event's); `cause` is the id of the
   event that this one is an effect of, 0 where hv knows none. A chain runs from a hypercall over the event it sends and
   the upcall to the iret that ends its handler, from one domain to another.
2. Attributes are what the guest and the hypervisor exchanged, as numbers; names for them are up to hv.trace.decoders.
   They are also the names that a filter knows (hv/trace/filter.py).
3. A hypercall is one event with its result: it comes before the effects it had, though they were over before it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hv.abi import errno
from hv.abi.hypercalls import BY_NUMBER
from hv.trace.records import Piece

TICKS_PER_NS = 4


@dataclass(slots=True)
class Event:
    """What all have. `vcpu` is None where no virtual CPU is meant."""

    kind: ClassVar[str] = "event"
    id: int
    cause: int
    ticks: int
    domain: int
    vcpu: int | None

    @property
    def ns(self) -> int:
        """Virtual time (with the host's clock: the host's) since the machine was made."""
        return self.ticks // TICKS_PER_NS


@dataclass(slots=True)
class Hypercall(Event):
    """A hypercall, from the instruction to its result.

    `memory` is what its arguments pointed at when it began, `written` what Xen wrote there. `result` is None for one
    that is made `again` for the rest of its work, and for one that was under way when the trace ended.
    """

    kind: ClassVar[str] = "hypercall"
    number: int
    registers: tuple[int, ...]
    inside: bool  # an element of a multicall
    memory: tuple[Piece, ...]
    result: int | None = None
    again: bool = False
    written: tuple[Piece, ...] = ()
    duration: int = 0  # ticks

    @property
    def name(self) -> str:
        row = BY_NUMBER.get(self.number)
        return row.name if row else f"hypercall_{self.number:#x}"

    @property
    def op(self) -> str | None:
        """The sub-operation's name; its number in decimal where there is none of that number."""
        row = BY_NUMBER.get(self.number)
        number = row.operation_number(self.registers) if row else None
        if row is None or number is None:
            return None
        return next((o.name for o in row.operations if o.number == number), str(number))

    @property
    def error(self) -> str | None:
        """The errno's name without XEN_, where the result is one."""
        if self.result is None or -self.result not in errno.ERRNOS:
            return None
        return errno.name(self.result)


@dataclass(slots=True)
class PortEvent(Event):
    """An event channel's event happens. `vcpu` is whom the port notifies.

    `detail` is the number of a VIRQ or PIRQ, or the domain that sent it from its `remote_port`: `state` (EVTCHNSTAT_*)
    tells which. `merged`: the port was pending already. `masked`: it was masked, so that nobody is told now.
    """

    kind: ClassVar[str] = "event"
    port: int
    state: int
    detail: int
    remote_port: int
    merged: bool
    masked: bool


@dataclass(slots=True)
class Entry(Event):
    """The guest's kernel is entered at `handler` (0: it has none); `rip` is where it or its user mode was."""

    rip: int
    handler: int


@dataclass(slots=True)
class Upcall(Entry):
    """The guest's event callback is entered. `latency` is the time since the event that asked for it, in ticks."""

    kind: ClassVar[str] = "upcall"
    latency: int
    kernel_mode: bool


@dataclass(slots=True)
class GuestException(Entry):
    """An exception goes to the guest's handler. `software`: by `int n`."""

    kind: ClassVar[str] = "exception"
    vector: int
    error_code: int
    address: int  # of a page fault
    software: bool
    kernel_mode: bool


@dataclass(slots=True)
class SystemCall(Entry):
    """`syscall` in guest user mode goes to the guest's kernel (handler 0: to its #UD)."""

    kind: ClassVar[str] = "syscall"


@dataclass(slots=True)
class Failsafe(Entry):
    """A data segment can not be loaded: the guest's failsafe callback is entered."""

    kind: ClassVar[str] = "failsafe"


@dataclass(slots=True)
class Iret(Event):
    """The hypercall iret. Its cause is the entry whose handler it ends, where the stack pointer shows that."""

    kind: ClassVar[str] = "iret"
    rip: int
    rsp: int
    kernel_mode: bool  # goes back to guest kernel mode


@dataclass(slots=True)
class TimerFired(Event):
    """A timer is due. `timer` is one of TIMERS; its cause is the call that armed it."""

    kind: ClassVar[str] = "timer"
    timer: str
    deadline: int  # ticks


@dataclass(slots=True)
class Runstate(Event):
    """A virtual CPU changes between RUNSTATES: it gets the CPU or loses it, sleeps, is woken."""

    kind: ClassVar[str] = "runstate"
    old: str
    new: str


@dataclass(slots=True)
class PageTable(Event):
    """An entry of a page table in use changes. `address` is the first one that it maps; None where it is not linked."""

    kind: ClassVar[str] = "page_table"
    slot: int  # machine address of the entry
    level: int  # 1 to 4
    old: int
    new: int
    address: int | None


@dataclass(slots=True)
class GrantUse(Event):
    """The domain maps a grant of another one, or ends a mapping (of the host, of devices, or both, as `flags` say)."""

    kind: ClassVar[str] = "grant"
    ended: bool
    granter: int  # domid
    reference: int
    mfn: int
    flags: int  # GNTMAP_*
    address: int  # host_addr of the operation: virtual, or with GNTMAP_contains_pte the entry's; 0 for none
    handle: int


@dataclass(slots=True)
class Crash(Event):
    """hv ends the domain because of something it did."""

    kind: ClassVar[str] = "crash"
    reason: str


@dataclass(slots=True)
class Shutdown(Event):
    """The domain stops, for one of Xen's SHUTDOWN_* codes."""

    kind: ClassVar[str] = "shutdown"
    code: int


@dataclass(slots=True)
class Destroyed(Event):
    """Its memory is given back."""

    kind: ClassVar[str] = "destroyed"


@dataclass(slots=True)
class Note(Event):
    """Something of the host side: `source` (console, xenstore, domain, …) did `what` with `data`."""

    kind: ClassVar[str] = "note"
    source: str
    what: str
    data: bytes


TIMERS = ("singleshot", "periodic", "poll", "watchdog")
RUNSTATES = ("running", "runnable", "blocked", "offline")
KINDS: dict[str, type[Event]] = {
    c.kind: c
    for c in (
        Hypercall, PortEvent, Upcall, GuestException, SystemCall, Failsafe, Iret, TimerFired, Runstate, PageTable,
        GrantUse, Crash, Shutdown, Destroyed, Note,
    )
}  # fmt: skip
