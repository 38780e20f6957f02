# cython: language_level=3
"""A domain's grant table: its frames, its version, and the handles of what it has mapped itself.

Rules:
* The frames are hv's own; the domain maps them. They only grow, up to `max_frames`, and by whole frames.
* The version changes only while no grant is in use, but for the eight that the toolstack made; these are kept.
* A handle is an index into `maptrack`. They come a frame's worth at a time, up to `max_maptrack_frames`, into a queue of
  the vCPU that needs them, and are used again in the order in which they were given back; the last one of a queue is
  never handed out. A vCPU that gets no more takes them from others.

Behaviour: Xen 4.17's common/grant_table.c (gnttab_grow_table, gnttab_set_version, get_maptrack_handle).
"""
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset
from xen_abi cimport *
from hv.fastpath.frames cimport forget_frame, give_xenheap_frame
from hv.fastpath.grant_entries cimport entry_written, ops_v1, ops_v2
from hv.fastpath.memory cimport frame_pointer, frame_written
from hv.fastpath.state cimport PAGE_SIZE, active_t, handles_t, mapping_t

cdef enum:
    HANDLES_A_FRAME = 256        # Xen's entries of them have 16 bytes
    STATUS_A_FRAME = 2048


cdef uint32_t _status_frames(uint32_t frames) noexcept nogil:
    return (frames * 256 + STATUS_A_FRAME - 1) // STATUS_A_FRAME


cdef grant_table_t *new_table(domain_t *d, uint32_t max_version, uint32_t max_frames, uint32_t max_maptrack_frames) noexcept nogil:
    """A table of version 1 with one frame; NULL without memory. `max_frames` is 1 or more. (Domain 0 grants nothing: in a
    machine too small for any guest it has no frame.)"""
    cdef grant_table_t *t = <grant_table_t *>calloc(1, sizeof(grant_table_t))
    if t == NULL:
        return NULL
    t.domain = d
    t.ops = &ops_v1
    t.max_version, t.max_frames, t.max_maptrack_frames = max_version, max_frames, max_maptrack_frames
    memset(t.free, 0xff, sizeof(t.free))        # NO_HANDLE everywhere
    t.mfns = <uint64_t *>calloc(max_frames, sizeof(uint64_t))
    t.status_mfns = <uint64_t *>calloc(_status_frames(max_frames), sizeof(uint64_t))
    t.active = <active_t *>calloc(<size_t>max_frames * (PAGE_SIZE // sizeof(xen_grant_entry_v1)), sizeof(active_t))
    if t.mfns == NULL or t.status_mfns == NULL or t.active == NULL or (grow(t, 1) and d.domid):
        free_table(t)
        return NULL
    return t


cdef void free_table(grant_table_t *t) noexcept nogil:
    """Its frames go with the domain's memory."""
    if t == NULL:
        return
    free(t.mfns)
    free(t.status_mfns)
    free(t.active)
    free(t.maptrack)
    free(t.foreign)
    free(t)


cdef int _populate_status(grant_table_t *t, uint32_t frames) noexcept nogil:
    cdef uint64_t mfn
    while t.nr_status_frames < _status_frames(frames):
        mfn = give_xenheap_frame(t.domain)
        if mfn == 0:
            return -XEN_ENOMEM
        t.status_mfns[t.nr_status_frames] = mfn
        t.nr_status_frames += 1
    return 0


cdef int grow(grant_table_t *t, uint32_t count) noexcept nogil:
    """Have at least `count` frames (not more than max_frames), and status frames for as many: 0, or -ENOMEM."""
    cdef uint64_t mfn
    if t.ops.version == 2 and _populate_status(t, count):
        return -XEN_ENOMEM
    while t.nr_frames < count:
        mfn = give_xenheap_frame(t.domain)
        if mfn == 0:
            return -XEN_ENOMEM
        t.mfns[t.nr_frames] = mfn
        t.nr_frames += 1
    return 0


# --- versions -----------------------------------------------------------------------------------------------------

cdef int _give_status_back(grant_table_t *t) noexcept nogil:
    """0, or -EBUSY where the guest still maps one of the frames."""
    cdef uint32_t i
    for i in range(t.nr_status_frames):
        if t.domain.machine.frames[t.status_mfns[i]].count > 1:
            return -XEN_EBUSY
    for i in range(t.nr_status_frames):
        memset(frame_pointer(t.domain.machine, t.status_mfns[i]), 0, PAGE_SIZE)
        forget_frame(t.domain.machine, t.status_mfns[i])
    t.nr_status_frames = 0
    return 0


cdef int _reserved_as_v1(grant_table_t *t, xen_grant_entry_v1 *kept) noexcept nogil:
    """The toolstack's entries in version 1's form: 0, or -ERANGE for one that it can not express."""
    cdef uint32_t i, kind
    for i in range(GNTTAB_NR_RESERVED_ENTRIES):
        kind = t.ops.header(t, i).flags & GTF_type_mask
        if kind == GTF_transitive or (kind == GTF_permit_access and t.ops.frame(t, i) >> 32):
            return -XEN_ERANGE
        memset(&kept[i], 0, sizeof(kept[i]))
        if kind == GTF_permit_access:
            kept[i].flags = t.ops.header(t, i).flags | t.ops.status(t, i)[0]
            kept[i].domid = t.ops.header(t, i).domid
            kept[i].frame = <uint32_t>t.ops.frame(t, i)
    return 0


cdef void _clear(grant_table_t *t) noexcept nogil:
    cdef uint32_t i
    for i in range(t.nr_frames):
        memset(frame_pointer(t.domain.machine, t.mfns[i]), 0, PAGE_SIZE)
        frame_written(t.domain.machine, t.mfns[i])


cdef int _to_version_1(grant_table_t *t) noexcept nogil:
    cdef xen_grant_entry_v1[GNTTAB_NR_RESERVED_ENTRIES] kept
    cdef int rc = _reserved_as_v1(t, kept)
    if rc == 0:
        rc = _give_status_back(t)
    if rc:
        return rc
    _clear(t)
    t.ops = &ops_v1
    memcpy(frame_pointer(t.domain.machine, t.mfns[0]), kept, sizeof(kept))
    return 0


cdef int _to_version_2(grant_table_t *t) noexcept nogil:
    cdef xen_grant_entry_v1[GNTTAB_NR_RESERVED_ENTRIES] kept
    cdef uint16_t noted
    cdef uint32_t i
    if _populate_status(t, t.nr_frames):
        return -XEN_ENOMEM
    memcpy(kept, frame_pointer(t.domain.machine, t.mfns[0]), sizeof(kept))
    _clear(t)
    t.ops = &ops_v2
    for i in range(GNTTAB_NR_RESERVED_ENTRIES):
        noted = kept[i].flags & (GTF_reading | GTF_writing)
        t.ops.status(t, i)[0] = noted
        t.ops.header(t, i).flags = kept[i].flags ^ noted
        t.ops.header(t, i).domid = kept[i].domid
        t.ops.set_frame(t, i, kept[i].frame)
    return 0


cdef int set_version(grant_table_t *t, uint32_t version) noexcept nogil:
    """GNTTABOP_set_version: 0 or a negative errno."""
    cdef uint32_t i
    if version != 1 and version != 2:
        return -XEN_EINVAL
    if version > t.max_version:
        return -XEN_ENOSYS
    if version == t.ops.version:
        return 0
    for i in range(GNTTAB_NR_RESERVED_ENTRIES, nr_entries(t)):
        if t.active[i].pin:
            return -XEN_EBUSY
    return _to_version_1(t) if version == 1 else _to_version_2(t)


cdef int swap_entries(grant_table_t *t, uint32_t a, uint32_t b) noexcept nogil:
    """GNTTABOP_swap_grant_ref: a GNTST_* status."""
    if a >= nr_entries(t) or b >= nr_entries(t):
        return GNTST_bad_gntref
    if a == b:
        return GNTST_okay
    if t.active[a].pin or t.active[b].pin:
        return GNTST_eagain
    t.ops.swap(t, a, b)
    entry_written(t, a)
    entry_written(t, b)
    return GNTST_okay


# --- handles ------------------------------------------------------------------------------------------------------

cdef int _more_handles(grant_table_t *t, uint32_t vcpu) noexcept nogil:
    """A frame's worth of handles before those of the vCPU that are free: 0, or -1 at the limit."""
    cdef uint32_t i, first = t.nr_handles
    cdef mapping_t *grown
    if first // HANDLES_A_FRAME >= t.max_maptrack_frames:
        return -1
    grown = <mapping_t *>realloc(t.maptrack, (<size_t>first + HANDLES_A_FRAME) * sizeof(mapping_t))
    if grown == NULL:
        return -1
    t.maptrack = grown
    t.nr_handles += HANDLES_A_FRAME
    for i in range(first, t.nr_handles):
        grown[i].flags = 0
        grown[i].vcpu = vcpu
        grown[i].ref = i + 1
    grown[t.nr_handles - 1].ref = t.free[vcpu].head
    t.free[vcpu].head = first
    if t.free[vcpu].tail == NO_HANDLE:
        t.free[vcpu].tail = t.nr_handles - 1
    return 0


cdef uint32_t _free_handle(grant_table_t *t, uint32_t vcpu) noexcept nogil:
    cdef uint32_t head = t.free[vcpu].head
    if head == NO_HANDLE or t.maptrack[head].ref == NO_HANDLE:
        return NO_HANDLE
    t.free[vcpu].head = t.maptrack[head].ref
    return head


cdef uint32_t _steal_handle(grant_table_t *t, uint32_t thief) noexcept nogil:
    """One of another vCPU's, which is the thief's from now on. Whom Xen asks first is random; here it is vCPU 0."""
    cdef uint32_t i, handle = NO_HANDLE
    for i in range(t.domain.nr_vcpus):
        handle = _free_handle(t, i)
        if handle != NO_HANDLE:
            t.maptrack[handle].vcpu = thief
            break
    return handle


cdef uint32_t take_handle(grant_table_t *t, uint32_t vcpu) noexcept nogil:
    """A free handle for a mapping by this vCPU, or NO_HANDLE."""
    cdef uint32_t handle = _free_handle(t, vcpu)
    if handle == NO_HANDLE and _more_handles(t, vcpu) == 0:
        return _free_handle(t, vcpu)
    if handle == NO_HANDLE and t.free[vcpu].tail == NO_HANDLE:     # its queue needs a last one first
        handle = _steal_handle(t, vcpu)
        if handle == NO_HANDLE:
            return NO_HANDLE
        t.maptrack[handle].ref = NO_HANDLE
        t.free[vcpu].head = t.free[vcpu].tail = handle
        handle = NO_HANDLE
    return _steal_handle(t, vcpu) if handle == NO_HANDLE else handle


cdef void give_handle(grant_table_t *t, uint32_t handle) noexcept nogil:
    cdef handles_t *queue = &t.free[t.maptrack[handle].vcpu]
    t.maptrack[handle].ref = NO_HANDLE
    t.maptrack[handle].flags = 0
    t.maptrack[queue.tail].ref = handle
    queue.tail = handle
