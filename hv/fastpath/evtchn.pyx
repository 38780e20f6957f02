# cython: language_level=3
"""The event-channel data plane, 2-level ABI: set pending, unmask, send.

Rules:
* `pending` is only ever set here and cleared by the guest; a bit that is already set sends nothing further.
* The selector bit is set before the upcall flag, and the flag only with it; a blocked vCPU wakes when the flag is set.
* Domain 0 is hv itself: its pending bits are host memory, and the machine is told to drain them.

Specification: event_channel.h and the comments on shared_info in xen.h; Xen 4.17 common/event_2l.c.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from xen_abi cimport (EVTCHNSTAT_closed, EVTCHNSTAT_interdomain, EVTCHNSTAT_ipi, EVTCHNSTAT_unbound, XEN_EINVAL)
from hv.fastpath.vcpu cimport end_poll, unblock


cdef bint is_pending(domain_t *d, uint32_t port) noexcept nogil:
    return d.shared.evtchn_pending[port >> 6] >> (port & 63) & 1


cdef void _check_pollers(domain_t *d, uint32_t port) noexcept nogil:
    cdef uint32_t i
    for i in range(d.nr_vcpus):
        end_poll(&d.vcpus[i], port)


cdef void _upcall(vcpu_t *v, uint32_t port) noexcept nogil:
    cdef uint64_t word = <uint64_t>1 << (port >> 6)
    if v.info.evtchn_pending_sel & word:        # the guest has not looked since the last event of this word
        return
    v.info.evtchn_pending_sel |= word
    if not v.info.evtchn_upcall_pending:
        v.info.evtchn_upcall_pending = 1
        unblock(v)


cdef void set_pending(domain_t *d, uint32_t port) noexcept nogil:
    """The port's event happened."""
    cdef uint64_t bit = <uint64_t>1 << (port & 63)
    if d.host_pending != NULL:
        d.host_pending[port >> 6] |= bit
        d.machine.host_events = 1
        d.ports[port].sent += 1
        return
    if d.shared.evtchn_pending[port >> 6] & bit:
        return
    d.shared.evtchn_pending[port >> 6] |= bit
    d.ports[port].sent += 1
    if not d.shared.evtchn_mask[port >> 6] & bit:
        _upcall(&d.vcpus[d.ports[port].vcpu], port)
    _check_pollers(d, port)


cdef int64_t send(domain_t *d, uint32_t port) noexcept nogil:
    """EVTCHNOP_send by a guest: 0, or -EINVAL for a port that can not send."""
    cdef port_t *p
    if port == 0 or port >= d.nr_ports:
        return -XEN_EINVAL
    p = &d.ports[port]
    if p.state == EVTCHNSTAT_interdomain:
        set_pending(p.remote, p.remote_port)
    elif p.state == EVTCHNSTAT_ipi:
        set_pending(d, port)
    elif p.state != EVTCHNSTAT_unbound:
        return -XEN_EINVAL
    return 0


cdef int64_t unmask(domain_t *d, uint32_t port) noexcept nogil:
    cdef uint64_t bit = <uint64_t>1 << (port & 63)
    if port >= d.nr_ports:
        return -XEN_EINVAL
    if port == 0 or d.ports[port].state == EVTCHNSTAT_closed:       # nothing to unmask, and no error
        return 0
    if d.shared.evtchn_mask[port >> 6] & bit:
        d.shared.evtchn_mask[port >> 6] &= ~bit
        if d.shared.evtchn_pending[port >> 6] & bit:
            _upcall(&d.vcpus[d.ports[port].vcpu], port)
    return 0


cdef void raise_virq(vcpu_t *v, uint32_t virq) noexcept nogil:
    """A virtual interrupt of this vCPU; nobody bound it: nothing happens."""
    if v.virq_port[virq]:
        set_pending(v.domain, v.virq_port[virq])
