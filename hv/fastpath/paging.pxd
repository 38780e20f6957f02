# cython: language_level=3
from libc.stdint cimport int64_t, uint64_t
from hv.fastpath.state cimport domain_t, vcpu_t

cdef int get_page_and_type(domain_t *d, uint64_t mfn, int type) noexcept nogil
cdef void put_page_and_type(domain_t *d, uint64_t mfn) noexcept nogil
cdef int write_entry(domain_t *d, uint64_t address, uint64_t value, bint preserve_ad, bint as_io) noexcept nogil
cdef int write_m2p(domain_t *d, uint64_t mfn, uint64_t pfn, bint as_io) noexcept nogil
cdef bint is_l1_table(domain_t *d, uint64_t mfn) noexcept nogil
cdef bint write_trapped(domain_t *d, uint64_t mfn, uint64_t offset, uint64_t value) noexcept nogil
cdef int write_descriptor(domain_t *d, uint64_t address, uint64_t value) noexcept nogil
cdef bint map_ldt_page(vcpu_t *v, uint64_t offset) noexcept nogil
cdef void unmap_ldt(vcpu_t *v) noexcept nogil
cdef int update_l1_of(vcpu_t *v, uint64_t va, uint64_t value) noexcept nogil
cdef int pin(domain_t *d, uint64_t mfn, int type) noexcept nogil
cdef int unpin(domain_t *d, uint64_t mfn) noexcept nogil
cdef int new_root(vcpu_t *v, uint64_t mfn) noexcept nogil
cdef int new_user_root(vcpu_t *v, uint64_t mfn) noexcept nogil
cdef uint64_t adjust_entry(int level, uint64_t entry) noexcept nogil
cdef void put_target(domain_t *d, int level, uint64_t entry, uint64_t table) noexcept nogil
