# cython: language_level=3
from hv.fastpath.state cimport domain_t

cdef int scan_fifo(domain_t *d) noexcept nogil
