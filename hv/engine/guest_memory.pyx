# cython: language_level=3
"""A domain's memory: its frames, their types, and reading and writing by virtual address.

Frames are handed out and taken back only through hv.fastpath.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset
from xen_abi cimport *
from hv.engine.guest cimport Guest
from hv.fastpath.frames cimport give_extent, give_frame, release_page
from hv.fastpath.memory cimport (ACCESS_LOOK, WALK_OK, active_root, copy_from_guest, copy_to_guest, frame_pointer,
                                 owns, walk, walk_t)
from hv.fastpath.now cimport NEVER
from hv.fastpath.paging cimport get_page_and_type, pin, put_page_and_type
from hv.fastpath.state cimport *

FRAME_TYPES = ("none", "l1", "l2", "l3", "l4", "segdesc", "writable")


class GuestFault(Exception):
    """A guest's virtual address is not mapped as the access needs it; hypercalls answer -EFAULT."""


cdef class GuestMemory(Guest):
    """Its frames and their types, and its memory by virtual address."""

    def populate(self, uint64_t pfn):
        """A new frame at guest frame `pfn`: its mfn. MemoryError where the machine is full."""
        cdef uint64_t mfn = give_frame(self._live(), pfn)
        if mfn == 0:
            raise MemoryError("the machine has no memory left")
        return mfn

    def populate_range(self, uint64_t first, uint64_t count):
        """`count` new frames from guest frame `first` on: a bytes object of their mfns (8 bytes each)."""
        cdef uint64_t i
        mfns = bytearray(count * 8)
        cdef uint64_t *out = <uint64_t *><uint8_t *>mfns
        for i in range(count):
            out[i] = give_frame(self._live(), first + i)
            if out[i] == 0:
                raise MemoryError("the machine has no memory left")
        return bytes(mfns)

    def populate_extent(self, uint64_t pfn, uint32_t order):
        """2**order contiguous machine frames at guest frame `pfn`: the first mfn, or None where there are none."""
        return give_extent(self._live(), pfn, order) or None

    def release(self, uint64_t mfn):
        """Give a frame back: 0 or -EINVAL."""
        return release_page(self._live(), mfn)

    def is_exchangeable(self, uint64_t mfn):
        """Whether XENMEM_exchange may take a frame: nothing maps or uses it, and it was not given back."""
        return (owns(self._live(), mfn) and self.d.machine.frames[mfn].flags & FRAME_ALLOCATED != 0
                and self.d.machine.frames[mfn].count == 1)

    def owns(self, uint64_t mfn):
        return owns(self._live(), mfn)

    def pfn_of(self, uint64_t mfn):
        if not owns(self._live(), mfn):
            raise KeyError(mfn)
        return self.d.machine.m2p[mfn]

    def set_pfn_of(self, uint64_t mfn, uint64_t pfn):
        if not owns(self._live(), mfn):
            raise KeyError(mfn)
        self.d.machine.m2p[mfn] = pfn

    def pin_root(self, uint64_t mfn):
        """Validate and pin an L4 table, as the domain builder does; 0 or a negative errno."""
        return pin(self._live(), mfn, TYPE_L4)

    def get_type(self, uint64_t mfn, str kind):
        """Take a page and type reference: 0 or -EINVAL. `kind` is one of FRAME_TYPES."""
        return get_page_and_type(self._live(), mfn, FRAME_TYPES.index(kind))

    def put_type(self, uint64_t mfn):
        put_page_and_type(self._live(), mfn)

    def read(self, uint64_t va, uint64_t size, uint32_t vcpu=0):
        """Bytes at a virtual address, read as a hypercall reads them; GuestFault where one is not readable."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        if size > 1 << 30:
            raise GuestFault(va)
        data = bytearray(size)
        if size and copy_from_guest(v, <uint8_t *>data, va, size):
            raise GuestFault(va)
        return bytes(data)

    def write(self, uint64_t va, const uint8_t[::1] data, uint32_t vcpu=0):
        """Write at a virtual address with the guest kernel's rights; GuestFault where that is not possible."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        if data.shape[0] and copy_to_guest(v, va, &data[0], data.shape[0]):
            raise GuestFault(va)

    def peek(self, uint64_t va, uint64_t size, uint32_t vcpu=0, *, bint kernel=True):
        """As many of `size` bytes from an address on as are mapped for its kernel, or for its user mode; changes nothing."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef uint64_t chunk, root = v.kernel_root if kernel else v.user_root
        cdef walk_t w
        cdef bytearray data = bytearray()
        while size and walk(v, root, va, ACCESS_LOOK, True, &w) == WALK_OK:
            chunk = min(size, PAGE_SIZE - (va & (PAGE_SIZE - 1)))
            data += (<char *>frame_pointer(v.domain.machine, w.mfn) + (va & (PAGE_SIZE - 1)))[:chunk]
            if va > NEVER - chunk:               # the last page of all
                break
            va += chunk
            size -= chunk
        return bytes(data)

    def walk(self, uint64_t va, uint32_t vcpu=0):
        """The page walk of an address: ([(level, machine address, entry)], mfn or None); changes nothing."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef walk_t w
        cdef int rc, level
        memset(&w, 0, sizeof(w))
        rc = walk(v, active_root(v) or v.kernel_root, va, ACCESS_LOOK, True, &w)
        last = 1 if rc == WALK_OK else max(1, <int>w.level)
        steps = [(level, w.slots[level], w.entries[level]) for level in range(4, last - 1, -1) if w.slots[level]]
        return steps, w.mfn if rc == WALK_OK else None

    def find_pfn(self, uint64_t pfn):
        """The machine frame that the M2P says is guest frame `pfn`; None where there is none."""
        cdef domain_t *d = self._live()
        cdef uint64_t mfn
        for mfn in range(d.machine.gdt_mfn + 1, min(d.machine.next_frame + 512, d.machine.nr_frames)):
            if d.machine.frames[mfn].owner == d.domid + 1 and d.machine.m2p[mfn] == pfn:
                return mfn
        return None

    @property
    def shared_mfn(self):
        return self._live().shared_mfn

    @property
    def nr_pages(self):
        return self._live().nr_pages

    @property
    def max_pages(self):
        return self._live().max_pages

    @max_pages.setter
    def max_pages(self, uint64_t value):
        self._live().max_pages = value

    def held_frames(self):
        """Frames that hv itself refers to, as (mfn, type): page tables in use, descriptor tables, event memory."""
        cdef domain_t *d = self._live()
        cdef uint32_t i, k
        held = []
        for i in range(d.nr_vcpus):
            v = &d.vcpus[i]
            held += [(mfn, "l4") for mfn in (v.kernel_root, v.user_root) if mfn]
            held += [(v.gdt_frames[k], "segdesc") for k in range(14) if v.gdt_frames[k]]
            held += [(v.ldt_frames[k], "segdesc") for k in range(16) if v.ldt_frames[k]]
            held += [(v.info_mfn, "writable")] if v.info_mfn else []
            if d.fifo != NULL and d.fifo.vcpus[i].control != NULL:
                held.append((d.fifo.vcpus[i].control_mfn, "writable"))
        if d.fifo != NULL:
            held += [(d.fifo.mfns[k], "writable") for k in range(d.fifo.nr_pages)]
        return held
