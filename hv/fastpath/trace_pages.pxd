# cython: language_level=3
from libc.stdint cimport uint64_t
from hv.fastpath.state cimport vcpu_t

cdef extern from * nogil:
    """
    #define UNKNOWN_ADDRESS 0xffffffffffffffffULL
    """
    const uint64_t UNKNOWN_ADDRESS

cdef uint64_t mapped_at(vcpu_t *v, int level, uint64_t table, uint64_t slot) noexcept nogil
