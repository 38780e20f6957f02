# cython: language_level=3
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from hv.fastpath.state cimport PAGE_SHIFT, domain_t, grant_table_t

cdef grant_table_t *new_table(domain_t *d, uint32_t max_version, uint32_t max_frames, uint32_t max_maptrack_frames) noexcept nogil
cdef void free_table(grant_table_t *t) noexcept nogil
cdef int grow(grant_table_t *t, uint32_t count) noexcept nogil
cdef int set_version(grant_table_t *t, uint32_t version) noexcept nogil
cdef uint32_t take_handle(grant_table_t *t, uint32_t vcpu) noexcept nogil
cdef void give_handle(grant_table_t *t, uint32_t handle) noexcept nogil
cdef int swap_entries(grant_table_t *t, uint32_t a, uint32_t b) noexcept nogil

cdef enum:
    NO_HANDLE = 0xffffffff


cdef inline uint32_t nr_entries(const grant_table_t *t) noexcept nogil:
    return t.nr_frames << PAGE_SHIFT >> t.ops.entry_shift
