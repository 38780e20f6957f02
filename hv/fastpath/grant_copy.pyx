# cython: language_level=3
"""GNTTABOP_copy: a part of a page from or to a granted frame, without mapping it.

Rules:
* Either side is a grant of any domain to the caller, or a frame of the caller's own.
* A grant may be of a part of a page (version 2), or of what a third domain has granted to the granter (transitive, one
  step only). Then it is in use all along the way.
* Both sides are kept from one operation of a call to the next, as long as nothing fails: batches about one page look it
  up once.

Behaviour: Xen 4.17's common/grant_table.c (acquire_grant_for_copy, gnttab_copy_one). A result is a GNTST_* status.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset
from xen_abi cimport *
from hv.fastpath.frames cimport get_page, put_page
from hv.fastpath.grant_entries cimport clear_status
from hv.fastpath.grant_table cimport nr_entries
from hv.fastpath.grants cimport PIN_HOST_READ, PIN_HOST_WRITE, PIN_WRITERS, end_use, find_domain
from hv.fastpath.memory cimport frame_pointer, frame_written
from hv.fastpath.paging cimport get_page_and_type, put_page_and_type
from hv.fastpath.state cimport PAGE_SIZE, TYPE_WRITABLE, active_t, grant_table_t, machine_t


cdef enum:
    AGAIN = 1                    # the entry changed under an operation of the same call: Xen starts over


# --- a grant, used for a copy -------------------------------------------------------------------------------------

cdef int _pin_transitive(domain_t *owner, uint32_t ref, uint32_t domid, bint readonly, bint one_more,
                         active_t *found) noexcept nogil:
    """Pin the grant of a third domain that a transitive one stands for, and fill `found` with what it gives."""
    cdef domain_t *third = find_domain(owner.machine, found.source_domid)
    cdef uint32_t third_ref = found.source_ref
    cdef uint16_t third_domid = found.source_domid
    cdef int rc
    if not one_more or third_domid == owner.domid or third == NULL:
        return GNTST_general_error
    rc = _pin(third, third_ref, owner.domid, readonly, False, found)
    found.source_domid, found.source_ref = third_domid, third_ref
    found.is_sub_page = 1               # whatever it is: this keeps it from being mapped
    return rc


cdef bint _same(const active_t *a, const active_t *b, uint32_t domid) noexcept nogil:
    return (a.domid == domid and a.mfn == b.mfn and a.start == b.start and a.length == b.length
            and a.source_domid == b.source_domid and a.source_ref == b.source_ref and a.is_sub_page)


cdef void _reduce(grant_table_t *t, uint32_t ref, bint readonly) noexcept nogil:
    cdef uint32_t pin = t.active[ref].pin
    clear_status(t, ref, (0 if pin else GTF_reading) | (0 if readonly or pin & PIN_WRITERS else GTF_writing))


cdef int _pin(domain_t *owner, uint32_t ref, uint32_t domid, bint readonly, bint transitive_allowed,
              active_t *found) noexcept nogil:
    """Use a grant of `owner` to `domid`, with a reference on its frame; `found` says which part of which frame it is."""
    cdef grant_table_t *t = owner.grants
    cdef uint32_t pin = PIN_HOST_READ if readonly else PIN_HOST_WRITE
    cdef active_t *a
    cdef bint look, transitive
    cdef int rc
    if ref >= nr_entries(t):
        return GNTST_bad_gntref
    a = &t.active[ref]
    if a.pin and (a.domid != domid or a.pin & pin << 7):
        return GNTST_general_error
    look = not a.pin or (not readonly and not a.pin & PIN_WRITERS)
    transitive = t.ops.transitive(t, ref, found)
    if look:
        rc = t.ops.set_status(t, ref, a, readonly, False, domid)
        if rc != GNTST_okay:
            return rc
    if transitive:
        rc = _pin_transitive(owner, ref, domid, readonly, transitive_allowed, found)
        if rc == GNTST_okay and a.pin and not _same(a, found, domid):
            _end(owner.machine, found.source_domid, found.source_ref, readonly, found.mfn)
            rc = AGAIN
    elif not a.pin:
        t.ops.part(t, ref, found)
        rc = GNTST_bad_page if get_page(owner, found.mfn) else GNTST_okay
    else:                               # in use: the frame of its first use, whatever the entry says by now
        found[0] = a[0]
        rc = GNTST_bad_domain if get_page(owner, a.mfn) else GNTST_okay
    if rc != GNTST_okay:
        _reduce(t, ref, readonly)
        return rc
    if not a.pin:
        found.domid = <uint16_t>domid
        found.pin = 0
        a[0] = found[0]
    a.pin += pin
    found.mfn, found.start, found.length = a.mfn, a.start, a.length
    return GNTST_okay


cdef void _end(machine_t *m, uint32_t owner_domid, uint32_t ref, bint readonly, uint64_t mfn) noexcept nogil:
    """Unpin, all along the way of a transitive grant, and give the reference on the frame back."""
    _unpin(find_domain(m, owner_domid), ref, readonly)
    put_page(m, mfn)


cdef void _unpin(domain_t *owner, uint32_t ref, bint readonly) noexcept nogil:
    cdef active_t a
    if owner == NULL:
        return
    a = owner.grants.active[ref]
    end_use(owner, ref, PIN_HOST_READ if readonly else PIN_HOST_WRITE)
    if a.source_domid != owner.domid:
        _unpin(find_domain(owner.machine, a.source_domid), a.source_ref, readonly)


# --- one side -----------------------------------------------------------------------------------------------------

cdef void _release(copy_side_t *side, bint readonly) noexcept nogil:
    if not side.claimed:
        return
    side.claimed = False
    if side.pinned:
        _unpin(side.domain, <uint32_t>side.name, readonly)
        side.pinned = False
    if side.has_type:
        side.has_type = False
        put_page_and_type(side.domain, side.mfn)
    put_page(side.domain.machine, side.mfn)


cdef int _claim(copier_t *c, copy_side_t *side, uint64_t name, bint is_ref, bint readonly) noexcept nogil:
    cdef active_t found
    cdef int rc
    memset(&found, 0, sizeof(found))
    if is_ref:
        rc = _pin(side.domain, <uint32_t>name, c.caller.domid, readonly, True, &found)
        if rc != GNTST_okay:
            return rc
        side.pinned = True
        side.mfn, side.start, side.length = found.mfn, found.start, found.length
    elif get_page(side.domain, name):
        return GNTST_bad_page
    else:
        side.mfn, side.start, side.length = name, 0, PAGE_SIZE
    side.name, side.is_ref, side.claimed = name, is_ref, True
    if readonly:
        return GNTST_okay
    # The frame of a transitive grant is the third domain's.
    if get_page_and_type(_owner_of(side), side.mfn, TYPE_WRITABLE):
        return GNTST_general_error
    side.has_type = True
    return GNTST_okay


cdef domain_t *_owner_of(copy_side_t *side) noexcept nogil:
    cdef machine_t *m = side.domain.machine
    cdef domain_t *owner = find_domain(m, m.frames[side.mfn].owner - 1)
    return owner if owner != NULL else side.domain


cdef int _name_domain(copier_t *c, copy_side_t *side, uint32_t domid, bint is_ref) noexcept nogil:
    if domid != DOMID_SELF and not is_ref:
        return GNTST_permission_denied
    side.domain = c.caller if domid == DOMID_SELF else find_domain(c.caller.machine, domid)
    side.domid = domid
    return GNTST_bad_domain if side.domain == NULL else GNTST_okay


cdef int _name_domains(copier_t *c, const xen_gnttab_copy *op) noexcept nogil:
    cdef int rc = _name_domain(c, &c.source, op.source.domid, op.flags & GNTCOPY_source_gref != 0)
    if rc == GNTST_okay:
        rc = _name_domain(c, &c.dest, op.dest.domid, op.flags & GNTCOPY_dest_gref != 0)
    if rc != GNTST_okay:
        c.source.domain = c.dest.domain = NULL
    return rc


cdef int _find(copier_t *c, copy_side_t *side, uint64_t frame, uint32_t ref, bint is_ref, bint readonly) noexcept nogil:
    """Have the side that an operation names, perhaps from the operation before."""
    cdef uint64_t name = ref if is_ref else frame
    if side.claimed and side.name == name and (side.pinned or not is_ref):
        return GNTST_okay
    _release(side, readonly)
    return _claim(c, side, name, is_ref, readonly)


# --- operations ---------------------------------------------------------------------------------------------------

cdef void start_copies(copier_t *c, domain_t *caller) noexcept nogil:
    memset(c, 0, sizeof(copier_t))
    c.caller = caller


cdef int _copy(copier_t *c, const xen_gnttab_copy *op) noexcept nogil:
    cdef uint32_t start = op.source.offset, to = op.dest.offset, length = op.len
    if start + length > PAGE_SIZE or to + length > PAGE_SIZE:
        return GNTST_bad_copy_arg
    if start < c.source.start or start + length > c.source.start + c.source.length:
        return GNTST_general_error
    if to < c.dest.start or to + length > c.dest.start + c.dest.length:
        return GNTST_general_error
    memmove(frame_pointer(c.caller.machine, c.dest.mfn) + to, frame_pointer(c.caller.machine, c.source.mfn) + start, length)
    frame_written(c.caller.machine, c.dest.mfn)
    return GNTST_okay


cdef int _attempt(copier_t *c, const xen_gnttab_copy *op) noexcept nogil:
    cdef int rc = GNTST_okay
    if c.source.domain == NULL or c.source.domid != op.source.domid or c.dest.domain == NULL or c.dest.domid != op.dest.domid:
        end_copies(c)
        rc = _name_domains(c, op)
    if rc == GNTST_okay:
        rc = _find(c, &c.source, op.source.u.gmfn, op.source.u.ref, op.flags & GNTCOPY_source_gref != 0, True)
    if rc == GNTST_okay:
        rc = _find(c, &c.dest, op.dest.u.gmfn, op.dest.u.ref, op.flags & GNTCOPY_dest_gref != 0, False)
    if rc == GNTST_okay:
        rc = _copy(c, op)
    if rc != GNTST_okay:
        _release(&c.source, True)
        _release(&c.dest, False)
    return rc


cdef int copy_one(copier_t *c, const xen_gnttab_copy *op) noexcept nogil:
    """One operation: its status."""
    cdef int rc = _attempt(c, op)
    if rc == AGAIN:
        rc = _attempt(c, op)
    return GNTST_general_error if rc == AGAIN else rc       # on Xen a guest that still gets this waits for ever


cdef void end_copies(copier_t *c) noexcept nogil:
    _release(&c.source, True)
    _release(&c.dest, False)
    c.source.domain = c.dest.domain = NULL


cdef int host_copy(domain_t *host, uint32_t domid, uint32_t ref, uint32_t offset, uint32_t length, uint8_t *buffer,
                   bint to_guest) noexcept nogil:
    """A backend's copy between a grant to domain 0 and memory of the host: a GNTST_* status."""
    cdef copier_t c
    cdef copy_side_t *side
    cdef uint8_t *page
    cdef int rc
    if offset > PAGE_SIZE or length > PAGE_SIZE - offset:
        return GNTST_bad_copy_arg
    start_copies(&c, host)
    side = &c.dest if to_guest else &c.source
    rc = _name_domain(&c, side, domid, True)
    if rc == GNTST_okay:
        rc = _find(&c, side, 0, ref, True, not to_guest)
    if rc == GNTST_okay and (offset < side.start or offset + length > side.start + side.length):
        rc = GNTST_general_error
    if rc == GNTST_okay:
        page = frame_pointer(host.machine, side.mfn) + offset
        if to_guest:
            memcpy(page, buffer, length)
            frame_written(host.machine, side.mfn)
        else:
            memcpy(buffer, page, length)
    end_copies(&c)
    return rc
