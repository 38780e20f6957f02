# cython: language_level=3
"""Grant entries in guest memory: how version 1 and version 2 write a grant down, and how its use is noted there.

Rules:
* What stands in an entry is the guest's word: it is read once, checked, and never believed again.
* A grant that is in use is noted (GTF_reading, GTF_writing) before it is used, so that the guest can see it: in version 1
  in the entry itself, in version 2 in a status word of its own.
* Nobody else tests the version: `grant_table_t.ops` points at the table.

Specification: grant_table.h; behaviour of Xen 4.17's common/grant_table.c (_set_status_v1, _set_status_v2).
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from xen_abi cimport (GNTST_general_error, GNTST_okay, GTF_permit_access, GTF_reading, GTF_readonly, GTF_sub_page, GTF_transitive,
                      GTF_type_mask, GTF_writing, xen_grant_entry_header, xen_grant_entry_v1, xen_grant_entry_v2)
from hv.fastpath.memory cimport frame_pointer, frame_written
from hv.fastpath.state cimport PAGE_SHIFT, PAGE_SIZE


cdef uint8_t *_place(grant_table_t *t, const uint64_t *mfns, uint32_t offset) noexcept nogil:
    return frame_pointer(t.domain.machine, mfns[offset >> PAGE_SHIFT]) + (offset & (PAGE_SIZE - 1))


cdef xen_grant_entry_v1 *_v1(grant_table_t *t, uint32_t ref) noexcept nogil:
    return <xen_grant_entry_v1 *>_place(t, t.mfns, ref * <uint32_t>sizeof(xen_grant_entry_v1))


cdef xen_grant_entry_v2 *_v2(grant_table_t *t, uint32_t ref) noexcept nogil:
    return <xen_grant_entry_v2 *>_place(t, t.mfns, ref * <uint32_t>sizeof(xen_grant_entry_v2))


cdef void entry_written(grant_table_t *t, uint32_t ref) noexcept nogil:
    """The table is the guest's memory, and may even hold code."""
    frame_written(t.domain.machine, t.mfns[ref << t.ops.entry_shift >> PAGE_SHIFT])


cdef void clear_status(grant_table_t *t, uint32_t ref, uint16_t flags) noexcept nogil:
    t.ops.status(t, ref)[0] &= ~flags


# --- version 1 ----------------------------------------------------------------------------------------------------

cdef xen_grant_entry_header *_header_v1(grant_table_t *t, uint32_t ref) noexcept nogil:
    return <xen_grant_entry_header *>_v1(t, ref)


cdef uint16_t *_status_v1(grant_table_t *t, uint32_t ref) noexcept nogil:
    return &_v1(t, ref).flags


cdef uint64_t _frame_v1(grant_table_t *t, uint32_t ref) noexcept nogil:
    return _v1(t, ref).frame


cdef void _set_frame_v1(grant_table_t *t, uint32_t ref, uint64_t mfn) noexcept nogil:
    _v1(t, ref).frame = <uint32_t>mfn


cdef void _whole_page(grant_table_t *t, uint32_t ref, active_t *a) noexcept nogil:
    a.mfn = t.ops.frame(t, ref)
    a.start = 0
    a.length = PAGE_SIZE
    a.is_sub_page = 0
    a.source_domid = <uint16_t>t.domain.domid
    a.source_ref = ref


cdef bint _never_transitive(grant_table_t *t, uint32_t ref, active_t *a) noexcept nogil:
    return False


cdef int _set_status_v1(grant_table_t *t, uint32_t ref, const active_t *a, bint readonly, bint mapping,
                        uint32_t domid) noexcept nogil:
    cdef xen_grant_entry_v1 *entry = _v1(t, ref)
    cdef uint16_t mask = GTF_type_mask | GTF_sub_page if mapping else GTF_type_mask
    if not a.pin and (entry.flags & mask != GTF_permit_access or entry.domid != domid):
        return GNTST_general_error
    if readonly:
        entry.flags |= GTF_reading
    elif entry.flags & GTF_readonly:
        return GNTST_general_error
    else:
        entry.flags |= GTF_reading | GTF_writing
    entry_written(t, ref)
    return GNTST_okay


cdef void _swap_v1(grant_table_t *t, uint32_t a, uint32_t b) noexcept nogil:
    cdef xen_grant_entry_v1 entry = _v1(t, a)[0]
    _v1(t, a)[0] = _v1(t, b)[0]
    _v1(t, b)[0] = entry


# --- version 2 ----------------------------------------------------------------------------------------------------

cdef xen_grant_entry_header *_header_v2(grant_table_t *t, uint32_t ref) noexcept nogil:
    return &_v2(t, ref).hdr


cdef uint16_t *_status_v2(grant_table_t *t, uint32_t ref) noexcept nogil:
    return <uint16_t *>_place(t, t.status_mfns, ref * <uint32_t>sizeof(uint16_t))


cdef uint64_t _frame_v2(grant_table_t *t, uint32_t ref) noexcept nogil:
    return _v2(t, ref).full_page.frame


cdef void _set_frame_v2(grant_table_t *t, uint32_t ref, uint64_t mfn) noexcept nogil:
    _v2(t, ref).full_page.frame = mfn


cdef void _part_v2(grant_table_t *t, uint32_t ref, active_t *a) noexcept nogil:
    cdef xen_grant_entry_v2 entry = _v2(t, ref)[0]
    _whole_page(t, ref, a)
    if entry.hdr.flags & GTF_sub_page:
        a.mfn = entry.sub_page.frame
        a.is_sub_page = 1
        a.start = entry.sub_page.page_off & 0x7fff      # Xen keeps 15 bits of it
        a.length = entry.sub_page.length


cdef bint _transitive_v2(grant_table_t *t, uint32_t ref, active_t *a) noexcept nogil:
    cdef xen_grant_entry_v2 entry = _v2(t, ref)[0]
    if entry.hdr.flags & GTF_type_mask != GTF_transitive:
        return False
    a.source_domid = entry.transitive.trans_domid
    a.source_ref = entry.transitive.gref
    return True


cdef int _set_status_v2(grant_table_t *t, uint32_t ref, const active_t *a, bint readonly, bint mapping,
                        uint32_t domid) noexcept nogil:
    cdef xen_grant_entry_header header = _header_v2(t, ref)[0]
    cdef uint16_t kind = header.flags & (GTF_type_mask | GTF_sub_page if mapping else GTF_type_mask)
    if not a.pin and ((kind != GTF_permit_access and (mapping or kind != GTF_transitive)) or header.domid != domid):
        return GNTST_general_error
    if not readonly and header.flags & GTF_readonly:
        return GNTST_general_error
    _status_v2(t, ref)[0] |= GTF_reading if readonly else GTF_reading | GTF_writing
    return GNTST_okay


cdef void _swap_v2(grant_table_t *t, uint32_t a, uint32_t b) noexcept nogil:
    cdef xen_grant_entry_v2 entry = _v2(t, a)[0]
    cdef uint16_t status = _status_v2(t, a)[0]
    _v2(t, a)[0] = _v2(t, b)[0]
    _status_v2(t, a)[0] = _status_v2(t, b)[0]
    _v2(t, b)[0] = entry
    _status_v2(t, b)[0] = status


ops_v1.version = 1
ops_v1.entry_shift = 3
ops_v1.header = _header_v1
ops_v1.status = _status_v1
ops_v1.frame = _frame_v1
ops_v1.set_frame = _set_frame_v1
ops_v1.part = _whole_page
ops_v1.transitive = _never_transitive
ops_v1.set_status = _set_status_v1
ops_v1.swap = _swap_v1

ops_v2.version = 2
ops_v2.entry_shift = 4
ops_v2.header = _header_v2
ops_v2.status = _status_v2
ops_v2.frame = _frame_v2
ops_v2.set_frame = _set_frame_v2
ops_v2.part = _part_v2
ops_v2.transitive = _transitive_v2
ops_v2.set_status = _set_status_v2
ops_v2.swap = _swap_v2
