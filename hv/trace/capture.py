"""Which memory a hypercall's arguments point at, so that a trace can keep it.

Rules:

1. Everything follows from the rows of hv.abi.hypercalls; only pointers inside structures (`NESTED`) are told here.
2. `at_entry` is what Xen reads, `at_exit` what it writes.

The engine gets the same as a C table (`c_table`); what it copies there is bounded.
"""

from __future__ import annotations

import ctypes

from hv.abi import arch_x86_xen, event_channel, memory, physdev, sched, xen
from hv.abi.hypercalls import BY_NUMBER, HYPERCALLS
from hv.abi.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hv.abi.rows import Hypercall, Operation

ANY = 0xFF  # in the place of a sub-operation: whatever it is
MOST_OPERATIONS = 64
DESCRIPTORS_A_FRAME = 512


@record
class Nested:
    """A pointer inside a structure: to `count` elements."""

    pointer: str
    count: str
    element: Any = ctypes.c_uint64


@record
class Capture:
    """Memory that one register points at: `count_register` says how many elements (divided by `per`, rounded up)."""

    register: int
    layout: Any
    at_entry: bool
    at_exit: bool
    count_register: int | None = None
    per: int = 1
    fixed: int = 1  # elements where no register counts them
    last: str | None = None  # the field that is 0 in the last element
    nested: Nested | None = None


NESTED: dict[Any, Nested] = {
    sched.sched_poll: Nested("ports", "nr_ports", ctypes.c_uint32),
    memory.xen_memory_reservation: Nested("extent_start", "nr_extents"),
}
STRUCTURES: dict[str, Any] = {
    layout.__name__: layout
    for layout in (
        arch_x86_xen.trap_info,
        event_channel.evtchn_op,
        physdev.physdev_op,
        xen.mmu_update,
        xen.mmuext_op,
    )
}
FILLED = ("XENMEM_populate_physmap", "XENMEM_increase_reservation")  # what their structure leads to is written
IN_OUT = ("evtchn_op", "physdev_op")


def _of_operation(row: Hypercall, operation: Operation) -> tuple[Capture, ...]:
    found = []
    for i, argument in enumerate(row.arguments):
        reads = operation.direction in ("in", "inout")
        writes = operation.direction in ("out", "inout") or operation.name in FILLED
        if argument.kind == "arg" and operation.argument is not None:
            count = row.register("count") if operation.count else None
            found.append(
                Capture(i, operation.argument, reads, writes, count, nested=NESTED.get(operation.argument))
            )
        elif argument.kind == "buf" and row.register("count") is not None:
            found.append(Capture(i, ctypes.c_char, reads, writes, row.register("count")))
    return tuple(found)


def _of_call(row: Hypercall) -> tuple[Capture, ...]:
    """What does not depend on a sub-operation."""
    found = []
    for i, argument in enumerate(row.arguments):
        layout = STRUCTURES.get(argument.kind.removeprefix("ptr:"))
        if layout is arch_x86_xen.trap_info:
            found.append(Capture(i, layout, True, False, fixed=256, last="address"))
        elif layout is not None:
            found.append(Capture(i, layout, True, layout.__name__ in IN_OUT, row.register("count")))
        elif argument.kind == "u64s":
            found.append(Capture(i, ctypes.c_uint64, True, False, row.register("count"), per=DESCRIPTORS_A_FRAME))
        elif argument.kind == "u32":
            found.append(Capture(i, ctypes.c_uint32, False, True))
    return tuple(found)


CAPTURES: dict[tuple[int, int], tuple[Capture, ...]] = {
    (row.number, operation.number): _of_operation(row, operation)
    for row in HYPERCALLS
    for operation in row.operations
    if row.register("op") is not None and operation.number < MOST_OPERATIONS
} | {(row.number, ANY): _of_call(row) for row in HYPERCALLS}
CAPTURES = {key: captures for key, captures in CAPTURES.items() if captures}


def of_call(number: int, registers: tuple[int, ...]) -> tuple[Capture, ...]:
    """What of a call is captured, in the engine's order."""
    row = BY_NUMBER.get(number)
    if row is None:
        return ()
    operation = row.operation_number(registers)
    return CAPTURES.get((number, operation if operation is not None else ANY), ()) + (
        CAPTURES.get((number, ANY), ()) if operation is not None else ()
    )


def _c_row(number: int, operation: int, c: Capture) -> str:
    size = ctypes.sizeof(c.layout)
    nested = (0, 0, 0, 0)
    if c.nested:
        pointer, count = getattr(c.layout, c.nested.pointer), getattr(c.layout, c.nested.count)
        nested = (pointer.offset, count.offset, count.size, ctypes.sizeof(c.nested.element))
    count_register = -1 if c.count_register is None else c.count_register
    values = (c.register, int(c.at_entry), int(c.at_exit), count_register, c.per, c.fixed, size, *nested)
    return f"    add_capture({number}, {operation}, {', '.join(map(str, values))})"


def c_table() -> str:
    """Cython that fills the engine's table."""
    lines = ["cdef void fill_capture_table() noexcept:"]
    for row in HYPERCALLS:
        at = row.register("op")
        if at is not None:
            lines.append(f"    name_operation({row.number}, {at}, {row.command_bits})")
    lines += [_c_row(number, operation, c) for (number, operation), found in CAPTURES.items() for c in found]
    return "\n".join(lines) + "\n"

