# cython: language_level=3
from hv.fastpath.state cimport domain_t
from xen_abi cimport xen_gnttab_cache_flush, xen_gnttab_transfer

cdef int transfer(domain_t *d, const xen_gnttab_transfer *op) noexcept nogil
cdef int cache_flush(domain_t *d, const xen_gnttab_cache_flush *op) noexcept nogil
