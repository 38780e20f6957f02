# cython: language_level=3
from libc.stdint cimport uint64_t
from hv.fastpath.state cimport vcpu_t

cdef uint64_t guest_cr4(uint64_t value) noexcept nogil
cdef bint privileged(vcpu_t *v) noexcept nogil
cdef bint forced_cpuid(vcpu_t *v) noexcept nogil
