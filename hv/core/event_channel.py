"""Event channels: port states and the rules of who may bind, notify and close.

Rules:

1. Port 0 is reserved; a port is closed, unbound, interdomain, PIRQ, VIRQ or IPI, and only bound ports deliver.
2. An unbound port waits for one named domain; binding it connects both ends, closing one end leaves the other unbound.
3. A VIRQ is bound at most once a vCPU; a global VIRQ only on vCPU 0. A PIRQ is bound once, if it was granted.
4. Ports that hv itself made (console, store) are closed like any other: the guest only hurts itself.

The states live in the engine's C structures, seen through `Ports`; how events travel there is hv/fastpath/evtchn.pyx.
Results are port numbers or negative errnos, checked in Xen's order. Iterating over an `EventChannels` gives a `Row` for
each port in use; after the domain's end, those that it had then.
Specification: event_channel.h; behaviour of Xen 4.17's common/event_channel.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from hv.abi import event_channel as abi
from hv.abi import xen
from hv.abi.errno import XEN_EBUSY, XEN_EEXIST, XEN_EINVAL, XEN_ENOENT, XEN_EPERM, XEN_ESRCH
from hv.core.pirq import Pirqs

NR_VIRQS = xen.NR_VIRQS
LOCAL_VIRQS = frozenset({xen.VIRQ_TIMER, xen.VIRQ_DEBUG, xen.VIRQ_XENOPROF, xen.VIRQ_XENPMU})  # one for each vCPU
STATES = ("closed", "unbound", "interdomain", "pirq", "virq", "ipi")  # by EVTCHNSTAT_*
VIRQ_NAMES = {getattr(xen, name): name for name in dir(xen) if name.startswith("VIRQ_")}


class Ports(Protocol):
    """A domain's port table in the engine (hv.engine.machine.GuestDomain)."""

    @property
    def domid(self) -> int: ...
    @property
    def nr_ports(self) -> int: ...
    @property
    def nr_vcpus(self) -> int: ...
    def port(self, port: int) -> tuple[int, int, int, int, bool, int]: ...
    def port_events(self, port: int) -> tuple[bool, bool, int | None, int, int]: ...
    def free_port(self) -> int: ...
    def close_port(self, port: int) -> None: ...
    def set_port(
        self,
        port: int,
        state: int,
        vcpu: int = 0,
        detail: int = 0,
        remote_port: int = 0,
        remote: Any = None,
        reserved: bool = False,
    ) -> None: ...
    def set_virq_port(self, vcpu: int, virq: int, port: int) -> None: ...
    def virq_port(self, vcpu: int, virq: int) -> int: ...
    def vcpu_state(self, vcpu: int) -> str: ...
    def upcall_state(self, vcpu: int) -> tuple[int, int, int]: ...
    def raise_port(self, port: int) -> None: ...
    def leave_fifo(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One port in use, as it was when asked."""

    port: int
    state: str  # one of STATES
    target: str  # what it is bound to, in words
    vcpu: int  # whom it notifies
    vcpu_state: str
    pending: bool
    masked: bool
    priority: int | None  # None with the 2-level ABI
    sent: int  # events that made it pending
    merged: int  # events that found it pending already
    lost: bool = False  # 2-level: pending and not masked, but the selector bit is clear: nobody looks at it again

    @property
    def delivered(self) -> int:
        """Events that the guest has taken."""
        return self.sent - self.pending

    @property
    def hint(self) -> str:
        """Why nothing happens, where an event waits that can not arrive; else empty."""
        if self.lost:
            return (
                "dead: it is pending and not masked, but its selector bit is clear, so no upcall will come; was it "
                "unmasked without a look at pending, or the selector cleared before it was read?"
            )
        if self.pending and self.masked and self.vcpu_state == "blocked":
            return f"stuck: it is pending but masked, and vCPU {self.vcpu} sleeps until an upcall: unmask it"
        return ""


class EventChannels:
    """The cold operations of one domain. `find` gives another domain's, by domid."""

    def __init__(self, ports: Ports, find: Callable[[int], EventChannels | None], pirqs: Pirqs | None = None) -> None:
        self.ports = ports
        self.pirqs = pirqs
        self._find = find
        self._at_end: list[Row] | None = None

    def _domain(self, domid: int) -> EventChannels | None:
        return self if domid in (xen.DOMID_SELF, self.ports.domid) else self._find(domid)

    def _closed(self, port: int) -> bool:
        """Whether a port is not in use: not valid, reserved or closed."""
        return not 0 < port < self.ports.nr_ports or self.ports.port(port)[0] == abi.EVTCHNSTAT_closed

    # --- binding

    def alloc_unbound(self, remote: int, domid: int = xen.DOMID_SELF) -> int:
        """A new port of `domid` that `remote` may bind."""
        owner = self._domain(domid)
        if owner is None:
            return -XEN_ESRCH
        port = owner.ports.free_port()
        if port < 0:
            return port
        if owner is not self:
            return -XEN_EPERM
        remote = self.ports.domid if remote == xen.DOMID_SELF else remote
        self.ports.set_port(port, abi.EVTCHNSTAT_unbound, detail=remote)
        return port

    def bind_interdomain(self, remote: int, remote_port: int) -> int:
        """Connect to the unbound port of another domain (or of this one)."""
        other = self._domain(remote)
        if other is None:
            return -XEN_ESRCH
        port = self.ports.free_port()
        if port < 0:
            return port
        if other._closed(remote_port):
            return -XEN_EINVAL
        state, vcpu, allowed, _, reserved, _ = other.ports.port(remote_port)
        if state != abi.EVTCHNSTAT_unbound or allowed != self.ports.domid:
            return -XEN_EINVAL
        both = abi.EVTCHNSTAT_interdomain
        self.ports.set_port(port, both, 0, other.ports.domid, remote_port, other.ports)
        other.ports.set_port(remote_port, both, vcpu, self.ports.domid, port, self.ports, reserved)
        self.ports.raise_port(port)  # what was sent while it was unbound is lost: let the guest look
        return port

    def bind_virq(self, virq: int, vcpu: int) -> int:
        if virq >= NR_VIRQS or (virq not in LOCAL_VIRQS and vcpu):
            return -XEN_EINVAL
        if vcpu >= self.ports.nr_vcpus:
            return -XEN_ENOENT
        if self.ports.virq_port(vcpu, virq):
            return -XEN_EEXIST
        port = self.ports.free_port()
        if port > 0:
            self.ports.set_port(port, abi.EVTCHNSTAT_virq, vcpu, virq)
            self.ports.set_virq_port(vcpu, virq, port)
        return port

    def bind_pirq(self, pirq: int) -> int:
        assert self.pirqs is not None, "domain 0 has no physical interrupts"
        refusal = self.pirqs.may_bind(pirq)
        if refusal:
            return refusal
        port = self.ports.free_port()
        if port > 0:
            self.ports.set_port(port, abi.EVTCHNSTAT_pirq, 0, pirq)
            self.pirqs.bind(pirq, port)
        return port

    def bind_ipi(self, vcpu: int) -> int:
        if vcpu >= self.ports.nr_vcpus:
            return -XEN_ENOENT
        port = self.ports.free_port()
        if port > 0:
            self.ports.set_port(port, abi.EVTCHNSTAT_ipi, vcpu)
        return port

    def bind_vcpu(self, port: int, vcpu: int) -> int:
        """Send a port's upcalls to another vCPU; per-vCPU VIRQs and IPIs stay where they are."""
        if vcpu >= self.ports.nr_vcpus:
            return -XEN_ENOENT
        if self._closed(port):
            return -XEN_EINVAL
        state, _, detail, remote_port, reserved, _ = self.ports.port(port)
        if state == abi.EVTCHNSTAT_ipi or (state == abi.EVTCHNSTAT_virq and detail in LOCAL_VIRQS):
            return -XEN_EINVAL
        other = self._domain(detail) if state == abi.EVTCHNSTAT_interdomain else None
        self.ports.set_port(port, state, vcpu, detail, remote_port, other.ports if other else None, reserved)
        return 0

    # --- closing

    def close(self, port: int) -> int:
        if self._closed(port):
            return -XEN_EINVAL
        state, vcpu, detail, remote_port, _, _ = self.ports.port(port)
        if state == abi.EVTCHNSTAT_virq:
            self.ports.set_virq_port(vcpu if detail in LOCAL_VIRQS else 0, detail, 0)
        elif state == abi.EVTCHNSTAT_pirq and self.pirqs is not None:
            self.pirqs.unbind(detail)
        self.ports.close_port(port)
        other = self._domain(detail) if state == abi.EVTCHNSTAT_interdomain else None
        if other is not None:
            _, vcpu, _, _, reserved, _ = other.ports.port(remote_port)
            other.ports.set_port(remote_port, abi.EVTCHNSTAT_unbound, vcpu, self.ports.domid, reserved=reserved)
        return 0

    def _close_all(self) -> None:
        for port in range(1, self.ports.nr_ports):
            self.close(port)

    def reset(self, domid: int) -> int:
        """Close every port and go back to the 2-level ABI."""
        owner = self._domain(domid)
        if owner is None:
            return -XEN_ESRCH
        if owner is not self:
            return -XEN_EPERM
        self._close_all()
        self.ports.leave_fifo()
        return 0

    def continue_reset(self, domid: int) -> int:
        """The rest of a reset that was interrupted; here none ever is."""
        owner = self._domain(domid)
        if owner is None:
            return -XEN_ESRCH
        return -XEN_EBUSY if owner is self else -XEN_EPERM

    def end(self) -> None:
        """The domain is going: every other end becomes unbound. Its rows stay as they are."""
        self._at_end = list(self)
        self._close_all()

    # --- looking

    def status(self, argument: abi.evtchn_status) -> int:
        owner = self._domain(argument.dom)
        if owner is None:
            return -XEN_ESRCH
        if argument.port >= owner.ports.nr_ports:
            return -XEN_EINVAL
        if owner is not self:
            return -XEN_EPERM
        state, vcpu, detail, remote_port, _, _ = self.ports.port(argument.port)
        argument.status, argument.vcpu = state, vcpu
        if state == abi.EVTCHNSTAT_unbound:
            argument.u.unbound.dom = detail
        elif state == abi.EVTCHNSTAT_interdomain:
            argument.u.interdomain.dom, argument.u.interdomain.port = detail, remote_port
        elif state == abi.EVTCHNSTAT_virq:
            argument.u.virq = detail
        elif state == abi.EVTCHNSTAT_pirq:
            argument.u.pirq = detail
        return 0

    def __iter__(self) -> Iterator[Row]:
        if self._at_end is not None:
            return iter(self._at_end)
        return (self._row(port) for port in range(1, self.ports.nr_ports) if not self._closed(port))

    def _row(self, port: int) -> Row:
        state, vcpu, detail, remote_port, _, _ = self.ports.port(port)
        pending, masked, priority, sent, merged = self.ports.port_events(port)
        target = {
            abi.EVTCHNSTAT_unbound: f"waits for domain {detail}",
            abi.EVTCHNSTAT_interdomain: f"domain {detail} port {remote_port}",
            abi.EVTCHNSTAT_pirq: f"PIRQ {detail}",
            abi.EVTCHNSTAT_virq: VIRQ_NAMES.get(detail, f"VIRQ {detail}"),
            abi.EVTCHNSTAT_ipi: f"vCPU {vcpu}",
        }[state]
        vcpu_state = self.ports.vcpu_state(vcpu) if vcpu < self.ports.nr_vcpus else "runnable"
        lost = pending and not masked and priority is None and self._nobody_looks(port, vcpu)
        return Row(port, STATES[state], target, vcpu, vcpu_state, pending, masked, priority, sent, merged, lost)

    def _nobody_looks(self, port: int, vcpu: int) -> bool:
        """2-level: whether the selector bit is clear, and the vCPU is not in a handler that has just read it."""
        if vcpu >= self.ports.nr_vcpus:  # domain 0, which has none
            return False
        _, mask, selector = self.ports.upcall_state(vcpu)
        return not mask and not selector >> (port // 64) & 1
