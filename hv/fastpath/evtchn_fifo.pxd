# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from hv.fastpath.state cimport domain_t, port_ops_t

cdef port_ops_t ops_fifo

cdef int init_control(domain_t *d, uint32_t vcpu, uint64_t mfn, uint32_t offset) noexcept nogil
cdef int expand_array(domain_t *d, uint64_t mfn) noexcept nogil
cdef void leave_fifo(domain_t *d) noexcept nogil
