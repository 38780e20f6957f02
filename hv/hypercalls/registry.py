"""How a hypercall finds its Python handler.

Rules:

1. A row of hv.abi.hypercalls says what there is; a handler binds to a row (`hypercall`) or to a sub-operation of it
   (`operation`). What no handler is bound to is answered as Xen answers a domU, or -ENOSYS where hv has nothing yet.
2. The prologue is shared: the argument structure is read before a handler and written back behind it as its row's
   direction says; an address that the guest may not use is -EFAULT.
3. A handler returns Xen's result; it raises only for errors in hv.
"""

from __future__ import annotations

import ctypes
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hv.abi import errno
from hv.abi.errno import XEN_EFAULT, XEN_ENOSYS
from hv.abi.hypercalls import BY_NAME, BY_NUMBER, HYPERCALLS
from hv.abi.rows import Hypercall, Operation
from hv.engine.machine import GuestFault

if TYPE_CHECKING:
    from hv.core.event_channel import EventChannels
    from hv.core.grant_table import GrantTable
    from hv.core.pirq import Pirqs
    from hv.engine.machine import Engine, GuestDomain

Handler = Callable[..., int]
Structure = TypeVar("Structure", bound=ctypes.Structure)


class HypercallDomain(Protocol):
    """What handlers may ask of the domain that calls."""

    guest: GuestDomain
    events: EventChannels
    grants: GrantTable
    pirqs: Pirqs
    handle: bytes
    e820: bytes  # as XENMEM_set_memory_map has set it

    @property
    def engine(self) -> Engine: ...
    def hypervisor_log(self, text: bytes) -> None: ...
    def about(self, domid: int) -> int:
        """0 where a domid means the caller; -EPERM for another domain that exists, -ESRCH for none."""


@dataclass(slots=True)
class Call:
    """One hypercall being served."""

    domain: HypercallDomain
    vcpu: int
    registers: tuple[int, ...] = ()  # all of the call's, for handlers that need more than their argument

    @property
    def guest(self) -> GuestDomain:
        return self.domain.guest

    def read_bytes(self, address: int, size: int) -> bytes:
        return self.guest.read(address, size, self.vcpu)

    def write_bytes(self, address: int, data: bytes) -> None:
        self.guest.write(address, data, self.vcpu)

    def read(self, address: int, layout: type[Structure]) -> Structure:
        return layout.from_buffer_copy(self.read_bytes(address, ctypes.sizeof(layout)))

    def write(self, address: int, value: ctypes.Structure) -> None:
        self.write_bytes(address, bytes(value))

    def read_u64s(self, address: int, count: int) -> list[int]:
        return memoryview(self.read_bytes(address, 8 * count)).cast("Q").tolist()


_handlers: dict[int, Handler] = {}
_operations: dict[tuple[int, int], Handler] = {}
_prologues: dict[int, Handler] = {}
_raw: set[tuple[int, int]] = set()


def hypercall(name: str) -> Callable[[Handler], Handler]:
    """Bind a function `(call, *registers)` to a hypercall without sub-operations."""

    def bind(handler: Handler) -> Handler:
        _handlers[BY_NAME[name].number] = handler
        return handler

    return bind


def operation(name: str, key: str, *, raw: bool = False) -> Callable[[Handler], Handler]:
    """Bind a function `(call, argument structure)` to a sub-operation.

    A raw handler gets the registers behind the sub-operation's number instead, and reads and writes memory itself:
    for operations whose errors do not follow the shared prologue.
    """

    def bind(handler: Handler) -> Handler:
        row = BY_NAME[name]
        number = row.operation(key).number
        _operations[row.number, number] = handler
        if raw:
            _raw.add((row.number, number))
        return handler

    return bind


def prologue(name: str) -> Callable[[Handler], Handler]:
    """Bind a check `(call, *registers)` that comes before every sub-operation; other than 0 it is the result."""

    def bind(handler: Handler) -> Handler:
        _prologues[BY_NAME[name].number] = handler
        return handler

    return bind


def load() -> None:
    """Import every file of this package, which binds the handlers."""
    for module in pkgutil.iter_modules(importlib.import_module("hv.hypercalls").__path__):
        importlib.import_module(f"hv.hypercalls.{module.name}")


# --- serving ------------------------------------------------------------------------------------------------------


def _one(call: Call, row: Operation, handler: Handler, address: int) -> int:
    """A sub-operation with an argument structure at `address`."""
    layout: Any = row.argument
    if row.direction == "out":
        argument = layout()
    else:
        argument = layout.from_buffer_copy(call.read_bytes(address, ctypes.sizeof(layout)))
    result = handler(call, argument)
    if row.direction in ("out", "inout") and result >= 0:
        call.write_bytes(address, bytes(argument))
    return result


def _many(call: Call, row: Operation, handler: Handler, address: int, count: int) -> int:
    """An operation over an array: each element is read, served and written back, errors stand in the elements."""
    assert row.argument is not None
    for i in range(count):
        result = _one(call, row, handler, address + i * ctypes.sizeof(row.argument))
        if result < 0:
            return result
    return 0


def _refused(row: Hypercall | Operation) -> int:
    """What Xen says to a domU; -ENOSYS where hv has nothing yet."""
    return -int(getattr(errno, f"XEN_{row.domu}")) if row.domu else -XEN_ENOSYS


class Table:
    """The bound handlers, as one function that serves a call."""

    def __init__(self) -> None:
        load()

    def serve(self, domain: HypercallDomain, vcpu: int, number: int, *registers: int) -> int:
        """The result of a hypercall, as the guest finds it in rax."""
        row = BY_NUMBER.get(number)
        if row is None:
            return -XEN_ENOSYS
        call = Call(domain, vcpu, registers)
        try:
            return self._serve(call, row, registers)
        except GuestFault:
            return -XEN_EFAULT

    def _serve(self, call: Call, row: Hypercall, registers: tuple[int, ...]) -> int:
        handler = _handlers.get(row.number)
        if handler is not None:
            return handler(call, *registers[: len(row.arguments)])
        if row.domu is not None:
            return _refused(row)
        number, at = row.operation_number(registers), row.register("op")
        if number is None or at is None:
            return -XEN_ENOSYS
        check = _prologues.get(row.number)
        refusal = check(call, *registers[: len(row.arguments)]) if check else 0
        if refusal:
            return refusal
        sub = next((each for each in row.operations if each.number == number), None)
        if sub is None:
            return -XEN_ENOSYS
        bound = _operations.get((row.number, number))
        if bound is None:
            return _refused(sub)
        arg, count = row.register("arg"), row.register("count")
        if sub.argument is None or arg is None or (row.number, number) in _raw:
            return bound(call, *registers[at + 1 : len(row.arguments)])
        if sub.count and count is not None:
            return _many(call, sub, bound, registers[arg], registers[count] & 0xFFFFFFFF)
        return _one(call, sub, bound, registers[arg])


@dataclass(frozen=True, slots=True)
class State:
    """One line of `hv hypercalls`."""

    number: int
    name: str
    operation: str
    state: str


def _state(row: Hypercall, sub: Operation | None) -> str:
    if row.hot and (not row.hot_operations or (sub and sub.name in row.hot_operations)):
        return "served (C)"
    if row.number in _handlers or (sub and (row.number, sub.number) in _operations):
        return "served"
    domu = (sub or row).domu
    return f"refused: -{domu}, as Xen to a domU" if domu else "not yet"


def states() -> list[State]:
    """Every hypercall and sub-operation with what hv does about it."""
    load()
    lines = []
    for row in HYPERCALLS:
        if not row.operations:
            lines.append(State(row.number, row.name, "", _state(row, None)))
        lines += [State(row.number, row.name, sub.name, _state(row, sub)) for sub in row.operations]
    return lines
