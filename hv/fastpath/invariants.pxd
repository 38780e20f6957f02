# cython: language_level=3
from hv.fastpath.state cimport domain_t

cdef const char *broken_invariant(domain_t *d) noexcept nogil    # what does not hold, or NULL
