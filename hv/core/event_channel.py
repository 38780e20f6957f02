"""Event channels: port states and the rules of who may bind, notify and close.

Rules:

1. Port 0 is reserved; a port is closed, unbound, interdomain, PIRQ, VIRQ or IPI, and only bound ports deliver.
2. An unbound port waits for one named domain; binding it connects both ends, closing one end leaves the other unbound.
3. A VIRQ is bound at most once a vCPU; a global VIRQ only on vCPU 0.
4. Ports that hv itself made (console, store) are closed like any other: the guest only hurts itself.

The states live in the engine's C structures, seen through `Ports`. Results are port numbers or negative errnos.
Specification: event_channel.h; behaviour of Xen 4.17's common/event_channel.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from hv.abi import event_channel as abi
from hv.abi import xen
from hv.abi.errno import XEN_EEXIST, XEN_EINVAL, XEN_ENOENT, XEN_ENOSPC, XEN_ESRCH

NR_VIRQS = xen.NR_VIRQS
GLOBAL_VIRQS = frozenset(
    {
        xen.VIRQ_CONSOLE,
        xen.VIRQ_DOM_EXC,
        xen.VIRQ_TBUF,
        xen.VIRQ_DEBUGGER,
        xen.VIRQ_CON_RING,
        xen.VIRQ_PCPU_STATE,
        xen.VIRQ_MEM_EVENT,
        xen.VIRQ_ARGO,
        xen.VIRQ_ENOMEM,
        *range(xen.VIRQ_ARCH_0, xen.VIRQ_ARCH_7 + 1),
    }
)
VALID_PORT = (
    abi.EVTCHNSTAT_pirq,
    abi.EVTCHNSTAT_virq,
    abi.EVTCHNSTAT_ipi,
    abi.EVTCHNSTAT_interdomain,
)


class Ports(Protocol):
    """A domain's port table in the engine (hv.engine.machine.GuestDomain)."""

    @property
    def domid(self) -> int: ...
    @property
    def nr_ports(self) -> int: ...
    @property
    def max_port(self) -> int: ...
    @property
    def nr_vcpus(self) -> int: ...
    def port(self, port: int) -> tuple[int, int, int, int, bool, int]: ...
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
    def clear_pending(self, port: int) -> None: ...
    def raise_port(self, port: int) -> None: ...


class EventChannels:
    """The cold operations of one domain. `find` gives another domain's, by domid."""

    def __init__(self, ports: Ports, find: Callable[[int], EventChannels | None]) -> None:
        self.ports = ports
        self._find = find

    def _free_port(self) -> int:
        for port in range(1, min(self.ports.max_port + 1, self.ports.nr_ports)):
            if self.ports.port(port)[0] == abi.EVTCHNSTAT_closed:
                self.ports.clear_pending(port)
                return port
        return -XEN_ENOSPC

    def _valid(self, port: int) -> bool:
        return 0 < port < self.ports.nr_ports and self.ports.port(port)[0] != abi.EVTCHNSTAT_closed

    def alloc_unbound(self, remote: int) -> int:
        """A new port that `remote` may bind."""
        port = self._free_port()
        if port > 0:
            self.ports.set_port(port, abi.EVTCHNSTAT_unbound, detail=remote)
        return port

    def bind_interdomain(self, remote: int, remote_port: int) -> int:
        """Connect to the unbound port of another domain (or of this one)."""
        other = self if remote == self.ports.domid else self._find(remote)
        if other is None:
            return -XEN_ESRCH
        port = self._free_port()
        if port < 0:
            return port
        if not other._valid(remote_port):
            return -XEN_EINVAL
        state, vcpu, allowed, _, reserved, _ = other.ports.port(remote_port)
        if state != abi.EVTCHNSTAT_unbound or allowed != self.ports.domid:
            return -XEN_EINVAL
        mine, theirs = abi.EVTCHNSTAT_interdomain, abi.EVTCHNSTAT_interdomain
        self.ports.set_port(port, mine, detail=remote, remote_port=remote_port, remote=other.ports)
        other.ports.set_port(remote_port, theirs, vcpu, self.ports.domid, port, self.ports, reserved)
        self.ports.raise_port(port)
        return port

    def bind_virq(self, virq: int, vcpu: int) -> int:
        if virq >= NR_VIRQS or (virq in GLOBAL_VIRQS and vcpu):
            return -XEN_EINVAL
        if vcpu >= self.ports.nr_vcpus:
            return -XEN_ENOENT
        if self.ports.virq_port(vcpu, virq):
            return -XEN_EEXIST
        port = self._free_port()
        if port > 0:
            self.ports.set_port(port, abi.EVTCHNSTAT_virq, vcpu, virq)
            self.ports.set_virq_port(vcpu, virq, port)
        return port

    def bind_ipi(self, vcpu: int) -> int:
        if vcpu >= self.ports.nr_vcpus:
            return -XEN_ENOENT
        port = self._free_port()
        if port > 0:
            self.ports.set_port(port, abi.EVTCHNSTAT_ipi, vcpu)
        return port

    def bind_vcpu(self, port: int, vcpu: int) -> int:
        """Send a port's upcalls to another vCPU; per-vCPU VIRQs and IPIs stay where they are."""
        if vcpu >= self.ports.nr_vcpus:
            return -XEN_ENOENT
        if not self._valid(port):
            return -XEN_EINVAL
        state, _, detail, remote_port, reserved, _ = self.ports.port(port)
        movable = state in (abi.EVTCHNSTAT_unbound, abi.EVTCHNSTAT_interdomain, abi.EVTCHNSTAT_pirq)
        if not movable and not (state == abi.EVTCHNSTAT_virq and detail in GLOBAL_VIRQS):
            return -XEN_EINVAL
        remote = self._remote(state, detail)
        self.ports.set_port(port, state, vcpu, detail, remote_port, remote.ports if remote else None, reserved)
        return 0

    def _remote(self, state: int, domid: int) -> EventChannels | None:
        if state != abi.EVTCHNSTAT_interdomain:
            return None
        return self if domid == self.ports.domid else self._find(domid)

    def close(self, port: int) -> int:
        if not self._valid(port):
            return -XEN_EINVAL
        state, vcpu, detail, remote_port, _, _ = self.ports.port(port)
        if state == abi.EVTCHNSTAT_virq:
            self.ports.set_virq_port(vcpu, detail, 0)
        other = self._remote(state, detail)
        if other is not None:
            vcpu = other.ports.port(remote_port)[1]
            other.ports.set_port(remote_port, abi.EVTCHNSTAT_unbound, vcpu, self.ports.domid)
        self.ports.set_port(port, abi.EVTCHNSTAT_closed)
        self.ports.clear_pending(port)
        return 0

    def status(self, argument: abi.evtchn_status) -> int:
        if not 0 <= argument.port < self.ports.nr_ports:
            return -XEN_EINVAL
        state, vcpu, detail, remote_port, _, _ = self.ports.port(argument.port)
        argument.status, argument.vcpu = state, vcpu
        if state == abi.EVTCHNSTAT_unbound:
            argument.u.unbound.dom = detail
        elif state == abi.EVTCHNSTAT_interdomain:
            argument.u.interdomain.dom, argument.u.interdomain.port = detail, remote_port
        elif state == abi.EVTCHNSTAT_virq:
            argument.u.virq = detail
        return 0

    def close_all(self) -> None:
        """The domain is going: every other end becomes unbound."""
        for port in range(1, self.ports.nr_ports):
            if self.ports.port(port)[0] != abi.EVTCHNSTAT_closed:
                self.close(port)
