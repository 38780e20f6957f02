"""Hypercalls and entries into the guest as text.

Rules:

1. Names, kinds and sub-operations come from the rows of hv.abi.hypercalls, never from here.
2. A number without a row, a sub-operation that does not exist, a result outside Xen's set: each is shown as it is.
3. `KINDS` has one formatter for each kind of argument; what has none is an address or bits, in hexadecimal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hv.abi import vectors
from hv.abi.hypercalls import BY_NUMBER
from hv.abi.rows import Argument, Hypercall
from hv.trace import words


def _signed(value: int) -> str:
    """An int of C: the register's lower half."""
    return str((value & 0xFFFFFFFF ^ 0x80000000) - 0x80000000)


def _unsigned(value: int) -> str:
    return str(value & 0xFFFFFFFF)


def _time(value: int) -> str:
    return f"{value} ns"


KINDS: dict[str, Callable[[int], str]] = {
    "int": _signed,
    "uint": _unsigned,
    "count": _unsigned,
    "vcpu": _unsigned,
    "domid": words.domid,
    "time": _time,
    "pte": words.pte,
}


def argument_text(row: Hypercall, argument: Argument, value: int) -> str:
    """One register of a call: `SCHEDOP_yield`, `0xffffffff80003000`, `DOMID_SELF`."""
    if argument.kind == "op":
        try:
            return row.operation(value & row.command_bits).name
        except KeyError:
            return _signed(value)
    if argument.kind in KINDS:
        return KINDS[argument.kind](value)
    return words.number(value)


def call_text(number: int, registers: Sequence[int], pointed_at: Mapping[int, str] | None = None) -> str:
    """`sched_op(cmd=SCHEDOP_yield, arg=0)`; arguments beyond the registers given are an ellipsis.

    `pointed_at` has texts to show in the place of pointers, by register.
    """
    row = BY_NUMBER.get(number)
    if row is None:
        numbers = ", ".join(words.number(value) for value in registers)
        return f"hypercall {words.number(number)} (Xen has none)({numbers})"
    shown = []
    for i, (argument, value) in enumerate(zip(row.arguments, registers, strict=False)):
        text = (pointed_at or {}).get(i)
        shown.append(f"{argument.name}={argument_text(row, argument, value) if text is None else text}")
    if len(row.arguments) > len(registers):
        shown.append("…")
    return f"{row.name}({', '.join(shown)})"


def exception_name(vector: int, software: bool) -> str:
    """`page fault #PF`, `int 0x80`."""
    return f"int {vector:#x}" if software else vectors.name(vector)


def entry_text(vector: int | None, error: int, address: int, software: bool) -> str:
    """`page fault #PF error 0x2 at 0xdead0000`, `int 0x80`, `event upcall`."""
    if vector is None:
        return "event upcall"
    text = exception_name(vector, software)
    if software:
        return text
    if vectors.has_error_code(vector):
        text += f" error {error:#x}"
    return f"{text} at {address:#x}" if vector == 14 else text
