# cython: language_level=3
"""What a domain's TLB may hold, and how little of it has to go.

Rules:
* Xen loads CR3 at every change of mode and for every new root, and a guest may rely on that: what is stale is gone then.
* Nothing that is still valid need go. Entries of the kernel's half of the address space outlive a change of roots, as long as both
  roots have the same entries there and no such entry that the TLB may hold has changed.
* Entries that belong to one address space, or to the CPU's own reads, are listed; when there are too many, all go.
* An entry of a page table whose ACCESSED bit is clear is in no TLB: walk() sets it first, and its clearing is a change.
* A frame that leaves the writable type needs a flush only if a TLB was given a writable entry for it since the last one.
"""
from libc.stdint cimport uint64_t
from libc.string cimport memcmp
from hv.fastpath.memory cimport PTE_ACCESSED, PTE_GUEST_KERNEL, PTE_PRESENT, frame_pointer
from hv.fastpath.state cimport FLUSH_USER, PAGE_SHIFT, TYPE_L1, USER_PAGES, forget_seen, request_flush

cdef enum:
    FIRST_KERNEL_SLOT = 272      # of an L4: behind the hypervisor's
    LOW_HALF_END = 47            # a bit


cdef void entry_changed(domain_t *d, int level, uint64_t table, uint64_t old) noexcept nogil:
    """An entry of the page table in frame `table` was `old` until now."""
    if not old & PTE_PRESENT or not old & PTE_ACCESSED:
        return
    if level != TYPE_L1:                # Xen flushes here itself, for the sake of tables that map themselves
        request_flush(d)
    elif old & PTE_GUEST_KERNEL and may_be_used(d, &d.machine.frames[table]):
        d.kernel_changed = 1


cdef void root_changes(domain_t *d, uint64_t old, uint64_t new) noexcept nogil:
    """The vCPU that runs gets another root, frame `new`, or another vCPU runs that has it."""
    cdef uint64_t offset = FIRST_KERNEL_SLOT * 8, size = (512 - FIRST_KERNEL_SLOT) * 8
    if d.kernel_changed or old == 0 or new == 0:
        request_flush(d)
    elif old != new and memcmp(frame_pointer(d.machine, old) + offset, frame_pointer(d.machine, new) + offset, size):
        request_flush(d)
    else:
        user_changes(d)


cdef void user_changes(domain_t *d) noexcept nogil:
    """Another user root, or no more than that."""
    if d.need_flush < FLUSH_USER:
        d.need_flush = FLUSH_USER
    forget_seen(d)


cdef void is_filled(domain_t *d, uint64_t va, bint kernel, const walk_t *w) noexcept nogil:
    """The TLB gets an entry for `va`; `kernel`: the one of guest kernel mode."""
    if kernel and va >> LOW_HALF_END and w.entries[1] & PTE_GUEST_KERNEL:
        d.machine.frames[w.slots[1] >> PAGE_SHIFT].used_at = d.machine.epoch
        return
    if d.nr_user_pages < USER_PAGES:
        d.user_pages[d.nr_user_pages] = va
    if d.nr_user_pages <= USER_PAGES:
        d.nr_user_pages += 1


cdef void is_flushed(domain_t *d) noexcept nogil:
    """Everything has gone."""
    cdef machine_t *m = d.machine
    d.need_flush = d.kernel_changed = d.cpu_filled = d.granted_in_tlb = 0
    d.nr_user_pages = 0
    forget_seen(d)
    m.tlb_flushes += 1
    if m.epoch != <uint32_t>-1:
        m.epoch += 1
    d.flushed_at = m.epoch


cdef bint may_be_used(domain_t *d, const frame_t *f) noexcept nogil:
    """Whether the TLB may hold a writable entry for the frame, or one of the kernel's that was read from it."""
    return f.used_at >= d.flushed_at
