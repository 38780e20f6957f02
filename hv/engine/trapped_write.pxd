# cython: language_level=3
from libc.stdint cimport uint32_t
from hv.fastpath.state cimport vcpu_t

cdef bint trapped_write(vcpu_t *v, uint32_t error) noexcept nogil
