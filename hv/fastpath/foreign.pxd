# cython: language_level=3
from libc.stdint cimport uint64_t
from hv.fastpath.state cimport domain_t, foreign_t, machine_t

cdef int add_foreign(domain_t *d, uint64_t mfn, bint writable, bint device) noexcept nogil
cdef void remove_foreign(domain_t *d, uint64_t mfn, bint writable, bint device) noexcept nogil
cdef bint may_reach(domain_t *d, uint64_t mfn, bint writable) noexcept nogil
