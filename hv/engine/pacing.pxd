# cython: language_level=3
from libc.stdint cimport int64_t, uint64_t
from hv.fastpath.state cimport machine_t

cpdef int64_t made_up(int64_t behind, int64_t passed) noexcept nogil
cpdef int64_t left_out(int64_t behind) noexcept nogil
cpdef int64_t wait_for(int64_t left, int64_t behind) noexcept nogil
cdef uint64_t follow_host(machine_t *m) noexcept nogil
