# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from hv.fastpath.memory cimport owns
from hv.fastpath.state cimport domain_t, machine_t
from xen_abi cimport XEN_EINVAL

cdef uint64_t give_frame(domain_t *d, uint64_t pfn) noexcept nogil
cdef uint64_t give_extent(domain_t *d, uint64_t pfn, uint32_t order) noexcept nogil
cdef uint64_t give_xenheap_frame(domain_t *d) noexcept nogil
cdef void forget_frame(machine_t *m, uint64_t mfn) noexcept nogil
cdef void free_frame(machine_t *m, uint64_t mfn) noexcept nogil
cdef void last_reference_gone(machine_t *m, uint64_t mfn) noexcept nogil
cdef int release_page(domain_t *d, uint64_t mfn) noexcept nogil


cdef inline int get_page(domain_t *d, uint64_t mfn) noexcept nogil:
    """Take a reference: 0, or -EINVAL for a frame that is not the domain's."""
    if not owns(d, mfn) or d.machine.frames[mfn].count == <uint32_t>-1:
        return -XEN_EINVAL
    d.machine.frames[mfn].count += 1
    return 0


cdef inline void put_page(machine_t *m, uint64_t mfn) noexcept nogil:
    assert m.frames[mfn].count > 0
    m.frames[mfn].count -= 1
    if m.frames[mfn].count == 0:
        last_reference_gone(m, mfn)
