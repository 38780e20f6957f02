# cython: language_level=3
"""The event-channel data plane: send, unmask, virtual interrupts, and which ports there are.

Rules:
* How an event is marked, masked and queued is the ABI's business: `domain_t.port_ops` points at its table (evtchn_2l.pyx,
  evtchn_fifo.pyx). Nothing here asks which it is.
* Only a bound port has events; who may send to it is decided here, whom it is bound to in hv/core/event_channel.py.
* Domain 0 is hv itself: a domain like any other here, whose shared_info is host memory; receiver.pyx takes its events.
* Ports become valid in buckets of 64, up to the highest ever used. They never become invalid again.

Specification: event_channel.h; behaviour of Xen 4.17's common/event_channel.c.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from xen_abi cimport (EVTCHN_FIFO_PRIORITY_DEFAULT, EVTCHNSTAT_closed, EVTCHNSTAT_interdomain,
                      EVTCHNSTAT_ipi, EVTCHNSTAT_unbound, XEN_EACCES, XEN_EINVAL, XEN_ENOSPC, XEN_ENOSYS)
from hv.fastpath.receiver cimport forget
from hv.fastpath.points cimport note_event
from hv.fastpath.state cimport HISTORY, OBSERVED_TRACE, POINT_EVENT, charged, event_record_t
from hv.fastpath.trace cimport trace_event, trace_unmask


# --- the table of ports -------------------------------------------------------------------------------------------

cdef bint is_usable(domain_t *d, uint32_t port) noexcept nogil:
    """Whether a port is valid and not closed. Port 0 is reserved and counts as closed."""
    return port < d.nr_ports and d.ports[port].state != EVTCHNSTAT_closed


cdef int64_t free_port(domain_t *d) noexcept nogil:
    """The lowest closed port, as good as new; -ENOSPC where there is none. Its state is the caller's to set."""
    cdef uint32_t port = d.first_closed, end = min(d.max_port + 1, d.port_ops.nr_channels)
    cdef bint all_used = True
    while port < end:
        if port >= d.nr_ports:
            d.nr_ports += PORTS_A_BUCKET
        if d.ports[port].state == EVTCHNSTAT_closed:
            if all_used:
                d.first_closed = port
                all_used = False
            if not d.port_ops.is_busy(d, port):
                d.ports[port].priority = EVTCHN_FIFO_PRIORITY_DEFAULT
                d.ports[port].sent = d.ports[port].merged = d.ports[port].event = 0
                if d.receiver != NULL:
                    d.receiver.entries[port].delivered = 0
                return port
        port += 1
    return -XEN_ENOSPC


cdef void close_port(domain_t *d, uint32_t port) noexcept nogil:
    """A used port becomes free, with nothing pending; the other end is the caller's business."""
    if d.receiver != NULL:
        forget(d, port)
    d.port_ops.clear_pending(d, port)
    d.ports[port].state = EVTCHNSTAT_closed
    d.ports[port].vcpu = 0
    d.ports[port].reserved = 0
    d.ports[port].remote = NULL
    if port < d.first_closed:
        d.first_closed = port


cdef int set_priority(domain_t *d, uint32_t port, uint32_t priority) noexcept nogil:
    """EVTCHNOP_set_priority: the next event goes on that queue. 0 or a negative errno."""
    if port >= d.nr_ports:
        return -XEN_EINVAL
    if d.port_ops.priorities == 0:
        return -XEN_ENOSYS
    if not is_usable(d, port):
        return -XEN_EACCES
    if priority >= d.port_ops.priorities:
        return -XEN_EINVAL
    d.ports[port].priority = priority
    return 0


# --- events -------------------------------------------------------------------------------------------------------

cdef inline void _happens(domain_t *d, uint32_t port) noexcept nogil:
    cdef event_record_t *r = &d.events[d.nr_events & (HISTORY - 1)]
    d.nr_events += 1
    r.ticks = charged(d.machine)
    r.port, r.vcpu = port, d.ports[port].vcpu
    if not d.observed:
        d.port_ops.set_pending(d, port)
    else:
        _observed_event(d, port)


cdef void _observed_event(domain_t *d, uint32_t port) noexcept nogil:
    cdef uint64_t sent = d.ports[port].sent
    if d.observed & OBSERVED_TRACE:
        trace_event(d, port)
    else:
        d.port_ops.set_pending(d, port)
    if d.observed & POINT_EVENT and d.ports[port].sent != sent:     # it was not pending before
        note_event(d, port)


cdef void set_pending(domain_t *d, uint32_t port) noexcept nogil:
    """The port's event happened; a port that is not in use has none."""
    if is_usable(d, port):
        _happens(d, port)


cdef int64_t send(domain_t *d, uint32_t port) noexcept nogil:
    """EVTCHNOP_send by a guest: 0, or -EINVAL for a port that can not send."""
    cdef port_t *p
    if port >= d.nr_ports:
        return -XEN_EINVAL
    p = &d.ports[port]
    if p.state == EVTCHNSTAT_interdomain:
        _happens(p.remote, p.remote_port)
    elif p.state == EVTCHNSTAT_ipi:
        _happens(d, port)
    elif p.state != EVTCHNSTAT_unbound:             # nobody is there yet: the event is dropped
        return -XEN_EINVAL
    return 0


cdef int64_t unmask(domain_t *d, uint32_t port) noexcept nogil:
    """EVTCHNOP_unmask: 0, or -EINVAL. Unmasking a closed port does nothing, and is no error."""
    if port >= d.nr_ports:
        return -XEN_EINVAL
    if d.receiver != NULL and d.receiver.entries[port].call == NULL:
        return 0                                    # a port of domain 0 without a handler stays masked
    if d.ports[port].state != EVTCHNSTAT_closed:
        if d.machine.trace == NULL:
            d.port_ops.unmask(d, port)
        else:
            trace_unmask(d, port)
    return 0


cdef int64_t poll(domain_t *d, uint32_t port) noexcept nogil:
    """SCHEDOP_poll's question: whether it is pending, or -EINVAL for a port that has no events."""
    if not is_usable(d, port):
        return -XEN_EINVAL
    return d.port_ops.is_pending(d, port)


cdef void raise_virq(vcpu_t *v, uint32_t virq) noexcept nogil:
    """A virtual interrupt of this vCPU (0 for a global one); nobody bound it: nothing happens."""
    if v.virq_port[virq]:
        set_pending(v.domain, v.virq_port[virq])
