# cython: language_level=3
from libc.stdint cimport int64_t, uint64_t
from hv.fastpath.state cimport vcpu_t

cdef int64_t hot_mmu_update(vcpu_t *v, uint64_t *args) noexcept nogil
cdef int64_t hot_update_va_mapping(vcpu_t *v, uint64_t *args) noexcept nogil
cdef int64_t hot_update_va_mapping_otherdomain(vcpu_t *v, uint64_t *args) noexcept nogil
cdef int64_t hot_mmuext_op(vcpu_t *v, uint64_t *args) noexcept nogil
