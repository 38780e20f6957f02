# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from hv.fastpath.state cimport domain_t, machine_t

cdef uint64_t take_frame(machine_t *m) noexcept nogil
cdef uint64_t give_frame(domain_t *d, uint64_t pfn) noexcept nogil
cdef uint64_t give_extent(domain_t *d, uint64_t pfn, uint32_t order) noexcept nogil
cdef uint64_t give_xenheap_frame(domain_t *d) noexcept nogil
cdef void forget_frame(machine_t *m, uint64_t mfn) noexcept nogil
cdef void free_frame(machine_t *m, uint64_t mfn) noexcept nogil
cdef int get_page(domain_t *d, uint64_t mfn) noexcept nogil
cdef void put_page(machine_t *m, uint64_t mfn) noexcept nogil
cdef int release_page(domain_t *d, uint64_t mfn) noexcept nogil
