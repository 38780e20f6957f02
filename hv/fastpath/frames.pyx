# cython: language_level=3
"""Machine frames: who owns one, how many references it has, which are free.

Rules:
* A frame is freed when its last reference goes, never while a page-table entry or hv itself still points at it.
* A freed frame is cleared, its M2P entry invalid, and its owner's TLB is flushed before the guest goes on.
* The order of allocation differs from the guest's frame numbers on purpose: MFN == PFN would hide guests' bugs.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset
from xen_abi cimport XEN_EINVAL
from hv.fastpath.memory cimport frame_pointer, frame_written, owns
from hv.fastpath.state cimport (FRAME_ALLOCATED, FRAME_VALIDATED, FRAME_XENHEAP, PAGE_SIZE, TYPE_WRITABLE, frame_t,
                                request_flush)

cdef enum:
    CHUNK = 512

cdef extern from * nogil:
    """
    #define INVALID_PFN 0xffffffffffffffffULL
    """
    const uint64_t INVALID_PFN


cdef uint64_t _take_frame(machine_t *m) noexcept nogil:
    """A free, cleared frame with no owner; 0 where the machine is full."""
    cdef uint64_t mfn, index
    if m.free_head:
        mfn = m.free_head
        m.free_head = m.m2p[mfn]
        m.m2p[mfn] = INVALID_PFN
        return mfn
    index = m.next_frame
    mfn = (index & ~<uint64_t>(CHUNK - 1)) + (CHUNK - 1) - (index & (CHUNK - 1))
    if mfn >= m.nr_frames:
        return 0
    m.next_frame += 1
    return mfn


cdef uint64_t _take_run(machine_t *m, uint64_t count) noexcept nogil:
    """`count` (a power of two up to CHUNK) frames side by side, never used before: the lowest; 0 where there are none."""
    cdef uint64_t index, mfn
    while m.next_frame & (count - 1):                   # what the alignment skips stays available one by one
        index = m.next_frame
        mfn = (index & ~<uint64_t>(CHUNK - 1)) + (CHUNK - 1) - (index & (CHUNK - 1))
        if mfn >= m.nr_frames:
            return 0
        m.next_frame += 1
        m.m2p[mfn] = m.free_head
        m.free_head = mfn
    index = m.next_frame
    mfn = (index & ~<uint64_t>(CHUNK - 1)) + CHUNK - count - (index & (CHUNK - 1))
    if mfn + count > m.nr_frames:
        return 0
    m.next_frame += count
    return mfn


cdef void _assign(domain_t *d, uint64_t mfn, uint64_t pfn) noexcept nogil:
    cdef frame_t *f = &d.machine.frames[mfn]
    f.owner = d.domid + 1
    f.count = 1
    f.flags = FRAME_ALLOCATED
    d.machine.m2p[mfn] = pfn
    d.nr_pages += 1


cdef uint64_t give_frame(domain_t *d, uint64_t pfn) noexcept nogil:
    """A new frame of the domain at guest frame `pfn`; 0 where there is none."""
    cdef uint64_t mfn = _take_frame(d.machine)
    if mfn:
        _assign(d, mfn, pfn)
    return mfn


cdef uint64_t give_extent(domain_t *d, uint64_t pfn, uint32_t order) noexcept nogil:
    """2**order contiguous frames at guest frames from `pfn` on: the first mfn; 0 where there are none."""
    cdef uint64_t i, mfn
    if order == 0:
        return give_frame(d, pfn)
    mfn = _take_run(d.machine, <uint64_t>1 << order)
    if mfn:
        for i in range(<uint64_t>1 << order):
            _assign(d, mfn + i, pfn + i)
    return mfn


cdef uint64_t give_xenheap_frame(domain_t *d) noexcept nogil:
    """hv's own page that the domain may map (shared_info, grant tables): always of writable type, never freed by it."""
    cdef uint64_t mfn = _take_frame(d.machine)
    cdef frame_t *f
    if mfn:
        f = &d.machine.frames[mfn]
        f.owner = d.domid + 1
        f.count = 1
        f.type = TYPE_WRITABLE
        f.type_count = 1
        f.flags = FRAME_XENHEAP | FRAME_VALIDATED
        d.machine.m2p[mfn] = INVALID_PFN
    return mfn


cdef void forget_frame(machine_t *m, uint64_t mfn) noexcept nogil:
    """The frame is free; its content is the caller's to clear."""
    frame_written(m, mfn)
    memset(&m.frames[mfn], 0, sizeof(frame_t))
    m.m2p[mfn] = m.free_head        # free frames are chained through their own M2P entries, guests never see them
    m.free_head = mfn


cdef void free_frame(machine_t *m, uint64_t mfn) noexcept nogil:
    forget_frame(m, mfn)
    memset(frame_pointer(m, mfn), 0, PAGE_SIZE)


cdef void last_reference_gone(machine_t *m, uint64_t mfn) noexcept nogil:
    cdef uint32_t i, owner = m.frames[mfn].owner
    free_frame(m, mfn)
    for i in range(m.nr_domains):           # nobody's TLB may still reach it
        request_flush(m.domains[i])
        if m.domains[i].domid + 1 == owner:
            m.domains[i].nr_pages -= 1      # until now it counted, given back or not


cdef int release_page(domain_t *d, uint64_t mfn) noexcept nogil:
    """The domain gives a frame back (decrease_reservation): it is freed when its last mapping goes."""
    cdef frame_t *f
    if not owns(d, mfn):
        return -XEN_EINVAL
    f = &d.machine.frames[mfn]
    if f.flags & FRAME_ALLOCATED:           # else it has been given back before, and is still mapped
        f.flags &= ~FRAME_ALLOCATED
        put_page(d.machine, mfn)
    return 0
