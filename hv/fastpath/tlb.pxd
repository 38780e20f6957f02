# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from hv.fastpath.memory cimport walk_t
from hv.fastpath.state cimport domain_t, frame_t, machine_t

cdef void entry_changed(domain_t *d, int level, uint64_t table, uint64_t old) noexcept nogil
cdef void root_changes(domain_t *d, uint64_t old, uint64_t new) noexcept nogil
cdef void user_changes(domain_t *d) noexcept nogil
cdef void is_filled(domain_t *d, uint64_t va, bint kernel, const walk_t *w) noexcept nogil
cdef void is_flushed(domain_t *d) noexcept nogil
cdef bint may_be_used(domain_t *d, const frame_t *f) noexcept nogil
