# cython: language_level=3
"""Which virtual address an entry of a page table maps: for the trace, which is told the entry's machine address only.

Rules:
* The answer is looked for under the vCPU's kernel root, and checked there; a table that is not linked has none.
* The search is bounded: at most MOST_TABLES tables are read. Where a table was found last is tried first.
"""
from libc.stdint cimport uint32_t, uint64_t
from hv.fastpath.memory cimport ADDRESS_MASK, PTE_PRESENT, PTE_PSE, owns
from hv.fastpath.state cimport PAGE_SHIFT, PLACES, domain_t, place_t

cdef enum:
    MOST_TABLES = 64             # read in one search: with their last level they map 64 GiB


cdef uint64_t _child(domain_t *d, uint64_t table, uint64_t index) noexcept nogil:
    """The table that an entry leads to; 0 is none."""
    cdef uint64_t entry, mfn
    if not owns(d, table):
        return 0
    entry = (<uint64_t *>(d.machine.ram + (table << PAGE_SHIFT)))[index]
    mfn = (entry & ADDRESS_MASK) >> PAGE_SHIFT
    return mfn if entry & PTE_PRESENT and not entry & PTE_PSE and owns(d, mfn) else 0


cdef bint _is_there(domain_t *d, uint64_t root, uint64_t va, int level, uint64_t table) noexcept nogil:
    """Whether the walk of an address comes to `table` at `level`."""
    cdef uint64_t at = root
    cdef int l
    for l in range(4, level, -1):
        at = _child(d, at, va >> (12 + 9 * (l - 1)) & 511)
        if not at:
            return False
    return at == table


cdef bint _search(domain_t *d, uint64_t at, int level, int wanted, uint64_t table, uint64_t *va, uint32_t *budget) noexcept nogil:
    """Depth first below the table `at`; `va` is where it maps, and becomes the answer."""
    cdef uint64_t i, child, here = va[0]
    if level == wanted:
        return at == table
    if budget[0] == 0:
        return False
    budget[0] -= 1
    for i in range(512):
        if level == 4 and 256 <= i < 272:               # the hypervisor's
            continue
        child = _child(d, at, i)
        if child and child != at:
            va[0] = here | i << (12 + 9 * (level - 1))
            if _search(d, child, level - 1, wanted, table, va, budget):
                return True
    return False


cdef uint64_t mapped_at(vcpu_t *v, int level, uint64_t table, uint64_t slot) noexcept nogil:
    """The first address that the entry at machine address `slot` of a table maps, or UNKNOWN_ADDRESS."""
    cdef domain_t *d = v.domain
    cdef place_t *place = &d.machine.trace.places[table & (PLACES - 1)]
    cdef uint64_t va = place.va
    cdef uint32_t budget = MOST_TABLES
    if place.table != table or not _is_there(d, v.kernel_root, va, level, table):
        va = 0
        if not _search(d, v.kernel_root, 4, level, table, &va, &budget):
            return UNKNOWN_ADDRESS
        place.table, place.va = table, va
    va |= (slot >> 3 & 511) << (12 + 9 * (level - 1))
    return va | 0xffff000000000000ULL if va >> 47 else va
