# cython: language_level=3
from hv.fastpath.state cimport vcpu_t

cdef void guest_cpuid(vcpu_t *v) noexcept nogil
