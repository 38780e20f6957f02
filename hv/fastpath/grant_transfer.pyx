# cython: language_level=3
"""GNTTABOP_transfer: a frame changes its owner. And GNTTABOP_cache_flush, which only asks who may name a frame.

Rules:
* Only a frame that nothing refers to can go: no mapping, no page-table use, no pin.
* It has left its owner before the receiver is looked at: whatever is wrong then, it is lost (as on Xen).

Behaviour: Xen 4.17's common/grant_table.c (gnttab_transfer, _cache_flush) and arch/x86/mm.c (steal_page).
"""
from libc.stdint cimport uint32_t, uint64_t
from xen_abi cimport *
from hv.fastpath.frames cimport free_frame
from hv.fastpath.grant_entries cimport entry_written
from hv.fastpath.grant_table cimport nr_entries
from hv.fastpath.grants cimport find_domain
from hv.fastpath.memory cimport frame_written, owns
from hv.fastpath.state cimport FRAME_ALLOCATED, FRAME_XENHEAP, PAGE_SHIFT, PAGE_SIZE, frame_t, grant_table_t, request_flush
from libc.string cimport memset


cdef bint _steal(domain_t *d, uint64_t mfn) noexcept nogil:
    """Take a frame from its owner, with its contents."""
    cdef frame_t *f
    if not owns(d, mfn):
        return False
    f = &d.machine.frames[mfn]
    if f.flags & FRAME_XENHEAP or not f.flags & FRAME_ALLOCATED or f.count != 1:
        return False
    frame_written(d.machine, mfn)
    memset(f, 0, sizeof(frame_t))
    d.nr_pages -= 1
    request_flush(d)
    return True


cdef bint _accepts(domain_t *e, uint32_t ref, uint32_t domid) noexcept nogil:
    """Whether an entry waits for a frame from that domain; it is marked as committed then."""
    if ref >= nr_entries(e.grants):
        return False
    if e.grants.ops.header(e.grants, ref).flags != GTF_accept_transfer or e.grants.ops.header(e.grants, ref).domid != domid:
        return False
    e.grants.ops.header(e.grants, ref).flags |= GTF_transfer_committed
    return True


cdef void _give(domain_t *e, uint64_t mfn, uint32_t ref) noexcept nogil:
    cdef grant_table_t *t = e.grants
    cdef frame_t *f = &e.machine.frames[mfn]
    f.owner = e.domid + 1
    f.count = 1
    f.flags = FRAME_ALLOCATED
    e.nr_pages += 1
    e.machine.m2p[mfn] = t.ops.frame(t, ref)            # the receiver has said where it wants it
    t.ops.set_frame(t, ref, mfn)
    t.ops.header(t, ref).flags |= GTF_transfer_completed
    entry_written(t, ref)


cdef int transfer(domain_t *d, const xen_gnttab_transfer *op) noexcept nogil:
    """A GNTST_* status."""
    cdef domain_t *e
    cdef int rc = GNTST_okay
    if not _steal(d, op.mfn):
        return GNTST_bad_page
    e = find_domain(d.machine, op.domid)
    if e == NULL:
        rc = GNTST_bad_domain
    elif e.nr_pages >= e.max_pages or not _accepts(e, op.ref, d.domid):
        rc = GNTST_general_error
    if rc == GNTST_okay:
        _give(e, op.mfn, op.ref)
    else:
        free_frame(d.machine, op.mfn)
    return rc


cdef bint _uses(domain_t *d, const grant_table_t *t, uint64_t mfn) noexcept nogil:
    cdef uint32_t ref
    for ref in range(nr_entries(t)):
        if t.active[ref].pin and t.active[ref].domid == d.domid and t.active[ref].mfn == mfn:
            return True
    return False


cdef int cache_flush(domain_t *d, const xen_gnttab_cache_flush *op) noexcept nogil:
    """0 or a negative errno. Memory is coherent here: a flush that is allowed does nothing."""
    cdef uint64_t mfn = op.a.dev_bus_addr >> PAGE_SHIFT
    cdef domain_t *owner
    if op.offset >= PAGE_SIZE or op.length > PAGE_SIZE or op.offset + op.length > PAGE_SIZE or \
            op.op & ~<uint32_t>(GNTTAB_CACHE_INVAL | GNTTAB_CACHE_CLEAN):
        return -XEN_EINVAL
    if op.length == 0 or op.op == 0:
        return 0
    if mfn >= d.machine.nr_frames:
        return -XEN_EINVAL
    owner = find_domain(d.machine, d.machine.frames[mfn].owner - 1) if d.machine.frames[mfn].owner else NULL
    if owner == NULL:
        return -XEN_EPERM
    if owner != d and not _uses(d, owner.grants, mfn):
        return -XEN_EINVAL
    return -XEN_EOPNOTSUPP if op.op == GNTTAB_CACHE_INVAL else 0
