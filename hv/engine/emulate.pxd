# cython: language_level=3
from hv.fastpath.state cimport vcpu_t

cdef bint privileged(vcpu_t *v) noexcept nogil
cdef bint forced_cpuid(vcpu_t *v) noexcept nogil
