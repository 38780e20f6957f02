# cython: language_level=3
"""A domain's event ports, and the handlers of domain 0's."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from hv.engine.guest cimport Guest
from hv.engine.guest_vcpus cimport GuestVcpus
from hv.fastpath.evtchn cimport close_port, free_port, is_usable, raise_virq, send, set_pending, set_priority, unmask
from hv.fastpath.evtchn_fifo cimport expand_array, init_control, leave_fifo
from hv.fastpath.handlers cimport Handler, PythonHandler, attach
from hv.fastpath.receiver cimport detach, receive
from hv.fastpath.state cimport *

from hv.errors import EngineError


cdef class GuestPorts(GuestVcpus):
    """Its event ports; domain 0's have handlers."""

    cdef port_t *_port(self, uint32_t port) except NULL:
        if port >= self._live().nr_ports:
            raise IndexError(f"no event channel {port}")
        return &self.d.ports[port]

    @property
    def nr_ports(self):
        """How many ports are valid, with port 0."""
        return self._live().nr_ports

    @property
    def fifo(self):
        """Whether the guest has changed to the FIFO ABI."""
        return self._live().fifo != NULL

    def port(self, uint32_t port):
        """(state, vcpu, virq or pirq or remote domid, remote port, reserved, sent) of a port."""
        cdef port_t *p = self._port(port)
        return p.state, p.vcpu, p.detail, p.remote_port, bool(p.reserved), p.sent

    def port_events(self, uint32_t port):
        """(pending, masked, priority, sent, merged) of a port; None for the priority where the ABI has none."""
        cdef port_t *p = self._port(port)
        cdef bint usable = is_usable(self.d, port)
        return (usable and self.d.port_ops.is_pending(self.d, port), not usable or self.d.port_ops.is_masked(self.d, port),
                p.priority if self.d.port_ops.priorities else None, p.sent, p.merged)

    def free_port(self):
        """The lowest free port, with its counters at 0; -ENOSPC where the domain has no more."""
        return free_port(self._live())

    def set_port(self, uint32_t port, uint8_t state, uint16_t vcpu=0, uint16_t detail=0, uint32_t remote_port=0,
                 Guest remote=None, bint reserved=False):
        """Set a port's state; `detail` is the number of a VIRQ or a PIRQ, or the remote domid."""
        cdef port_t *p = self._port(port)
        if port == 0:
            raise IndexError("event channel 0 is reserved")
        p.state, p.vcpu, p.detail, p.remote_port, p.reserved = state, vcpu, detail, remote_port, reserved
        p.remote = remote.d if remote is not None else NULL

    def close_port(self, uint32_t port):
        """Free a port that is in use."""
        self._port(port)
        if is_usable(self.d, port):
            close_port(self.d, port)
            self._port_handlers.pop(port, None)

    def set_virq_port(self, uint32_t vcpu, uint32_t virq, uint32_t port):
        self._vcpu(vcpu).virq_port[virq & 31] = port

    def virq_port(self, uint32_t vcpu, uint32_t virq):
        return self._vcpu(vcpu).virq_port[virq & 31]

    def raise_virq(self, uint32_t vcpu, uint32_t virq):
        """Raise a virtual interrupt; nobody bound it: nothing happens."""
        raise_virq(self._vcpu(vcpu), virq & 31)

    def raise_port(self, uint32_t port):
        """Set a port in use pending."""
        self._port(port)
        set_pending(self.d, port)

    def send(self, uint32_t port):
        """EVTCHNOP_send by this domain: 0 or -EINVAL."""
        return send(self._live(), port)

    def unmask(self, uint32_t port):
        """EVTCHNOP_unmask by this domain: 0 or -EINVAL."""
        return unmask(self._live(), port)

    def set_priority(self, uint32_t port, uint32_t priority):
        """EVTCHNOP_set_priority: 0 or a negative errno."""
        return set_priority(self._live(), port, priority)

    def init_control(self, uint32_t vcpu, uint64_t mfn, uint32_t offset):
        """EVTCHNOP_init_control: 0 or a negative errno."""
        return init_control(self._live(), vcpu, mfn, offset)

    def expand_array(self, uint64_t mfn):
        """EVTCHNOP_expand_array: 0 or a negative errno."""
        return expand_array(self._live(), mfn)

    def leave_fifo(self):
        """Back to the 2-level ABI; all ports are closed before."""
        if self._live().receiver != NULL and self.d.receiver.taken != NULL:
            raise EngineError("domain 0 can not change its ABI while its handlers run")
        leave_fifo(self.d)

    @property
    def max_port(self):
        return self._live().max_port

    # --- domain 0's handlers

    cdef domain_t *_host(self) except NULL:
        if self._live().receiver == NULL:
            raise EngineError(f"domain {self.domid} is a guest: only domain 0 has handlers")
        return self.d

    def bind_handler(self, uint32_t port, handler):
        """`handler(port)` runs for every event of the port; a `Handler` of hv.fastpath.handlers is called by itself."""
        if not is_usable(self._host(), port):
            raise IndexError(f"domain {self.domid} has no event channel {port}")
        if not isinstance(handler, Handler):
            handler = PythonHandler(handler)
        self._port_handlers[port] = attach(self.d, port, handler)
        unmask(self.d, port)

    def unbind_handler(self, uint32_t port):
        """Its events wait from now on."""
        if is_usable(self._host(), port):
            detach(self.d, port)
        self._port_handlers.pop(port, None)

    def mask(self, uint32_t port):
        """Events of the port wait until it is unmasked."""
        self._host()
        self._port(port)
        self.d.port_ops.mask(self.d, port)

    def delivered(self, uint32_t port):
        """How many of the port's events its handlers have had since it was made."""
        self._host()
        self._port(port)
        return self.d.receiver.entries[port].delivered

    def drain(self):
        """Run the handlers of all pending ports; what they raise is raised, and what is left waits."""
        receive(self._host())
