# cython: language_level=3
"""Events by the FIFO ABI: a word for each port in an array of the guest's pages, and 16 queues for each vCPU.

Rules:
* A queue is a list through the LINK fields of the words. Its head stands in the vCPU's control block, which the guest
  reads and moves; its tail is hv's own. An event that is pending and not masked is LINKED, on exactly one queue.
* Nothing that the guest writes is followed: of its memory only single bits are looked at, and of a link nothing. What
  a hostile guest makes of its lists, it alone reads.
* A vCPU without control block drops events. A port without array page remembers that it had one, until the page comes.
* Control block and array pages hold a writable reference: they never become page tables, and never go away.

Xen has to guard each change of a word against guest code on other CPUs (the BUSY bit, and a bounded loop of cmpxchg).
Here no guest runs while hv works on its words, so a plain write is the same.

Specification: event_channel.h; behaviour of Xen 4.17's common/event_fifo.c.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from xen_abi cimport (EVTCHN_2L_NR_CHANNELS, EVTCHN_FIFO_BUSY, EVTCHN_FIFO_LINK_MASK, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MASKED,
                      EVTCHN_FIFO_MAX_QUEUES, EVTCHN_FIFO_NR_CHANNELS, EVTCHN_FIFO_PENDING, EVTCHN_FIFO_PRIORITY_DEFAULT,
                      XEN_EINVAL, XEN_ENOENT, XEN_ENOMEM, XEN_ENOSPC, XEN_EOPNOTSUPP, xen_evtchn_fifo_control_block)
from hv.fastpath.evtchn_2l cimport ops_2l
from hv.fastpath.memory cimport frame_pointer
from hv.fastpath.scan_fifo cimport scan_fifo
from hv.fastpath.paging cimport get_page_and_type, put_page_and_type
from hv.fastpath.state cimport PAGE_SIZE, TYPE_WRITABLE, domain_t, fifo_t, fifo_vcpu_t, port_t
from hv.fastpath.vcpu cimport check_pollers, mark_events_pending

cdef enum:
    WORDS_A_PAGE = 1024      # PAGE_SIZE // 4
    MAX_PAGES = 128          # EVTCHN_FIFO_NR_CHANNELS // WORDS_A_PAGE
    PENDING = 0x80000000
    MASKED = 0x40000000
    LINKED = 0x20000000
    BUSY = 0x10000000

assert PENDING == 1 << EVTCHN_FIFO_PENDING and MASKED == 1 << EVTCHN_FIFO_MASKED
assert LINKED == 1 << EVTCHN_FIFO_LINKED and BUSY == 1 << EVTCHN_FIFO_BUSY


# --- the data plane -----------------------------------------------------------------------------------------------

cdef inline uint32_t *_word(domain_t *d, uint32_t port) noexcept nogil:
    """The port's word, or NULL where the array has no page for it yet."""
    if port // WORDS_A_PAGE >= d.fifo.nr_pages:
        return NULL
    return d.fifo.words[port // WORDS_A_PAGE] + port % WORDS_A_PAGE


cdef inline bint _link_behind(uint32_t *tail, uint32_t port) noexcept nogil:
    """Whether the tail was still on its queue, and now leads to `port`."""
    if not tail[0] & <uint32_t>LINKED:
        return False
    tail[0] = (tail[0] & ~<uint32_t>(BUSY | EVTCHN_FIFO_LINK_MASK)) | port
    return True


cdef inline void _enqueue(domain_t *d, uint32_t port) noexcept nogil:
    """Put the port, just marked LINKED, on the queue of its priority."""
    cdef port_t *p = &d.ports[port]
    cdef fifo_vcpu_t *f = &d.fifo.vcpus[p.vcpu]
    cdef uint32_t *last = &d.fifo.vcpus[p.last_vcpu].tail[p.last_priority]
    cdef uint32_t *tail = &f.tail[p.priority]
    cdef bint linked
    if last[0] == port:                 # its old queue is empty now: nothing may be linked behind it there
        last[0] = 0
    p.last_vcpu, p.last_priority = p.vcpu, p.priority
    linked = tail[0] != 0 and _link_behind(_word(d, tail[0]), port)
    tail[0] = port
    if linked:
        return
    f.control.head[p.priority] = port
    if not f.control.ready >> p.priority & 1:
        f.control.ready |= <uint32_t>1 << p.priority
        mark_events_pending(&d.vcpus[p.vcpu])


cdef inline bint _raise(domain_t *d, uint32_t port, uint32_t *word) noexcept nogil:
    """Mark the event pending and queue it if it is not masked: whether it was not pending before."""
    cdef uint32_t before = word[0]
    cdef bint fresh = not before & <uint32_t>PENDING
    if before & <uint32_t>(MASKED | LINKED):
        word[0] = before | <uint32_t>PENDING
    else:
        word[0] = before | <uint32_t>(PENDING | LINKED)
        _enqueue(d, port)
    if fresh and d.polling:
        check_pollers(d, port)
    return fresh


cdef void _set_pending(domain_t *d, uint32_t port) noexcept nogil:
    cdef port_t *p = &d.ports[port]
    cdef uint32_t *word = _word(d, port)
    cdef bint fresh
    if word == NULL:
        fresh = not p.remembered
        p.remembered = 1
    elif d.fifo.vcpus[p.vcpu].control == NULL:
        return
    else:
        fresh = _raise(d, port, word)
    if fresh:
        p.sent += 1
    else:
        p.merged += 1


cdef void _clear_pending(domain_t *d, uint32_t port) noexcept nogil:
    """Where the port is on a queue, it stays there: the guest takes it off and finds nothing pending."""
    cdef uint32_t *word = _word(d, port)
    if word != NULL:
        word[0] &= ~<uint32_t>PENDING


cdef void _unmask(domain_t *d, uint32_t port) noexcept nogil:
    cdef uint32_t *word = _word(d, port)
    if word == NULL:
        return
    word[0] &= ~<uint32_t>MASKED
    if word[0] & <uint32_t>PENDING and d.fifo.vcpus[d.ports[port].vcpu].control != NULL:
        _raise(d, port, word)


cdef bint _is_pending(domain_t *d, uint32_t port) noexcept nogil:
    cdef uint32_t *word = _word(d, port)
    return word != NULL and word[0] & <uint32_t>PENDING != 0


cdef bint _is_masked(domain_t *d, uint32_t port) noexcept nogil:
    cdef uint32_t *word = _word(d, port)
    return word == NULL or word[0] & <uint32_t>MASKED != 0


cdef bint _is_busy(domain_t *d, uint32_t port) noexcept nogil:
    cdef uint32_t *word = _word(d, port)
    return word != NULL and word[0] & <uint32_t>LINKED != 0


cdef void _mask(domain_t *d, uint32_t port) noexcept nogil:
    """The flag tells who receives at the moment to look again (receiver.pyx)."""
    cdef uint32_t *word = _word(d, port)
    if word != NULL:
        word[0] |= <uint32_t>MASKED
        d.vcpus[d.ports[port].vcpu].info.evtchn_upcall_pending = 1


ops_fifo.nr_channels = EVTCHN_FIFO_NR_CHANNELS
ops_fifo.priorities = EVTCHN_FIFO_MAX_QUEUES
ops_fifo.set_pending = _set_pending
ops_fifo.clear_pending = _clear_pending
ops_fifo.unmask = _unmask
ops_fifo.is_pending = _is_pending
ops_fifo.is_masked = _is_masked
ops_fifo.is_busy = _is_busy
ops_fifo.mask = _mask
ops_fifo.scan = scan_fifo


# --- changing to this ABI and back --------------------------------------------------------------------------------

cdef void _take_over_ports(domain_t *d) noexcept nogil:
    """What is pending in the 2-level bitmap is remembered until its array page comes."""
    cdef uint32_t port, end = min(d.nr_ports, <uint32_t>EVTCHN_2L_NR_CHANNELS)
    for port in range(1, end):
        if ops_2l.is_pending(d, port):
            d.ports[port].remembered = 1
        d.ports[port].priority = EVTCHN_FIFO_PRIORITY_DEFAULT


cdef int _map_control(domain_t *d, uint32_t vcpu, uint64_t mfn, uint32_t offset) noexcept nogil:
    cdef fifo_vcpu_t *f = &d.fifo.vcpus[vcpu]
    if f.control != NULL or get_page_and_type(d, mfn, TYPE_WRITABLE):
        return -XEN_EINVAL
    f.control = <xen_evtchn_fifo_control_block *>(frame_pointer(d.machine, mfn) + offset)
    f.control_mfn = mfn
    return 0


cdef int init_control(domain_t *d, uint32_t vcpu, uint64_t mfn, uint32_t offset) noexcept nogil:
    """EVTCHNOP_init_control: the first one of a domain changes to this ABI. 0 or a negative errno."""
    cdef int rc
    if vcpu >= d.nr_vcpus:
        return -XEN_ENOENT
    if offset > PAGE_SIZE - sizeof(xen_evtchn_fifo_control_block) or offset & 7:
        return -XEN_EINVAL
    if d.fifo != NULL:
        return _map_control(d, vcpu, mfn, offset)
    d.fifo = <fifo_t *>calloc(1, sizeof(fifo_t))
    if d.fifo == NULL:
        return -XEN_ENOMEM
    rc = _map_control(d, vcpu, mfn, offset)
    if rc:
        free(d.fifo)
        d.fifo = NULL
        return rc
    d.port_ops = &ops_fifo
    _take_over_ports(d)
    return 0


cdef int expand_array(domain_t *d, uint64_t mfn) noexcept nogil:
    """EVTCHNOP_expand_array: one more page of words; what its ports remember is raised. 0 or a negative errno."""
    cdef uint32_t port, first
    if d.fifo == NULL:
        return -XEN_EOPNOTSUPP
    if d.fifo.nr_pages == MAX_PAGES:
        return -XEN_ENOSPC
    if get_page_and_type(d, mfn, TYPE_WRITABLE):
        return -XEN_EINVAL
    first = d.fifo.nr_pages * WORDS_A_PAGE
    d.fifo.words[d.fifo.nr_pages] = <uint32_t *>frame_pointer(d.machine, mfn)
    d.fifo.mfns[d.fifo.nr_pages] = mfn
    d.fifo.nr_pages += 1
    for port in range(first, min(first + WORDS_A_PAGE, d.nr_ports)):
        if d.ports[port].remembered and d.fifo.vcpus[d.ports[port].vcpu].control != NULL:
            _raise(d, port, _word(d, port))
    return 0


cdef void leave_fifo(domain_t *d) noexcept nogil:
    """Back to the 2-level ABI, with all pages given back; the ports are closed already."""
    cdef uint32_t i
    if d.fifo == NULL:
        return
    for i in range(d.nr_vcpus):
        if d.fifo.vcpus[i].control != NULL:
            put_page_and_type(d, d.fifo.vcpus[i].control_mfn)
    for i in range(d.fifo.nr_pages):
        put_page_and_type(d, d.fifo.mfns[i])
    free(d.fifo)
    d.fifo = NULL
    d.port_ops = &ops_2l
