"""Breakpoints of a machine: for its Python users and for `hv step`. The guests can not see them.

Rules:

1. The engine notes what hits a row of its table and comes back at the next instruction boundary; whether the machine
   stops there is decided here, by vCPU, condition and callback. Nothing is asked while a domain has no breakpoint.
2. A breakpoint without a callback stops the machine. One with a callback stops it where the callback returns True.
3. All that was hit at one moment is looked at, in its order; the first that stops is the reason.
4. A domain that boots again has the same breakpoints.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hv.abi import vectors
from hv.abi.event_channel import EVTCHN_FIFO_NR_CHANNELS
from hv.abi.hypercalls import BY_NAME
from hv.abi.rows import Hypercall
from hv.engine.machine import POINTS
from hv.errors import ConditionError, ConfigError
from hv.machine.stops import (
    AccessHit,
    AddressHit,
    CallHit,
    EventHit,
    ExceptionHit,
    Hit,
    HostHit,
    HypercallHit,
    ReturnHit,
    Stepped,
    Stop,
    UpcallHit,
)
from hv.machine.store_breakpoints import StoreBreakpoints
from hv.trace import words

if TYPE_CHECKING:
    from hv.machine.domain import Domain
    from hv.machine.machine import Machine

Condition = Callable[[Hit], bool]
Callback = Callable[[Hit], Any]
LAST_ADDRESS = (1 << 64) - 1
LAST_PORT = EVTCHN_FIFO_NR_CHANNELS - 1
LONGEST_WATCH = 1 << 20
ACCESSES = {"write": ("write",), "read": ("read",), "access": ("read", "write")}


@dataclass(slots=True, eq=False)
class Breakpoint:
    """One breakpoint. Its fields may be changed while the machine stands still; then call `Breakpoints.changed`."""

    number: int
    kinds: tuple[str, ...]  # of POINTS; empty: hv's own side hits it
    first: int
    last: int
    domain: Domain | None  # None: every domain
    vcpu: int | None
    condition: Condition | None
    callback: Callback | None
    once: bool
    text: str  # what it is, in words
    enabled: bool = True
    hits: int = 0
    seen: bytes = b""  # watched memory at the last stop

    def row(self) -> tuple[int, int, int, int]:
        """The engine's row."""
        return self.number, sum(1 << POINTS.index(kind) for kind in self.kinds), self.first, self.last


class Breakpoints:
    """A machine's breakpoints, in the order in which they were made.

    Of each method, `domain` None means every domain, or the first where an address is named by a symbol. `condition` is
    a function of the hit or an expression (hv.machine.expression). `once`: it is deleted when it stops the machine.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._rows: dict[int, Breakpoint] = {}
        self._numbers = itertools.count(1)
        self._internal = itertools.count(1 << 31)  # a debugger's own, which nobody lists
        self._version = 0
        self._armed: dict[int, int] = {}  # domid -> version
        self._store = StoreBreakpoints(machine, self)
        self._noted: list[tuple[Breakpoint, Domain, str]] = []

    def __iter__(self) -> Iterator[Breakpoint]:
        return iter([row for row in self._rows.values() if row.number < 1 << 31])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, number: int) -> Breakpoint:
        if number not in self._rows:
            raise ConfigError(f"there is no breakpoint {number}")
        return self._rows[number]

    # --- making them

    def at(self, place: int | str, domain: Domain | None = None, **options: Any) -> Breakpoint:
        """Before the instruction at a virtual address, or at a symbol's."""
        address = self._address(place, domain)
        return self._add(("address",), address, address, domain, f"address {self._named(address, domain)}", **options)

    def hypercall(
        self,
        name: str,
        domain: Domain | None = None,
        *,
        after: bool = False,
        operation: str | None = None,
        **options: Any,
    ) -> Breakpoint:
        """Before a hypercall is made, or after it has its result; perhaps only with one of its sub-operations."""
        row = BY_NAME.get(name)
        if row is None:
            raise ConfigError(f"{name!r} is no hypercall: hv hypercalls lists them")
        found = [candidate for candidate in row.operations if candidate.name == operation]
        if operation is not None and not found:
            raise ConfigError(f"{name} has no operation {operation!r}: hv hypercalls lists them")
        text = f"hypercall {name}{f'.{operation}' if operation else ''}{' after' if after else ''}"
        made = self._add(("return" if after else "call",), row.number, row.number, domain, text, **options)
        if found:
            made.condition = _with_operation(made.condition, row, found[0].number)
        return made

    def event(self, port: int | None = None, domain: Domain | None = None, **options: Any) -> Breakpoint:
        """When a port, or any, becomes pending."""
        first, last = (1, LAST_PORT) if port is None else (port, port)
        if not 0 < first <= last <= LAST_PORT:
            raise ConfigError(f"there is no event channel {port}: choose 1 to {LAST_PORT}")
        text = f"event on {'any port' if port is None else f'port {port}'}"
        return self._add(("event",), first, last, domain, text, **options)

    def upcall(self, port: int | None = None, domain: Domain | None = None, **options: Any) -> Breakpoint:
        """When the guest's event callback is entered, perhaps only while a port is pending and not masked."""
        if port is not None and not 0 < port <= LAST_PORT:
            raise ConfigError(f"there is no event channel {port}: choose 1 to {LAST_PORT}")
        text = "upcall" + (f" with port {port} pending" if port else "")
        return self._add(("upcall",), port or 0, port or 0, domain, text, **options)

    def exception(self, vector: int | None = None, domain: Domain | None = None, **options: Any) -> Breakpoint:
        """When an exception of a vector, or any, or an `int n`, enters the guest."""
        first, last = (0, 255) if vector is None else (vector, vector)
        if not 0 <= first <= last <= 255:
            raise ConfigError(f"there is no vector {vector}: choose 0 to 255")
        text = "any exception" if vector is None else f"exception {vectors.name(vector)}"
        return self._add(("vector",), first, last, domain, text, **options)

    def watch(
        self, place: int | str, length: int = 8, access: str = "write", domain: Domain | None = None, **options: Any
    ) -> Breakpoint:
        """Behind an instruction that writes, reads ("read") or does either ("access") in a range of addresses."""
        address = self._address(place, domain)
        if access not in ACCESSES:
            raise ConfigError(f"{access!r} is no access: choose write, read or access")
        if not 0 < length <= LONGEST_WATCH or address + length - 1 > LAST_ADDRESS:
            raise ConfigError(f"{length} bytes cannot be watched there: choose 1 to {LONGEST_WATCH}")
        text = f"{access} of {length} bytes at {self._named(address, domain)}"
        made = self._add(ACCESSES[access], address, address + length - 1, domain, text, **options)
        made.seen = self._memory(made, self._of(domain), 0)
        return made

    def store(self, path: str, domain: Domain | None = None, **options: Any) -> Breakpoint:
        """When XenStore has served a request about a node or one below it, or a watch event names it.

        A relative path is below the domain's own directory.
        """
        if not path or " " in path:
            raise ConfigError(f"{path!r} is no path of XenStore: write it as /local/domain/1/data or data")
        made = self._add((), 0, 0, domain, f"xenstore {path}", **options)
        self._store.add(made, path)
        return made

    def host(self, text: str, domain: Domain | None = None, **options: Any) -> Breakpoint:
        """One that hv's own side hits by `note`."""
        return self._add((), 0, 0, domain, text, **options)

    def _add(
        self,
        kinds: tuple[str, ...],
        first: int,
        last: int,
        domain: Domain | None,
        text: str,
        *,
        vcpu: int | None = None,
        condition: Condition | str | None = None,
        callback: Callback | None = None,
        once: bool = False,
        internal: bool = False,
    ) -> Breakpoint:
        if isinstance(condition, str):
            from hv.machine.expression import condition as compiled

            text += f" if {condition}"
            condition = compiled(condition)
        number = next(self._internal if internal else self._numbers)
        made = Breakpoint(number, kinds, first, last, domain, vcpu, condition, callback, once, text)
        self._rows[number] = made
        self.changed()
        return made

    def _of(self, domain: Domain | None) -> Domain:
        if domain is None and not self._machine.domains:
            raise ConfigError("the machine has no domain yet: create one first")
        return domain or self._machine.domains[0]

    def _address(self, place: int | str, domain: Domain | None) -> int:
        if isinstance(place, int):
            address = place
        else:
            found = self._of(domain).symbols.address(place)
            if found is None:
                raise ConfigError(f"{self._of(domain).name} has no symbol {place!r}")
            address = found
        if not 0 <= address <= LAST_ADDRESS:
            raise ConfigError(f"{address:#x} is no address")
        return address

    def _named(self, address: int, domain: Domain | None) -> str:
        """An address, with its symbol where the machine has a domain already."""
        name = self._of(domain).symbols.name(address) if self._machine.domains else None
        return f"{address:#x}" + (f" <{name}>" if name else "")

    # --- changing them

    def delete(self, breakpoint: Breakpoint) -> None:
        self._rows.pop(breakpoint.number, None)
        self.changed()

    def clear(self) -> None:
        self._rows.clear()
        self.changed()

    def changed(self) -> None:
        """A field of one was changed."""
        self._store.keep(list(self._rows.values()))
        self._version += 1

    # --- the engine's side

    def arm(self) -> None:
        """Before a run: every live domain's table is that of now."""
        for domain in self._machine.domains:
            if domain.ended or self._armed.get(domain.domid, 0) == self._version:
                continue
            active = [b for b in self._rows.values() if b.enabled and b.kinds and b.domain in (None, domain)]
            domain.guest.set_points(b.row() for b in active)
            self._armed[domain.domid] = self._version

    def note(self, breakpoint: Breakpoint, domain: Domain, description: str) -> None:
        """hv's own side has done what a breakpoint of `host` is for: the machine stops at the next instruction."""
        self._noted.append((breakpoint, domain, description))
        self._machine.engine.stop_soon()

    def judge(self) -> Stop | None:
        """What the engine came back for: the reason to stop, or None to go on."""
        stop: Stop | None = None
        for hit in self._hits():
            wanted = self._decide(hit)
            if wanted is not None and stop is None:
                stop = wanted
        if stop is None and self._machine.engine.step_is_done:
            return self.stepped()
        return stop

    def stepped(self) -> Stop | None:
        running = self._machine.engine.running
        domain = self._find(running[0]) if running else None
        if running is None or domain is None:
            return None
        return Stepped(now_ns=self._machine.now_ns, domain=domain, vcpu=running[1])

    def _find(self, domid: int) -> Domain | None:
        return next((d for d in self._machine.domains if not d.ended and d.domid == domid), None)

    def _hits(self) -> Iterator[Hit]:
        for number, kind, domid, vcpu, values in self._machine.engine.take_hits():
            breakpoint, domain = self._rows.get(number), self._find(domid)
            if breakpoint is not None and domain is not None:
                yield MAKERS[kind](self, breakpoint, domain, vcpu, values)
        noted, self._noted = self._noted, []
        for breakpoint, domain, description in noted:
            if not domain.ended:
                yield HostHit(**self._place(breakpoint, domain, domain.guest.current_vcpu), description=description)

    def _decide(self, hit: Hit) -> Hit | None:
        """The hit, perhaps with a note, if it stops the machine."""
        breakpoint = hit.breakpoint
        if breakpoint.number not in self._rows or not breakpoint.enabled:
            return None
        if breakpoint.vcpu is not None and hit.vcpu != breakpoint.vcpu:
            return None
        try:
            if breakpoint.condition is not None and not breakpoint.condition(hit):
                return None
        except ConditionError as error:
            hit = replace(hit, note=f"the condition cannot be decided: {error}")
        breakpoint.hits += 1
        if breakpoint.callback is not None and breakpoint.callback(hit) is not True:
            return None
        if breakpoint.once:
            self.delete(breakpoint)
        return hit

    def _place(self, breakpoint: Breakpoint, domain: Domain, vcpu: int) -> dict[str, Any]:
        return {"now_ns": self._machine.now_ns, "domain": domain, "vcpu": vcpu, "breakpoint": breakpoint}

    def _memory(self, breakpoint: Breakpoint, domain: Domain, vcpu: int) -> bytes:
        return domain.guest.peek(breakpoint.first, min(8, breakpoint.last - breakpoint.first + 1), vcpu)

    def _access(
        self, breakpoint: Breakpoint, domain: Domain, vcpu: int, words: tuple[int, ...], write: bool
    ) -> AccessHit:
        old, breakpoint.seen = breakpoint.seen, self._memory(breakpoint, domain, vcpu)
        return AccessHit(
            **self._place(breakpoint, domain, vcpu),
            address=words[0],
            size=words[1],
            rip=words[2],
            write=write,
            old=old,
            new=breakpoint.seen,
        )


def _with_operation(condition: Condition | None, row: Hypercall, operation: int) -> Condition:
    def holds(hit: Hit) -> bool:
        assert isinstance(hit, HypercallHit)
        return row.operation_number(hit.args) == operation and (condition is None or condition(hit))

    return holds


def _target(domain: Domain, port: int) -> str:
    state, _, detail, remote_port, *_ = domain.guest.port(port)
    return words.source_of(state, detail, remote_port)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


Maker = Callable[[Breakpoints, Breakpoint, "Domain", int, tuple[int, ...]], Hit]
MAKERS: dict[str, Maker] = {  # kind of POINTS -> the hit, from the engine's words (hv/fastpath/points.pyx)
    "address": lambda own, b, d, v, w: AddressHit(**own._place(b, d, v), address=w[0]),
    "call": lambda own, b, d, v, w: CallHit(**own._place(b, d, v), number=w[0], element=w[1], args=w[2:]),
    "return": lambda own, b, d, v, w: ReturnHit(**own._place(b, d, v), number=w[0], result=_signed(w[1]), args=w[2:]),
    "event": lambda own, b, d, v, w: EventHit(**own._place(b, d, v), port=w[0], target=_target(d, w[0])),
    "upcall": lambda own, b, d, v, w: UpcallHit(**own._place(b, d, v), rip=w[4]),
    "vector": lambda own, b, d, v, w: ExceptionHit(
        **own._place(b, d, v), vector=w[0], error=w[1], address=w[2], software=bool(w[3]), rip=w[4]
    ),
    "read": lambda own, b, d, v, w: own._access(b, d, v, w, write=False),
    "write": lambda own, b, d, v, w: own._access(b, d, v, w, write=True),
}
