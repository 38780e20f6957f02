# cython: language_level=3
from libc.stdint cimport int64_t, uint32_t, uint64_t
from hv.fastpath.state cimport domain_t, port_t, vcpu_t

cdef enum:
    PORTS_A_BUCKET = 64

cdef bint is_usable(domain_t *d, uint32_t port) noexcept nogil
cdef int64_t free_port(domain_t *d) noexcept nogil
cdef void close_port(domain_t *d, uint32_t port) noexcept nogil
cdef int set_priority(domain_t *d, uint32_t port, uint32_t priority) noexcept nogil
cdef void set_pending(domain_t *d, uint32_t port) noexcept nogil
cdef int64_t send(domain_t *d, uint32_t port) noexcept nogil
cdef int64_t unmask(domain_t *d, uint32_t port) noexcept nogil
cdef int64_t poll(domain_t *d, uint32_t port) noexcept nogil
cdef void raise_virq(vcpu_t *v, uint32_t virq) noexcept nogil
