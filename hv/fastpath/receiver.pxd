# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from hv.fastpath.state cimport batch_t, domain_t, entry_t

cdef int open_receiver(domain_t *d) noexcept
cdef void close_receiver(domain_t *d) noexcept
cdef int receive(domain_t *d) except -1 nogil
cdef void detach(domain_t *d, uint32_t port) noexcept nogil
cdef void forget(domain_t *d, uint32_t port) noexcept nogil
cdef int collect(entry_t *entry, uint32_t port) noexcept nogil
