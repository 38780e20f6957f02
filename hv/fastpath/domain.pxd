# cython: language_level=3
from hv.fastpath.state cimport domain_t

cdef void crash(domain_t *d, const char *reason) noexcept nogil
cdef void shutdown(domain_t *d, int code) noexcept nogil
cdef void fix_shutdown_code(domain_t *d, int code) noexcept nogil
