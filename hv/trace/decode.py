"""Hypercalls and entries into the guest as text.

Rules:

1. Names, kinds and sub-operations come from the rows of hv.abi.hypercalls, never from here.
2. A number without a row, a sub-operation that does not exist, a result outside Xen's set: each is shown as it is.
3. `KINDS` has one formatter for each kind of argument; what has none is an address or bits, in hexadecimal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hv.abi import errno, event_channel, vectors, xen
from hv.abi.hypercalls import BY_NUMBER
from hv.abi.rows import Argument, Hypercall

WORD = (1 << 64) - 1
LAST_ERRNO = 4095
DOMIDS = {
    getattr(xen, name): name
    for name in ("DOMID_SELF", "DOMID_IO", "DOMID_XEN", "DOMID_COW", "DOMID_INVALID", "DOMID_IDLE")
}
VIRQS = {value: name for name, value in vars(xen).items() if name.startswith("VIRQ_")}
PORTS: dict[int, Callable[[int, int], str]] = {  # EVTCHNSTAT_*: of (VIRQ, PIRQ or remote domid; remote port)
    event_channel.EVTCHNSTAT_closed: lambda detail, remote: "not bound",
    event_channel.EVTCHNSTAT_unbound: lambda detail, remote: f"waits for domain {detail}",
    event_channel.EVTCHNSTAT_interdomain: lambda detail, remote: f"from port {remote} of domain {detail}",
    event_channel.EVTCHNSTAT_pirq: lambda detail, remote: f"physical interrupt {detail}",
    event_channel.EVTCHNSTAT_virq: lambda detail, remote: VIRQS.get(detail, f"VIRQ {detail}"),
    event_channel.EVTCHNSTAT_ipi: lambda detail, remote: "between vCPUs",
}


def _signed(value: int) -> str:
    """An int of C: the register's lower half."""
    return str((value & 0xFFFFFFFF ^ 0x80000000) - 0x80000000)


def _unsigned(value: int) -> str:
    return str(value & 0xFFFFFFFF)


def _domid(value: int) -> str:
    return DOMIDS.get(value & 0xFFFFFFFF, _unsigned(value))


def _time(value: int) -> str:
    return f"{value} ns"


KINDS: dict[str, Callable[[int], str]] = {
    "int": _signed,
    "uint": _unsigned,
    "count": _unsigned,
    "vcpu": _unsigned,
    "port": _unsigned,
    "domid": _domid,
    "time": _time,
}


def number_text(value: int) -> str:
    """Small numbers in decimal, others in hexadecimal."""
    return str(value) if value < 10 else f"{value:#x}"


def argument_text(row: Hypercall, argument: Argument, value: int) -> str:
    """One register of a call: `SCHEDOP_yield`, `0xffffffff80003000`, `DOMID_SELF`."""
    if argument.kind == "op":
        try:
            return row.operation(value & 0xFFFFFFFF).name
        except KeyError:
            return _signed(value)
    if argument.kind in KINDS:
        return KINDS[argument.kind](value)
    return number_text(value)


def call_text(number: int, registers: Sequence[int]) -> str:
    """`sched_op(cmd=SCHEDOP_yield, arg=0)`; arguments beyond the registers given are an ellipsis."""
    row = BY_NUMBER.get(number)
    if row is None:
        return f"hypercall {number_text(number)} (Xen has none)({', '.join(number_text(value) for value in registers)})"
    shown = zip(row.arguments, registers, strict=False)
    words = [f"{argument.name}={argument_text(row, argument, value)}" for argument, value in shown]
    if len(row.arguments) > len(registers):
        words.append("…")
    return f"{row.name}({', '.join(words)})"


def result_text(result: int | None) -> str:
    """`-EINVAL`, a number, or that the call goes on."""
    if result is None:
        return "made again for the rest"
    if -LAST_ERRNO <= result < 0:
        return f"-{errno.name(result)}" if -result in errno.ERRNOS else str(result)
    return number_text(result & WORD)


def entry_text(vector: int | None, error: int, address: int, software: bool) -> str:
    """`page fault #PF error 0x2 at 0xdead0000`, `int 0x80`, `event upcall`."""
    if vector is None:
        return "event upcall"
    if software:
        return f"int {vector:#x}"
    text = vectors.name(vector)
    if vectors.has_error_code(vector):
        text += f" error {error:#x}"
    return f"{text} at {address:#x}" if vector == 14 else text


def port_text(state: int, detail: int, remote_port: int) -> str:
    """What an event channel is bound to: `VIRQ_TIMER`, `from port 3 of domain 0`."""
    return PORTS[state](detail, remote_port)
