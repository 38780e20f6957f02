"""Operations as data: what a hypercall is called, what it takes, and which way its data goes.

Rules:

1. A row only describes; handlers bind to rows elsewhere, by name.
2. An argument is one register, in the order rdi, rsi, rdx, r10, r8, r9.
3. `Argument.kind` is one of `KINDS`, or `ptr:<struct>` with a structure of this package.
"""

from __future__ import annotations

from hv.abi.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterable, Sequence
    from typing import Any, Literal, TypeVar

    Direction = Literal["in", "out", "inout", "none"]
    # A few operations hand over a bare character array instead of a structure.
    Layout = type[ctypes.Structure | ctypes.Array[Any]]
    Row = TypeVar("Row", "Operation", "Hypercall")

KINDS: dict[str, str] = {
    "int": "a signed number",
    "uint": "an unsigned number",
    "flags": "an unsigned number best read in hexadecimal",
    "op": "the number of a sub-operation, named by the hypercall's operations",
    "arg": "guest address of the sub-operation's argument (of `count` of them if it counts)",
    "count": "how many elements the pointer before or after it has",
    "va": "a guest virtual address",
    "maddr": "a machine address",
    "pte": "a page-table entry",
    "descriptor": "a segment descriptor",
    "selector": "a segment selector",
    "vcpu": "the number of a virtual CPU",
    "domid": "a domain, or one of DOMID_*",
    "time": "system time in nanoseconds",
    "buf": "guest address of bytes",
    "u32": "guest address of a 32-bit number",
    "u64s": "guest address of an array of 64-bit numbers",
}


@record
class Argument:
    """One register of a hypercall."""

    name: str
    kind: str


@record
class Operation:
    """A sub-operation; `count` says that its argument is an array with its length beside it.

    `domu` is the errno that a domU gets whatever it asks for, as in `Hypercall`.
    """

    number: int
    name: str
    argument: Layout | None
    direction: Direction
    count: bool = False
    domu: str | None = None


@record
class Hypercall:
    """A hypercall.

    `hot` names the C handler of one that is served without Python, `hot_operations` the sub-operations
    it answers where it leaves the others to Python. `domu` is the errno that an unprivileged domain
    gets from Xen 4.17 (Debian's configuration) on a well-formed call, where that is always a refusal.
    `command_bits` are those of the first register that name the sub-operation; the others belong to
    continuations.
    """

    number: int
    name: str
    arguments: tuple[Argument, ...]
    operations: tuple[Operation, ...] = ()
    hot: str | None = None
    hot_operations: tuple[str, ...] = ()
    domu: str | None = None
    command_bits: int = 0xFFFFFFFF

    def register(self, kind: str) -> int | None:
        """The first register whose argument is of this kind."""
        return next((i for i, argument in enumerate(self.arguments) if argument.kind == kind), None)

    def operation_number(self, registers: Sequence[int]) -> int | None:
        """The sub-operation that a call's registers name; None for a hypercall without any."""
        at = self.register("op")
        return None if at is None else registers[at] & self.command_bits

    def operation(self, key: int | str) -> Operation:
        """The sub-operation of this number or name; KeyError if there is none."""
        return find(self.operations, key)


def by_number(rows: Iterable[Row]) -> dict[int, Row]:
    """Index rows by number."""
    return {row.number: row for row in rows}


def by_name(rows: Iterable[Row]) -> dict[str, Row]:
    """Index rows by name."""
    return {row.name: row for row in rows}


def find(rows: Iterable[Row], key: int | str) -> Row:
    """The row of this number or name; KeyError if there is none."""
    for row in rows:
        if key in (row.number, row.name):
            return row
    raise KeyError(key)
