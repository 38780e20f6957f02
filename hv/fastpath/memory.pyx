# cython: language_level=3
"""Machine memory: the page walk, guest copies, frame ownership.

Rules:
* The walk is the only way from a guest's virtual address to machine memory; the CPU's TLB is filled from it too.
* A frame that the domain neither owns nor has mapped by a grant never comes out of it, whatever the page tables say (the
  wall).
* The slots of the hypervisor (L4 entries 256..271) are not read from the guest's tables: the M2P and the
  descriptor tables appear there by address, in every root, and nothing else does.

A PV guest's kernel and user code both run in ring 3, so every guest mapping needs the USER bit on all levels,
as on Xen. Hypercall buffers are reached with the guest's own rights (Xen runs with CR0.WP set).
Specification: Intel SDM 4.5 (4-level paging); Xen's public arch-x86/xen-x86_64.h for the address ranges.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from hv.fastpath.foreign cimport may_reach
from hv.fastpath.state cimport FRAME_GRANTED, PAGE_SHIFT, PAGE_SIZE, SEEN_PAGES, seen_t

cdef void (*_code_listener)(machine_t *, uint64_t) noexcept nogil


cdef void set_code_listener(void (*listener)(machine_t *, uint64_t) noexcept nogil) noexcept:
    """The engine registers who drops translated code of a frame that was written from outside."""
    global _code_listener
    _code_listener = listener


cdef void code_written(machine_t *m, uint64_t mfn) noexcept nogil:
    """A frame was written that some instance has translated."""
    _code_listener(m, mfn)


cdef uint64_t active_root(vcpu_t *v) noexcept nogil:
    return v.kernel_root if v.kernel_mode else v.user_root


cdef int _fail(walk_t *w, uint32_t error, int access, bint user, uint32_t level) noexcept nogil:
    w.error = error | (PF_WRITE if access == ACCESS_WRITE else 0) | (PF_USER if user else 0)
    if access == ACCESS_FETCH:
        w.error |= PF_FETCH
    w.level = level
    return WALK_FAULT


cdef int _descriptor_page(vcpu_t *v, uint64_t va, int access, walk_t *w) noexcept nogil:
    """A page of a vCPU's GDT (16 pages) or LDT (16 pages); only the CPU itself may read it."""
    cdef uint64_t page = (va - PERDOMAIN_START) >> PAGE_SHIFT
    cdef vcpu_t *owner
    if page >> 5 >= v.domain.nr_vcpus or access == ACCESS_FETCH:
        return _fail(w, 0, access, False, 1)
    owner = &v.domain.vcpus[page >> 5]
    page &= 31
    if page >= 16:
        w.mfn = owner.ldt_frames[page - 16]
    elif page >= 14:
        w.mfn = v.domain.machine.gdt_mfn
    else:
        w.mfn = owner.gdt_frames[page]
    if w.mfn == 0:
        return _fail(w, 0, access, False, 1)
    w.prot = PROT_READ if page == 14 or page == 15 else PROT_READ | PROT_WRITE  # the CPU sets the accessed bit
    w.level = 0
    if access == ACCESS_WRITE and not w.prot & PROT_WRITE:
        return _fail(w, PF_PRESENT, access, False, 1)
    return WALK_OK


cdef int _hypervisor_page(vcpu_t *v, uint64_t va, int access, bint user, walk_t *w) noexcept nogil:
    cdef machine_t *m = v.domain.machine
    w.entries[1] = 0
    if va - HV_START < m.m2p_frames << PAGE_SHIFT:
        if access == ACCESS_WRITE or access == ACCESS_FETCH:
            return _fail(w, PF_PRESENT, access, user, 1)
        w.mfn = m.m2p_mfn + ((va - HV_START) >> PAGE_SHIFT)
        w.prot = PROT_READ
        w.level = 0
        return WALK_OK
    if va >= PERDOMAIN_START:
        if not user:
            return _descriptor_page(v, va, access, w)
        if va < PERDOMAIN_START + (<uint64_t>v.domain.nr_vcpus << 17) and not va & LDT_OFFSET:
            return _fail(w, PF_PRESENT, access, user, 1)        # a GDT: mapped, but not for the guest
    return _fail(w, 0, access, user, 4)


cdef int walk(vcpu_t *v, uint64_t root, uint64_t va, int access, bint user, walk_t *w) noexcept nogil:
    """Translate `va` under the L4 frame `root`; except for ACCESS_LOOK, sets accessed and dirty bits as the CPU does."""
    cdef domain_t *d = v.domain
    cdef machine_t *m = d.machine
    cdef uint64_t table = root, entry, rights = PTE_RW | PTE_USER, nx = 0
    cdef uint64_t *slot
    cdef int level
    if not canonical(va):
        return WALK_NONCANONICAL
    if HV_START <= va < HV_END:
        return _hypervisor_page(v, va, access, user, w)
    for level in range(4, 0, -1):
        if not owns(d, table):
            return _fail(w, PF_PRESENT | PF_RESERVED, access, user, level)
        slot = <uint64_t *>(m.ram + (table << PAGE_SHIFT)) + ((va >> (12 + 9 * (level - 1))) & 511)
        entry = slot[0]
        w.entries[level] = entry
        w.slots[level] = <uint64_t>(<uint8_t *>slot - m.ram)
        if not entry & PTE_PRESENT:
            return _fail(w, 0, access, user, level)
        if level > 1:
            if entry & PTE_PSE:
                return _fail(w, PF_PRESENT | PF_RESERVED, access, user, level)
            if not entry & PTE_ACCESSED and access != ACCESS_LOOK:
                slot[0] = entry | PTE_ACCESSED
        rights &= entry
        nx |= entry & PTE_NX
        table = (entry & ADDRESS_MASK) >> PAGE_SHIFT
    return _leaf(d, slot, entry, rights, nx, access, user, w)


cdef int _leaf(domain_t *d, uint64_t *slot, uint64_t entry, uint64_t rights, uint64_t nx, int access, bint user,
               walk_t *w) noexcept nogil:
    """Rights of a complete walk, then the accessed and dirty bits of its last entry."""
    cdef uint64_t mfn = (entry & ADDRESS_MASK) >> PAGE_SHIFT
    if not owns(d, mfn) and not may_reach(d, mfn, entry & PTE_RW != 0):
        return _fail(w, PF_PRESENT | PF_RESERVED, access, user, 1)
    if access != ACCESS_LOOK and d.machine.frames[mfn].flags & FRAME_GRANTED:
        d.granted_in_tlb = 1
    if user and not rights & PTE_USER:
        return _fail(w, PF_PRESENT, access, user, 1)
    if (access == ACCESS_WRITE and not rights & PTE_RW) or (access == ACCESS_FETCH and nx):
        return _fail(w, PF_PRESENT, access, user, 1)
    if access == ACCESS_WRITE:
        entry |= PTE_DIRTY
    if access != ACCESS_LOOK:
        entry |= PTE_ACCESSED
    if slot[0] != entry:
        slot[0] = entry
    w.mfn = mfn
    w.prot = PROT_READ
    if rights & PTE_RW and entry & PTE_DIRTY:       # the first store must come here to set DIRTY
        w.prot |= PROT_WRITE
        d.machine.frames[w.mfn].used_at = d.machine.epoch
    if not nx:
        w.prot |= PROT_EXEC
    w.level = 0
    return WALK_OK


cdef int _translate(vcpu_t *v, uint64_t va, int access, uint64_t *mfn) noexcept nogil:
    """The frame at `va` under the kernel's root: 0, or -1. Walks are remembered for the vCPU that runs."""
    cdef domain_t *d = v.domain
    cdef seen_t *seen = &d.seen[(va >> PAGE_SHIFT) % SEEN_PAGES]
    cdef walk_t w
    if seen.tag == (va >> PAGE_SHIFT) + 1 and d.current == v and (access == ACCESS_READ or seen.prot & PROT_WRITE):
        mfn[0] = seen.mfn
        return 0
    if HV_START <= va < HV_END:                     # hv's own addresses are never a guest's buffer
        return -1
    if walk(v, v.kernel_root, va, access, True, &w) != WALK_OK:
        return -1
    if d.current == v:
        seen.tag, seen.mfn, seen.prot = (va >> PAGE_SHIFT) + 1, w.mfn, w.prot
    mfn[0] = w.mfn
    return 0


cdef int _copy(vcpu_t *v, uint8_t *host, uint64_t va, uint64_t size, bint to_guest) noexcept nogil:
    cdef machine_t *m = v.domain.machine
    cdef uint64_t chunk, mfn
    cdef uint8_t *page
    while size:
        if _translate(v, va, ACCESS_WRITE if to_guest else ACCESS_READ, &mfn):
            return -1
        chunk = PAGE_SIZE - (va & (PAGE_SIZE - 1))
        if chunk > size:
            chunk = size
        page = m.ram + (mfn << PAGE_SHIFT) + (va & (PAGE_SIZE - 1))
        if to_guest:
            memcpy(page, host, chunk)
            frame_written(m, mfn)
        else:
            memcpy(host, page, chunk)
        host += chunk
        va += chunk
        size -= chunk
    return 0


cdef int read_pages(vcpu_t *v, void *to, uint64_t va, uint64_t size) noexcept nogil:
    return _copy(v, <uint8_t *>to, va, size, False)


cdef int write_pages(vcpu_t *v, uint64_t va, const void *source, uint64_t size) noexcept nogil:
    return _copy(v, <uint8_t *>source, va, size, True)
