# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from hv.fastpath.state cimport domain_t
from xen_abi cimport xen_gnttab_copy

ctypedef struct copy_side_t:     # a side of a copy, kept from one operation to the next of a call
    domain_t *domain
    uint32_t domid               # as the operation named it
    uint64_t name                # ref or frame number
    bint is_ref
    bint claimed
    bint has_type
    bint pinned
    uint64_t mfn
    uint32_t start
    uint32_t length

ctypedef struct copier_t:
    domain_t *caller
    copy_side_t source
    copy_side_t dest

cdef void start_copies(copier_t *c, domain_t *caller) noexcept nogil
cdef int copy_one(copier_t *c, const xen_gnttab_copy *op) noexcept nogil
cdef void end_copies(copier_t *c) noexcept nogil
cdef int host_copy(domain_t *host, uint32_t domid, uint32_t ref, uint32_t offset, uint32_t length, uint8_t *buffer,
                   bint to_guest) noexcept nogil
