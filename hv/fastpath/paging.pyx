# cython: language_level=3
"""Page types: what a frame may be used as, and every change of a page table.

Rules:
* A frame has one type while it has type references: l1..l4 table, segment descriptors, or writable.
* Every present entry of a validated table holds a reference to what it points at (and a type reference: a writable
  mapping of type writable, a link of the next lower table type); validation checks all entries or none.
* So a page table is never mapped writable, and a frame that is not the domain's never gets into one.
* A table may show itself, or another of its own level, by a read-only entry (a linear page table). The other is validated
  already, has no such entries itself, and they count: none may follow, so that no chain of them arises.
* A frame that leaves the writable type, or is given up, flushes the TLB before the guest goes on.

Entries are adjusted as Xen does: guest kernel and user both run in ring 3, so USER is added everywhere, with the
software bit 52 on L1 entries that were the kernel's. L4 slots 256..271 are the hypervisor's and are skipped.
Behaviour: Xen 4.17, arch/x86/mm.c (get_page_type, mod_l?_entry) and pv/mm.h (adjust_guest_l?e).
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from xen_abi cimport FIRST_RESERVED_GDT_ENTRY, XEN_EBUSY, XEN_EINVAL, XEN_EPERM
from hv.fastpath.foreign cimport remove_foreign
from hv.fastpath.frames cimport get_page, put_page
from hv.fastpath.memory cimport *
from hv.fastpath.state cimport *
from hv.fastpath.tlb cimport entry_changed, may_be_used, root_changes, user_changes
from hv.fastpath.trace cimport trace_page_table

cdef extern from * nogil:
    """
    #define HV_L1_FORBIDDEN  0x0000000000000098ULL   /* PWT PCD PAT; bit 62 too, in Xen's debug builds only */
    #define HV_LX_FORBIDDEN  0x0000000000000198ULL   /* PWT PCD PSE GLOBAL */
    /* what may change without touching references: NX, the software bits, G D A U */
    #define HV_L1_HARMLESS   0xfff0000000000f64ULL
    #define HV_LX_HARMLESS   0xfff0000000000e60ULL
    #define HV_NO_FRAME      0x000ffffffffff000ULL
    """
    const uint64_t HV_L1_FORBIDDEN, HV_LX_FORBIDDEN, HV_L1_HARMLESS, HV_LX_HARMLESS, HV_NO_FRAME


cdef enum:
    LOW_FRAMES = 256             # the first MiB counts as I/O memory, which a domU may not map
    MANY = 0x40000000            # references: with so many, each is looked at
    MOST_LINEAR = 0x7fff


cdef uint64_t _frame_of(uint64_t entry) noexcept nogil:
    return (entry & ADDRESS_MASK) >> PAGE_SHIFT


cdef bint _is_hypervisor_slot(int level, uint64_t slot) noexcept nogil:
    return level == TYPE_L4 and 256 <= slot < 272


cdef uint64_t adjust_entry(int level, uint64_t entry) noexcept nogil:
    """The entry as Xen writes it; the guest reads these bits back."""
    if not entry & PTE_PRESENT:
        return entry
    if level == TYPE_L1:
        if not entry & PTE_USER:
            return entry | PTE_USER | PTE_GUEST_KERNEL
        return entry if entry & PTE_GUEST_KERNEL else entry | PTE_GLOBAL
    return entry | PTE_USER | (PTE_ACCESSED if level == TYPE_L4 else 0)


# --- references of one entry --------------------------------------------------------------------------------------

cdef inline bint _shares(domain_t *d, frame_t *f, uint64_t entry, uint32_t least) noexcept nogil:
    """Whether an L1 entry is only one more, or one less, reference to the domain's frame: `least` are left of each."""
    if f.owner != d.domid + 1 or f.count <= least or f.count >= MANY:
        return False
    return not entry & PTE_RW or (f.type == TYPE_WRITABLE and least < f.type_count < MANY)


cdef int _get_l1_target(domain_t *d, uint64_t entry) noexcept nogil:
    cdef uint64_t mfn = _frame_of(entry)
    cdef frame_t *f
    if LOW_FRAMES <= mfn < d.machine.nr_frames:
        f = &d.machine.frames[mfn]
        if _shares(d, f, entry, 0):
            f.count += 1
            f.type_count += 1 if entry & PTE_RW else 0
            return 0
    if mfn >= d.machine.nr_frames:
        return -XEN_EINVAL if entry & ADDRESS_MASK == HV_NO_FRAME else -XEN_EPERM
    if mfn < LOW_FRAMES:
        return -XEN_EPERM
    if not owns(d, mfn):
        return -XEN_EBUSY
    if entry & PTE_RW:
        return -XEN_EBUSY if get_page_and_type(d, mfn, TYPE_WRITABLE) else 0
    return get_page(d, mfn)


cdef int _get_target(domain_t *d, int level, uint64_t entry, uint64_t table) noexcept nogil:
    """Take the references that a present entry of a level-`level` table needs."""
    cdef int rc
    if level == TYPE_L1:
        return _get_l1_target(d, entry)
    rc = get_page_and_type(d, _frame_of(entry), level - 1)
    if rc == -XEN_EINVAL and not entry & PTE_RW and _get_linear(d, level, _frame_of(entry), table):
        return 0
    return rc


cdef bint _get_linear(domain_t *d, int level, uint64_t mfn, uint64_t table) noexcept nogil:
    """For a read-only entry of `table` for a table of its own level; for itself it holds no reference."""
    cdef frame_t *f = &d.machine.frames[mfn]
    cdef frame_t *t = &d.machine.frames[table]
    if mfn == table:
        return True
    if get_page(d, mfn):
        return False
    if (f.type != level or not f.flags & FRAME_VALIDATED or f.type_count == <uint32_t>-1
            or not -MOST_LINEAR < f.linear <= 0 or not 0 <= t.linear < MOST_LINEAR):
        put_page(d.machine, mfn)
        return False
    t.linear += 1
    f.linear -= 1
    f.type_count += 1
    return True


cdef void put_target(domain_t *d, int level, uint64_t entry, uint64_t table) noexcept nogil:
    cdef uint64_t mfn = _frame_of(entry)
    cdef frame_t *f
    if not entry & PTE_PRESENT:
        return
    if level == TYPE_L1:
        f = &d.machine.frames[mfn]
        if _shares(d, f, entry, 1):
            f.count -= 1
            f.type_count -= 1 if entry & PTE_RW else 0
            return
        if not owns(d, mfn):                            # a grant's, taken out behind the back of its handle
            remove_foreign(d, mfn, entry & PTE_RW != 0, False)
            request_flush(d)                            # the granter's frame may change its type, which flushes only there
        if entry & PTE_RW:
            put_page_and_type(d, mfn)
        else:
            put_page(d.machine, mfn)
    elif mfn != table:
        if d.machine.frames[mfn].type == level:
            d.machine.frames[mfn].linear += 1
            d.machine.frames[table].linear -= 1
        put_page_and_type(d, mfn)


# --- validation of whole frames -----------------------------------------------------------------------------------

cdef void _drop_entries(domain_t *d, uint64_t mfn, int level, uint64_t end) noexcept nogil:
    cdef uint64_t *entries = <uint64_t *>frame_pointer(d.machine, mfn)
    cdef uint64_t i
    for i in range(end):
        if not _is_hypervisor_slot(level, i):
            put_target(d, level, entries[i], mfn)


cdef int _validate_table(domain_t *d, uint64_t mfn, int level) noexcept nogil:
    cdef uint64_t *entries = <uint64_t *>frame_pointer(d.machine, mfn)
    cdef uint64_t forbidden = HV_L1_FORBIDDEN if level == TYPE_L1 else HV_LX_FORBIDDEN
    cdef uint64_t i
    cdef int rc
    for i in range(512):
        if _is_hypervisor_slot(level, i) or not entries[i] & PTE_PRESENT:
            continue
        rc = -XEN_EINVAL if entries[i] & forbidden else _get_target(d, level, entries[i], mfn)
        if rc:
            _drop_entries(d, mfn, level, i)
            return rc
        entries[i] = adjust_entry(level, entries[i])
    return 0


cdef bint _check_descriptor(uint32_t *word) noexcept nogil:
    """Make a descriptor safe: code and data get DPL 3, call gates DPL 0 (they fault); False for any other gate."""
    cdef uint32_t selector = word[0] >> 16
    if not word[1] & 0x8000:                            # not present: always faults
        return True
    if word[1] & 0x1000:
        word[1] |= 0x6000
        return True
    if not word[1] & 0xf00:                             # the second half of a call gate
        return True
    if word[1] & 0xf00 != 0xc00 or word[1] & 0xff:
        return False
    if selector != 0xe033 and not selector & 4 and selector >> 3 >= FIRST_RESERVED_GDT_ENTRY:
        return False
    word[1] &= ~<uint32_t>0x6000
    word[0] |= 3 << 16
    return True


cdef int _validate_descriptors(domain_t *d, uint64_t mfn) noexcept nogil:
    cdef uint32_t *words = <uint32_t *>frame_pointer(d.machine, mfn)
    cdef int i
    for i in range(0, 1024, 2):
        if not _check_descriptor(words + i):
            return -XEN_EINVAL
    return 0


cdef int _validate(domain_t *d, uint64_t mfn, int type) noexcept nogil:
    if TYPE_L1 <= type <= TYPE_L4:
        return _validate_table(d, mfn, type)
    if type == TYPE_SEGDESC:
        return _validate_descriptors(d, mfn)
    return 0


cdef int get_page_and_type(domain_t *d, uint64_t mfn, int type) noexcept nogil:
    """Both references: 0, or -EINVAL (not the domain's, in use as another type, a bad entry inside)."""
    cdef frame_t *f
    cdef int rc
    if get_page(d, mfn):
        return -XEN_EINVAL
    f = &d.machine.frames[mfn]
    if f.type_count == 0:
        if f.type != type:
            if f.type == TYPE_WRITABLE and may_be_used(d, f):   # a stale writable mapping must not outlive this
                request_flush(d)
            f.type = type
            f.flags &= ~FRAME_VALIDATED
        f.linear = 0
        f.type_count = 1                                # before validation: its entries may point back here
        rc = _validate(d, mfn, type)
        if rc:
            f.type_count = 0
            f.type = TYPE_NONE
            put_page(d.machine, mfn)
            return rc
        f.flags |= FRAME_VALIDATED
        return 0
    if f.type != type or not f.flags & FRAME_VALIDATED:
        put_page(d.machine, mfn)
        return -XEN_EINVAL
    f.type_count += 1
    return 0


cdef void put_page_and_type(domain_t *d, uint64_t mfn) noexcept nogil:
    cdef frame_t *f = &d.machine.frames[mfn]
    assert f.type_count > 0
    f.type_count -= 1
    if f.type_count == 0:
        f.flags &= ~FRAME_VALIDATED
        if TYPE_L1 <= f.type <= TYPE_L4:
            _drop_entries(d, mfn, f.type, 512)
            f.type = TYPE_NONE
            d.kernel_changed = 1
    put_page(d.machine, mfn)


# --- changes ------------------------------------------------------------------------------------------------------

cdef int _refuse_as_io(domain_t *d, uint64_t entry) noexcept nogil:
    """What an L1 entry gives whose frame is said to be DOMID_IO's: a domU has none of it, and its own are not."""
    if LOW_FRAMES <= _frame_of(entry) < d.machine.nr_frames:
        return -XEN_EBUSY
    return _get_l1_target(d, entry)


cdef int _modify(domain_t *d, int level, uint64_t mfn, uint64_t *slot, uint64_t value, bint preserve_ad,
                 bint as_io) noexcept nogil:
    """Replace one entry of a validated table."""
    cdef uint64_t old = slot[0]
    cdef uint64_t harmless = HV_L1_HARMLESS if level == TYPE_L1 else HV_LX_HARMLESS
    cdef int rc
    if _is_hypervisor_slot(level, <uint64_t>slot >> 3 & 511) or (as_io and level > TYPE_L1):
        return -XEN_EINVAL
    if value & PTE_PRESENT:
        if value & (HV_L1_FORBIDDEN if level == TYPE_L1 else HV_LX_FORBIDDEN):
            return -XEN_EINVAL
        value = adjust_entry(level, value)
        if old & PTE_PRESENT and not (old ^ value) & ~harmless:
            slot[0] = value | (old & (PTE_ACCESSED | PTE_DIRTY) if preserve_ad else 0)
            _changed(d, level, mfn, slot, old)
            return 0
        rc = _refuse_as_io(d, value) if as_io else _get_target(d, level, value, mfn)
        if rc:
            return rc
    slot[0] = value | (old & (PTE_ACCESSED | PTE_DIRTY) if preserve_ad else 0)
    put_target(d, level, old, mfn)
    _changed(d, level, mfn, slot, old)
    return 0


cdef inline void _changed(domain_t *d, int level, uint64_t mfn, uint64_t *slot, uint64_t old) noexcept nogil:
    entry_changed(d, level, mfn, old)
    if d.machine.trace != NULL:
        trace_page_table(d, level, mfn, <uint64_t>(<uint8_t *>slot - d.machine.ram), old, slot[0])


cdef int write_entry(domain_t *d, uint64_t address, uint64_t value, bint preserve_ad, bint as_io) noexcept nogil:
    """MMU_NORMAL_PT_UPDATE at a machine address: any level, or a plain write where the frame is no table.

    `as_io`: the caller says that what the entry points at is DOMID_IO's.
    """
    cdef uint64_t mfn = address >> PAGE_SHIFT
    cdef frame_t *f
    cdef uint64_t *slot
    cdef int rc
    if get_page(d, mfn):
        return -XEN_EINVAL
    f = &d.machine.frames[mfn]
    slot = <uint64_t *>(frame_pointer(d.machine, mfn) + (address & (PAGE_SIZE - 1) & ~<uint64_t>7))
    if TYPE_L1 <= f.type <= TYPE_L4 and f.flags & FRAME_VALIDATED:
        rc = _modify(d, f.type, mfn, slot, value, preserve_ad, as_io)
    elif get_page_and_type(d, mfn, TYPE_WRITABLE) == 0:
        slot[0] = value
        frame_written(d.machine, mfn)
        put_page_and_type(d, mfn)
        rc = 0
    else:
        rc = -XEN_EINVAL
    put_page(d.machine, mfn)
    return rc


cdef int write_m2p(domain_t *d, uint64_t mfn, uint64_t pfn, bint as_io) noexcept nogil:
    """MMU_MACHPHYS_UPDATE of a frame of its own, or of DOMID_IO's."""
    if not owns(d, mfn) if not as_io else mfn >= LOW_FRAMES:
        return -XEN_EINVAL
    d.machine.m2p[mfn] = pfn
    return 0


cdef bint is_l1_table(domain_t *d, uint64_t mfn) noexcept nogil:
    """Whether the frame is the domain's and in use as an L1 table."""
    return owns(d, mfn) and d.machine.frames[mfn].type == TYPE_L1 and d.machine.frames[mfn].flags & FRAME_VALIDATED != 0


cdef bint write_trapped(domain_t *d, uint64_t mfn, uint64_t offset, uint64_t value) noexcept nogil:
    """A guest's own write to an entry of an L1 table; False, and nothing done, where the new entry is refused."""
    cdef uint64_t *slot = <uint64_t *>(frame_pointer(d.machine, mfn) + offset)
    cdef uint64_t old = slot[0]
    if value & PTE_PRESENT and (value & HV_L1_FORBIDDEN or _get_l1_target(d, value)):
        return False
    slot[0] = adjust_entry(TYPE_L1, value)
    put_target(d, TYPE_L1, old, mfn)
    _changed(d, TYPE_L1, mfn, slot, old)
    return True


cdef int write_descriptor(domain_t *d, uint64_t address, uint64_t value) noexcept nogil:
    """update_descriptor: one entry of a descriptor table in use, or of a frame that may become one."""
    cdef uint64_t mfn = address >> PAGE_SHIFT
    cdef int type
    if address & 7 or not _check_descriptor(<uint32_t *>&value) or not owns(d, mfn):
        return -XEN_EINVAL
    type = TYPE_SEGDESC if d.machine.frames[mfn].type == TYPE_SEGDESC else TYPE_WRITABLE
    if get_page_and_type(d, mfn, type):
        return -XEN_EINVAL
    (<uint64_t *>(frame_pointer(d.machine, mfn) + (address & (PAGE_SIZE - 1))))[0] = value
    frame_written(d.machine, mfn)
    put_page_and_type(d, mfn)
    return 0


# --- LDTs ---------------------------------------------------------------------------------------------------------

cdef bint map_ldt_page(vcpu_t *v, uint64_t offset) noexcept nogil:
    """Before the CPU reads the LDT there: False where nothing is mapped, or the frame can not hold descriptors now."""
    cdef walk_t w
    cdef uint64_t page = offset >> PAGE_SHIFT
    if offset >> 3 >= v.ldt_entries:
        return False
    if v.ldt_frames[page]:
        return True
    if walk(v, v.kernel_root, v.ldt_base + (page << PAGE_SHIFT), ACCESS_LOOK, True, &w) != WALK_OK:
        return False
    if get_page_and_type(v.domain, w.mfn, TYPE_SEGDESC):
        return False
    v.ldt_frames[page] = w.mfn
    return True


cdef void unmap_ldt(vcpu_t *v) noexcept nogil:
    """The CPU reads its pages anew, and until then the guest may use them otherwise."""
    cdef uint64_t mfn
    cdef int i
    for i in range(16):
        mfn = v.ldt_frames[i]
        if mfn:
            v.ldt_frames[i] = 0
            put_page_and_type(v.domain, mfn)
            request_flush(v.domain)


cdef int update_l1_of(vcpu_t *v, uint64_t va, uint64_t value) noexcept nogil:
    """update_va_mapping: the L1 entry that maps `va` under the kernel's root."""
    cdef domain_t *d = v.domain
    cdef uint64_t table = v.kernel_root
    cdef uint64_t *slot
    cdef int level
    if HV_START <= va < HV_END or not canonical(va):
        return -XEN_EINVAL
    for level in range(4, 0, -1):
        if not owns(d, table):
            return -XEN_EINVAL
        slot = <uint64_t *>frame_pointer(d.machine, table) + ((va >> (12 + 9 * (level - 1))) & 511)
        if level > 1:
            if not slot[0] & PTE_PRESENT or slot[0] & PTE_PSE:
                return -XEN_EINVAL
            table = _frame_of(slot[0])
    if d.machine.frames[table].type != TYPE_L1:
        return -XEN_EINVAL
    return _modify(d, TYPE_L1, table, slot, value, False, False)


cdef int pin(domain_t *d, uint64_t mfn, int type) noexcept nogil:
    cdef int rc = get_page_and_type(d, mfn, type)
    if rc:
        return rc
    if d.machine.frames[mfn].flags & FRAME_PINNED:
        put_page_and_type(d, mfn)
        return -XEN_EINVAL
    d.machine.frames[mfn].flags |= FRAME_PINNED
    return 0


cdef int unpin(domain_t *d, uint64_t mfn) noexcept nogil:
    if not owns(d, mfn) or not d.machine.frames[mfn].flags & FRAME_PINNED:
        return -XEN_EINVAL
    d.machine.frames[mfn].flags &= ~FRAME_PINNED
    put_page_and_type(d, mfn)
    return 0


cdef int new_root(vcpu_t *v, uint64_t mfn) noexcept nogil:
    """MMUEXT_NEW_BASEPTR and mov to CR3."""
    cdef uint64_t old = v.kernel_root
    cdef int rc
    if old == mfn:
        root_changes(v.domain, mfn, mfn)
        return 0
    rc = get_page_and_type(v.domain, mfn, TYPE_L4)
    if rc:
        return rc
    root_changes(v.domain, old, mfn)
    unmap_ldt(v)
    v.kernel_root = mfn
    if old:
        put_page_and_type(v.domain, old)
    return 0


cdef int new_user_root(vcpu_t *v, uint64_t mfn) noexcept nogil:
    """MMUEXT_NEW_USER_BASEPTR; 0 takes it away."""
    cdef uint64_t old = v.user_root
    cdef int rc
    if old == mfn:
        return 0
    if mfn:
        rc = get_page_and_type(v.domain, mfn, TYPE_L4)
        if rc:
            return rc
    v.user_root = mfn
    user_changes(v.domain)
    if old:
        put_page_and_type(v.domain, old)
    return 0
