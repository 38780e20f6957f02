# cython: language_level=3
"""HYPERVISOR_grant_table_op, as far as it is served without Python: everything that takes an array of operations.

Rules:
* One row of `_rows` is one sub-operation: its structure's size, where and how much of it is written back, and its function.
* A failing operation has its status in its structure, and the next one goes on; only a structure that can not be read or
  written ends the call (-EFAULT).
* A call stops after BATCH operations and is made again with the rest.

Set-up, versions and sizes are served by hv/hypercalls/grant_table_op.py. Behaviour: Xen 4.17's do_grant_table_op.
"""
from libc.stdint cimport int16_t, int64_t, uint8_t, uint32_t, uint64_t
from xen_abi cimport *
from hv.engine.hypercall cimport COLD, PREEMPTED
from hv.fastpath.grant_copy cimport copier_t, copy_one, end_copies, start_copies
from hv.fastpath.grant_table cimport swap_entries
from hv.fastpath.grant_transfer cimport cache_flush, transfer
from hv.fastpath.grants cimport map_grant_ref, unmap_and_replace, unmap_grant_ref
from hv.fastpath.memory cimport HV_END, copy_from_guest, copy_to_guest
from hv.fastpath.state cimport vcpu_t

cdef enum:
    BATCH = 1024
    LARGEST = 64                 # bytes of an operation's structure, at most
    COMMAND = 0xfff              # the rest of the register belongs to continuations
    LAST_ROW = GNTTABOP_cache_flush

ctypedef int (*serve_t)(vcpu_t *v, void *op) noexcept nogil

ctypedef struct row_t:
    uint32_t size
    uint32_t back                # offset of what is written back; its size is 0 for nothing
    uint32_t back_size
    serve_t serve                # 0, or a negative errno that ends the call; NULL: not here

cdef row_t[LAST_ROW + 1] _rows


cdef int _map(vcpu_t *v, void *op) noexcept nogil:
    map_grant_ref(v, <xen_gnttab_map_grant_ref *>op)
    return 0


cdef int _unmap(vcpu_t *v, void *op) noexcept nogil:
    unmap_grant_ref(v, <xen_gnttab_unmap_grant_ref *>op)
    return 0


cdef int _replace(vcpu_t *v, void *op) noexcept nogil:
    unmap_and_replace(v, <xen_gnttab_unmap_and_replace *>op)
    return 0


cdef int _transfer(vcpu_t *v, void *op) noexcept nogil:
    (<xen_gnttab_transfer *>op).status = <int16_t>transfer(v.domain, <xen_gnttab_transfer *>op)
    return 0


cdef int _swap(vcpu_t *v, void *op) noexcept nogil:
    cdef xen_gnttab_swap_grant_ref *swap = <xen_gnttab_swap_grant_ref *>op
    swap.status = <int16_t>swap_entries(v.domain.grants, swap.ref_a, swap.ref_b)
    return 0


cdef int _cache_flush(vcpu_t *v, void *op) noexcept nogil:
    return cache_flush(v.domain, <xen_gnttab_cache_flush *>op)


cdef void _fill_rows() noexcept:
    cdef xen_gnttab_unmap_grant_ref unmap
    cdef xen_gnttab_unmap_and_replace replace
    cdef xen_gnttab_transfer move
    cdef xen_gnttab_swap_grant_ref swap
    _rows[GNTTABOP_map_grant_ref] = row_t(sizeof(xen_gnttab_map_grant_ref), 0, sizeof(xen_gnttab_map_grant_ref), _map)
    _rows[GNTTABOP_unmap_grant_ref] = row_t(sizeof(unmap), <uint32_t>(<uint8_t *>&unmap.status - <uint8_t *>&unmap), 2, _unmap)
    _rows[GNTTABOP_unmap_and_replace] = row_t(
        sizeof(replace), <uint32_t>(<uint8_t *>&replace.status - <uint8_t *>&replace), 2, _replace)
    _rows[GNTTABOP_transfer] = row_t(sizeof(move), <uint32_t>(<uint8_t *>&move.status - <uint8_t *>&move), 2, _transfer)
    _rows[GNTTABOP_swap_grant_ref] = row_t(sizeof(swap), <uint32_t>(<uint8_t *>&swap.status - <uint8_t *>&swap), 2, _swap)
    _rows[GNTTABOP_cache_flush] = row_t(sizeof(xen_gnttab_cache_flush), 0, 0, _cache_flush)


cdef int64_t _each(vcpu_t *v, const row_t *row, uint64_t *args) noexcept nogil:
    cdef uint8_t[LARGEST] op
    cdef uint32_t count = <uint32_t>args[2], i
    cdef uint64_t at = args[1]
    cdef int rc
    for i in range(min(count, <uint32_t>BATCH)):
        if copy_from_guest(v, op, at, row.size):
            return -XEN_EFAULT
        rc = row.serve(v, op)
        if rc:
            return rc
        if row.back_size and copy_to_guest(v, at + row.back, &op[row.back], row.back_size):
            return -XEN_EFAULT
        at += row.size
    return _rest(args, at, count)


cdef int64_t _copies(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef copier_t copier
    cdef xen_gnttab_copy op
    cdef uint32_t count = <uint32_t>args[2], i
    cdef uint64_t at = args[1]
    cdef int64_t rc = 0
    start_copies(&copier, v.domain)
    for i in range(min(count, <uint32_t>BATCH)):
        if copy_from_guest(v, &op, at, sizeof(op)):
            rc = -XEN_EFAULT
            break
        op.status = <int16_t>copy_one(&copier, &op)
        if copy_to_guest(v, at + (<uint8_t *>&op.status - <uint8_t *>&op), &op.status, sizeof(op.status)):
            rc = -XEN_EFAULT
            break
        at += sizeof(op)
    end_copies(&copier)
    return rc if rc else _rest(args, at, count)


cdef int64_t _rest(uint64_t *args, uint64_t at, uint32_t count) noexcept nogil:
    if count <= BATCH:
        return 0
    args[1] = at
    args[2] = count - BATCH
    return PREEMPTED


cdef int64_t hot_grant_table_op(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef uint32_t command = <uint32_t>args[0] & COMMAND
    cdef bint copying = command == GNTTABOP_copy
    if <uint32_t>args[2] >> 31 or (<uint32_t>args[0] & ~<uint32_t>COMMAND and command != GNTTABOP_cache_flush):
        return -XEN_EINVAL
    if command > LAST_ROW or (_rows[command].serve == NULL and not copying):
        return COLD
    if args[1] >> 47 and args[1] < HV_END:              # no address of a guest: refused even without operations
        return -XEN_EFAULT
    return _copies(v, args) if copying else _each(v, &_rows[command], args)


_fill_rows()
