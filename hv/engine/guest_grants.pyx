# cython: language_level=3
"""A domain's grants: its table, its mappings, and domain 0's copies."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from xen_abi cimport *
from hv.engine.guest_ports cimport GuestPorts
from hv.fastpath.grant_copy cimport host_copy
from hv.fastpath.grant_table cimport grow, nr_entries, set_version
from hv.fastpath.grants cimport host_map, host_unmap, release_mappings
from hv.fastpath.state cimport *


cdef class GuestGrants(GuestPorts):
    """Its grant table, what it has mapped of others, and hv's own use of grants as domain 0."""

    def grants(self):
        """The table: (version, the highest allowed, its frames, its status frames, the most frames)."""
        cdef grant_table_t *t = self._live().grants
        return (t.ops.version, t.max_version, [t.mfns[i] for i in range(t.nr_frames)],
                [t.status_mfns[i] for i in range(t.nr_status_frames)], t.max_frames)

    def grow_grants(self, uint32_t frames):
        """Have at least so many frames of grants, at most as many as allowed: 0 or -ENOMEM."""
        return grow(self._live().grants, min(frames, self.d.grants.max_frames))

    def set_grant_version(self, uint32_t version):
        """GNTTABOP_set_version: 0 or a negative errno."""
        return set_version(self._live().grants, version)

    def seed_grant(self, uint32_t ref, uint16_t domid, uint64_t mfn):
        """Write a grant of a page to a domain into a reserved entry, as a toolstack does for console and store."""
        cdef grant_table_t *t = self._live().grants
        if ref >= GNTTAB_NR_RESERVED_ENTRIES:
            raise IndexError(f"grant {ref} is the guest's")
        t.ops.header(t, ref).flags = GTF_permit_access
        t.ops.header(t, ref).domid = domid
        t.ops.set_frame(t, ref, mfn)

    def granted(self):
        """Entries that are not empty or in use: (ref, flags, domid, frame, status, uses) of each. `uses` is None, or (domid,
        mfn, host writers, host readers, device writers, device readers, start, length)."""
        cdef grant_table_t *t = self._live().grants
        cdef active_t *a
        cdef uint32_t ref
        rows = []
        for ref in range(nr_entries(t)):
            a = &t.active[ref]
            if a.pin or t.ops.header(t, ref).flags & GTF_type_mask:
                uses = (a.domid, a.mfn, a.pin & 255, a.pin >> 8 & 255, a.pin >> 16 & 255, a.pin >> 24, a.start,
                        a.length) if a.pin else None
                rows.append((ref, t.ops.header(t, ref).flags, t.ops.header(t, ref).domid, t.ops.frame(t, ref),
                             t.ops.status(t, ref)[0], uses))
        return rows

    def mapped_grants(self):
        """What this domain has mapped: (handle, domid, ref, GNTMAP_* flags) of each."""
        cdef grant_table_t *t = self._live().grants
        return [(i, t.maptrack[i].domid, t.maptrack[i].ref, t.maptrack[i].flags)
                for i in range(t.nr_handles) if t.maptrack[i].flags]

    def foreign_frames(self):
        """Frames of others that it holds: {mfn: (reads, writes, device reads, device writes)}."""
        cdef grant_table_t *t = self._live().grants
        return {t.foreign[i].tag - 1: (t.foreign[i].reads, t.foreign[i].writes, t.foreign[i].device_reads,
                                       t.foreign[i].device_writes)
                for i in range(t.foreign_size) if t.foreign[i].tag}

    def release_grants(self):
        """The domain is dying: it ends its use of all grants of others."""
        release_mappings(self._live())

    def map_grant(self, uint32_t domid, uint32_t ref, bint readonly=False):
        """Domain 0 only: map a grant for hv itself. (GNTST_* status, handle, mfn)."""
        cdef uint32_t handle = 0
        cdef uint64_t mfn = 0
        status = host_map(self._host(), domid, ref, readonly, &handle, &mfn)
        return status, handle, mfn

    def unmap_grant(self, uint32_t handle):
        """Domain 0 only: the end of a mapping. A GNTST_* status."""
        return host_unmap(self._host(), handle)

    def read_grants(self, uint32_t domid, segments, uint8_t[::1] into):
        """Domain 0 only: copy parts of granted pages, one behind the other, to memory of the host. `segments` are
        (ref, offset, length), which must fit into it. The first GNTST_* status that is not okay, else GNTST_okay."""
        return self._copy_segments(domid, segments, &into[0] if into.shape[0] else NULL, into.shape[0], False)

    def write_grants(self, uint32_t domid, segments, const uint8_t[::1] data):
        """Domain 0 only: the other direction."""
        return self._copy_segments(domid, segments, <uint8_t *>&data[0] if data.shape[0] else NULL, data.shape[0], True)

    cdef int _copy_segments(self, uint32_t domid, segments, uint8_t *buffer, size_t size, bint to_guest) except? -99:
        cdef domain_t *host = self._host()
        cdef uint32_t ref, offset, length
        cdef size_t done = 0
        cdef int status = GNTST_okay
        for ref, offset, length in segments:
            if length > size - done:
                raise ValueError("the segments are longer than the buffer")
            status = host_copy(host, domid, ref, offset, length, buffer + done, to_guest)
            if status != GNTST_okay:
                break
            done += length
        return status
