"""Single numbers as text: what they are called, or decimal where small and hexadecimal where large."""

from __future__ import annotations

from hv.abi import errno, event_channel, xen

WORD = (1 << 64) - 1
LAST_ERRNO = 4095
DOMIDS = {
    getattr(xen, name): name
    for name in ("DOMID_SELF", "DOMID_IO", "DOMID_XEN", "DOMID_COW", "DOMID_INVALID", "DOMID_IDLE")
}
VIRQS = {value: name for name, value in vars(xen).items() if name.startswith("VIRQ_")}
PTE_BITS = (
    (1 << 0, "P"), (1 << 1, "RW"), (1 << 2, "U"), (1 << 3, "PWT"), (1 << 4, "PCD"), (1 << 5, "A"), (1 << 6, "D"),
    (1 << 7, "PSE"), (1 << 8, "G"), (1 << 63, "NX"),
)  # fmt: skip
PTE_FRAME = 0x000F_FFFF_FFFF_F000


def number(value: int) -> str:
    """Numbers below 10 in decimal, others in hexadecimal."""
    return str(value) if -10 < value < 10 else f"{value:#x}"


def domid(value: int) -> str:
    value &= 0xFFFFFFFF
    return DOMIDS.get(value, str(value))


def virq(value: int) -> str:
    return VIRQS.get(value, f"VIRQ {value}")


def result(value: int | None) -> str:
    """`-EINVAL`, a number, or that the call goes on."""
    if value is None:
        return "made again for the rest"
    if -LAST_ERRNO <= value < 0:
        return f"-{errno.name(value)}" if -value in errno.ERRNOS else str(value)
    return number(value & WORD)


def pte(value: int) -> str:
    """`mfn 0x43d6 P|RW|U|A`, `0` for an empty entry, hexadecimal for one that is not present."""
    if not value & 1:
        return f"{value:#x}" if value else "0"
    return f"mfn {(value & PTE_FRAME) >> 12:#x} " + "|".join(name for bit, name in PTE_BITS if value & bit)


def source_of(state: int, detail: int, remote_port: int) -> str:
    """What an event channel is bound to: `VIRQ_TIMER`, `from port 3 of domain 0`."""
    return {
        event_channel.EVTCHNSTAT_closed: "not bound",
        event_channel.EVTCHNSTAT_unbound: f"waits for domain {detail}",
        event_channel.EVTCHNSTAT_interdomain: f"from port {remote_port} of domain {detail}",
        event_channel.EVTCHNSTAT_pirq: f"physical interrupt {detail}",
        event_channel.EVTCHNSTAT_virq: virq(detail),
        event_channel.EVTCHNSTAT_ipi: "between vCPUs",
    }.get(state, f"in state {state}")
