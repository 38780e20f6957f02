# cython: language_level=3
"""Frames of other domains that a domain holds by grants: a hash table, by machine frame.

Rules:
* It counts page-table entries, not grants: one is added where a grant puts an entry into a page table, and removed where
  an entry of a foreign frame leaves one, whoever takes it out. So the wall (memory.walk) lets through exactly what is
  mapped, and a domain's death gives back exactly what it held.
* Device mappings show in no page table; they hold a frame and open nothing.

Open addressing with linear probing; a removal moves the entries behind it up, so there are no tombstones.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from hv.fastpath.memory cimport owns
from hv.fastpath.state cimport grant_table_t

cdef enum:
    FIRST_SIZE = 64


cdef uint32_t _home(const grant_table_t *t, uint64_t tag) noexcept nogil:
    return <uint32_t>((tag * <uint64_t>0x9e3779b1) >> 7) & (t.foreign_size - 1)


cdef uint32_t _index(const grant_table_t *t, uint64_t tag) noexcept nogil:
    """Where the frame is, or would be."""
    cdef uint32_t i = _home(t, tag)
    while t.foreign[i].tag and t.foreign[i].tag != tag:
        i = (i + 1) & (t.foreign_size - 1)
    return i


cdef foreign_t *_slot(grant_table_t *t, uint64_t tag) noexcept nogil:
    return &t.foreign[_index(t, tag)]


cdef int _grow(grant_table_t *t) noexcept nogil:
    """Twice as large: 0, or -1 without memory."""
    cdef foreign_t *old = t.foreign
    cdef uint32_t i, size = t.foreign_size
    cdef foreign_t *larger = <foreign_t *>calloc(2 * size if size else FIRST_SIZE, sizeof(foreign_t))
    if larger == NULL:
        return -1
    t.foreign = larger
    t.foreign_size = 2 * size if size else FIRST_SIZE
    for i in range(size):
        if old[i].tag:
            _slot(t, old[i].tag)[0] = old[i]
    free(old)
    return 0


cdef foreign_t *_find_foreign(domain_t *d, uint64_t mfn) noexcept nogil:
    """What the domain holds of a frame; NULL for nothing."""
    cdef foreign_t *f
    if d.grants == NULL or d.grants.foreign_used == 0:
        return NULL
    f = _slot(d.grants, mfn + 1)
    return f if f.tag else NULL


cdef bint may_reach(domain_t *d, uint64_t mfn, bint writable) noexcept nogil:
    """The wall's question: whether an entry of the domain's page tables for this foreign frame can be right."""
    cdef foreign_t *f = _find_foreign(d, mfn)
    return f != NULL and (f.writes or (f.reads and not writable))


cdef int add_foreign(domain_t *d, uint64_t mfn, bint writable, bint device) noexcept nogil:
    """One reference more; nothing to do for a frame of its own. 0, or -1 without memory."""
    cdef grant_table_t *t = d.grants
    cdef foreign_t *f
    cdef domain_t *zombie
    if owns(d, mfn):
        return 0
    if 2 * t.foreign_used >= t.foreign_size and _grow(t):
        return -1
    f = _slot(t, mfn + 1)
    if f.tag == 0:
        f.tag = mfn + 1
        t.foreign_used += 1
    if device:
        if writable:
            f.device_writes += 1
        else:
            f.device_reads += 1
    elif writable:
        f.writes += 1
    else:
        f.reads += 1
    zombie = _find_zombie(d.machine, d.machine.frames[mfn].owner)
    if zombie != NULL:
        zombie.held += 1
    return 0


cdef void remove_foreign(domain_t *d, uint64_t mfn, bint writable, bint device) noexcept nogil:
    """One reference less, which the table has. Before the frame loses it: then it may be anybody's."""
    cdef foreign_t *f
    cdef domain_t *zombie
    if owns(d, mfn):
        return
    f = _slot(d.grants, mfn + 1)
    assert f.tag
    if device:
        if writable:
            f.device_writes -= 1
        else:
            f.device_reads -= 1
    elif writable:
        f.writes -= 1
    else:
        f.reads -= 1
    zombie = _find_zombie(d.machine, d.machine.frames[mfn].owner)
    if zombie != NULL:
        zombie.held -= 1
    if not (f.reads or f.writes or f.device_reads or f.device_writes):
        _remove(d.grants, _index(d.grants, mfn + 1))


cdef void _remove(grant_table_t *t, uint32_t hole) noexcept nogil:
    cdef uint32_t size = t.foreign_size, mask = size - 1, i = hole, home
    while True:
        i = (i + 1) & mask
        if t.foreign[i].tag == 0:
            break
        home = _home(t, t.foreign[i].tag)
        if (i + size - home) & mask >= (i + size - hole) & mask:        # it may stand in the hole
            t.foreign[hole] = t.foreign[i]
            hole = i
    memset(&t.foreign[hole], 0, sizeof(foreign_t))
    t.foreign_used -= 1


cdef domain_t *_find_zombie(machine_t *m, uint64_t owner) noexcept nogil:
    """The destroyed domain that a frame belongs to; `owner` as in frame_t. NULL for any other."""
    cdef domain_t *d = m.zombies
    while d != NULL and d.domid + 1 != owner:
        d = d.next_zombie
    return d
