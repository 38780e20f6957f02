# cython: language_level=3
from hv.fastpath.state cimport domain_t, machine_t, vcpu_t

cdef void crash(domain_t *d, const char *reason) noexcept nogil
cdef void shutdown(domain_t *d, int code) noexcept nogil
cdef void wake(vcpu_t *v) noexcept nogil
