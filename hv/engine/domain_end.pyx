# cython: language_level=3
"""The end of domains: what becomes of their memory, and of frames that others still hold.

Rules:
* Every frame of a domain is cleared before it is free again; hv.fastpath.frames keeps the books.
* What another domain maps outlives its owner, with the owner's name and grant table: a zombie, until the last is unmapped.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from hv.engine.cpu cimport close_instance
from hv.fastpath.frames cimport forget_frame, free_frame
from hv.fastpath.grant_table cimport free_table
from hv.fastpath.memory cimport frame_pointer
from hv.fastpath.points cimport forget_points
from hv.fastpath.receiver cimport close_receiver
from hv.fastpath.state cimport *

cdef extern from "sys/mman.h" nogil:
    int madvise(void *, size_t, int)
    int MADV_DONTNEED


cdef void keep_held(machine_t *m, domain_t *d) noexcept:
    """Frames of a dying domain that others map outlive it, with just these references; and so does its grant table."""
    cdef uint32_t i, k, n
    cdef foreign_t *f
    cdef frame_t *frame
    d.held = 0
    for i in range(m.nr_domains):
        for k in range(m.domains[i].grants.foreign_size):
            f = &m.domains[i].grants.foreign[k]
            if f.tag == 0 or m.frames[f.tag - 1].owner != d.domid + 1:
                continue
            frame = &m.frames[f.tag - 1]
            if not frame.flags & FRAME_KEPT:
                frame.count = frame.type_count = 0
                frame.flags = FRAME_KEPT | FRAME_GRANTED
            n = f.writes + f.device_writes
            frame.type_count += n
            n += f.reads + f.device_reads
            frame.count += n
            d.held += n
            if frame.type_count:
                frame.type = TYPE_WRITABLE
                frame.flags |= FRAME_VALIDATED
    if d.held:
        for i in range(d.grants.nr_frames):
            _keep(&m.frames[d.grants.mfns[i]])
        for i in range(d.grants.nr_status_frames):
            _keep(&m.frames[d.grants.status_mfns[i]])


cdef void _keep(frame_t *frame) noexcept:
    if not frame.flags & FRAME_KEPT:
        frame.count = 0
    frame.count += 1
    frame.flags |= FRAME_KEPT


cdef void reap(machine_t *m) noexcept:
    """Let go of destroyed domains whose frames nobody holds any more."""
    cdef domain_t **link = &m.zombies
    cdef domain_t *d
    while link[0] != NULL:
        d = link[0]
        if d.held:
            link = &d.next_zombie
            continue
        link[0] = d.next_zombie
        _drop_table(m, d)
        free(d)


cdef void _drop_table(machine_t *m, domain_t *d) noexcept:
    """What of a zombie is left in the end: the frames of its grant table."""
    cdef uint32_t i
    for i in range(d.grants.nr_frames):
        free_frame(m, d.grants.mfns[i])
    for i in range(d.grants.nr_status_frames):
        free_frame(m, d.grants.status_mfns[i])
    free_table(d.grants)


cdef void free_zombies(machine_t *m) noexcept:
    cdef domain_t *d
    while m.zombies != NULL:
        d = m.zombies
        m.zombies = d.next_zombie
        free_table(d.grants)
        free(d)


cdef void free_memory(machine_t *m, domain_t *d) noexcept:
    """Every frame of the domain, in runs: the host takes the pages back, which also clears them."""
    cdef uint64_t mfn = m.gdt_mfn + 1, first
    cdef uint64_t end = m.next_frame + 512 if m.next_frame + 512 < m.nr_frames else m.nr_frames
    while mfn < end:
        if m.frames[mfn].owner != d.domid + 1 or m.frames[mfn].flags & FRAME_KEPT:
            mfn += 1
            continue
        first = mfn
        while mfn < end and m.frames[mfn].owner == d.domid + 1 and not m.frames[mfn].flags & FRAME_KEPT:
            forget_frame(m, mfn)
            mfn += 1
        madvise(frame_pointer(m, first), (mfn - first) << PAGE_SHIFT, MADV_DONTNEED)


cdef void free_domain(domain_t *d) noexcept:
    """A domain whose frames others hold stays as a zombie: a name, and a grant table."""
    close_instance(d)
    forget_points(d)
    free(d.fifo)
    free(d.ports)
    if d.receiver != NULL:
        free(d.shared)                  # a guest's is in machine memory
    close_receiver(d)
    free(d.vcpus)
    d.fifo, d.ports, d.vcpus = NULL, NULL, NULL
    d.nr_ports = d.nr_vcpus = 0
    if d.held:
        d.next_zombie = d.machine.zombies
        d.machine.zombies = d
    else:
        free_table(d.grants)
        free(d)
