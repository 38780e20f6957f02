# cython: language_level=3
"""Events by the 2-level ABI: one pending and one mask bit a port in shared_info, one selector bit for 64 ports.

Rules:
* `pending` is only ever set here and cleared by the guest; a bit that is set already sends nothing further.
* The selector bit is set before the upcall flag, and the flag only with it: a word that the guest has not looked at since
  its last event needs no second upcall.

Specification: the comments on shared_info in xen.h; behaviour of Xen 4.17's common/event_2l.c.
"""
from libc.stdint cimport uint32_t, uint64_t
from xen_abi cimport EVTCHN_2L_NR_CHANNELS
from hv.fastpath.scan_2l cimport scan_2l
from hv.fastpath.state cimport domain_t, vcpu_t
from hv.fastpath.vcpu cimport check_pollers, mark_events_pending


cdef void _select(vcpu_t *v, uint32_t port) noexcept nogil:
    cdef uint64_t word = <uint64_t>1 << (port >> 6)
    if not v.info.evtchn_pending_sel & word:
        v.info.evtchn_pending_sel |= word
        mark_events_pending(v)


cdef void _set_pending(domain_t *d, uint32_t port) noexcept nogil:
    cdef uint64_t bit = <uint64_t>1 << (port & 63)
    if d.shared.evtchn_pending[port >> 6] & bit:
        d.ports[port].merged += 1
        return
    d.shared.evtchn_pending[port >> 6] |= bit
    d.ports[port].sent += 1
    if not d.shared.evtchn_mask[port >> 6] & bit:
        _select(&d.vcpus[d.ports[port].vcpu], port)
    if d.polling:
        check_pollers(d, port)


cdef void _clear_pending(domain_t *d, uint32_t port) noexcept nogil:
    d.shared.evtchn_pending[port >> 6] &= ~(<uint64_t>1 << (port & 63))


cdef void _unmask(domain_t *d, uint32_t port) noexcept nogil:
    cdef uint64_t bit = <uint64_t>1 << (port & 63)
    if d.shared.evtchn_mask[port >> 6] & bit:
        d.shared.evtchn_mask[port >> 6] &= ~bit
        if d.shared.evtchn_pending[port >> 6] & bit:
            _select(&d.vcpus[d.ports[port].vcpu], port)


cdef bint _is_pending(domain_t *d, uint32_t port) noexcept nogil:
    return d.shared.evtchn_pending[port >> 6] >> (port & 63) & 1


cdef bint _is_masked(domain_t *d, uint32_t port) noexcept nogil:
    return d.shared.evtchn_mask[port >> 6] >> (port & 63) & 1


cdef void _mask(domain_t *d, uint32_t port) noexcept nogil:
    """The flag tells a scan that goes on to look again (scan_2l.pyx)."""
    d.shared.evtchn_mask[port >> 6] |= <uint64_t>1 << (port & 63)
    d.vcpus[d.ports[port].vcpu].info.evtchn_upcall_pending = 1


cdef bint _is_busy(domain_t *d, uint32_t port) noexcept nogil:
    return False


ops_2l.nr_channels = EVTCHN_2L_NR_CHANNELS
ops_2l.priorities = 0
ops_2l.set_pending = _set_pending
ops_2l.clear_pending = _clear_pending
ops_2l.unmask = _unmask
ops_2l.is_pending = _is_pending
ops_2l.is_masked = _is_masked
ops_2l.is_busy = _is_busy
ops_2l.mask = _mask
ops_2l.scan = scan_2l
