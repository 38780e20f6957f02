# cython: language_level=3
"""Mapping what another domain has granted, and undoing it.

Rules:
* A grant in use has a pin for every use (active_t); the first looks at the guest's entry, and what it found then holds
  until the last use ends, whatever the guest writes there meanwhile.
* A mapping holds a reference to the frame, and a type reference too if it can write: the granter can neither free the
  frame nor make a page table of it.
* An entry that a grant has put into a page table is an ordinary entry from then on: if the guest overwrites it, its
  references go with it, but the grant stays in use, and the handle can never be given back (as on Xen).
* Domain 0 is hv itself and has no page tables: its mappings are the host's views of the frame.

Behaviour: Xen 4.17's common/grant_table.c and arch/x86/pv/grant_table.c. An error is a GNTST_* status, in Xen's order.
"""
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from xen_abi cimport *
from hv.fastpath.domain cimport crash
from hv.fastpath.foreign cimport add_foreign, remove_foreign
from hv.fastpath.frames cimport get_page, put_page
from hv.fastpath.grant_entries cimport clear_status, entry_written
from hv.fastpath.grant_table cimport NO_HANDLE, give_handle, nr_entries, take_handle
from hv.fastpath.memory cimport *
from hv.fastpath.paging cimport adjust_entry, get_page_and_type, put_page_and_type, put_target
from hv.fastpath.state cimport *
from hv.fastpath.tlb cimport entry_changed
from hv.fastpath.trace cimport trace_grant


cdef domain_t *find_domain(machine_t *m, uint32_t domid) noexcept nogil:
    """The domain of this number, also one that is dead but has frames that others hold; NULL for none."""
    cdef domain_t *d
    cdef uint32_t i
    for i in range(m.nr_domains):
        if m.domains[i].domid == domid:
            return m.domains[i]
    d = m.zombies
    while d != NULL and (d.domid != domid or d.held == 0):
        d = d.next_zombie
    return d


# --- uses of a grant ----------------------------------------------------------------------------------------------

cdef uint32_t _pins(uint32_t flags) noexcept nogil:
    """What a mapping with these GNTMAP_* flags counts."""
    cdef uint32_t pins = 0
    if flags & GNTMAP_host_map:
        pins = PIN_HOST_READ if flags & GNTMAP_readonly else PIN_HOST_WRITE
    if flags & GNTMAP_device_map:
        pins |= PIN_DEVICE_READ if flags & GNTMAP_readonly else PIN_DEVICE_WRITE
    return pins


cdef void _reduce_status(grant_table_t *t, uint32_t ref, bint readonly) noexcept nogil:
    """Take back what is noted in the entry beyond what is still in use."""
    cdef uint32_t pin = t.active[ref].pin
    cdef uint16_t flags = 0 if pin else GTF_reading
    if not readonly and not pin & PIN_WRITERS:
        flags |= GTF_writing
    if flags:
        clear_status(t, ref, flags)
        entry_written(t, ref)


cdef void end_use(domain_t *owner, uint32_t ref, uint32_t pins) noexcept nogil:
    owner.grants.active[ref].pin -= pins
    _reduce_status(owner.grants, ref, not pins & PIN_WRITERS)


cdef int _first_use(domain_t *d, domain_t *owner, uint32_t ref, bint readonly) noexcept nogil:
    """Look at the entry, as for a first use or a first writer; for a first use, take the frame that stands there, with a
    reference."""
    cdef grant_table_t *t = owner.grants
    cdef active_t *a = &t.active[ref]
    cdef int rc = t.ops.set_status(t, ref, a, readonly, True, d.domid)
    if rc != GNTST_okay or a.pin:
        return rc
    if get_page(owner, t.ops.frame(t, ref)):
        _reduce_status(t, ref, readonly)
        return GNTST_bad_page
    a.mfn = t.ops.frame(t, ref)
    a.domid = <uint16_t>d.domid
    a.start, a.length, a.is_sub_page = 0, PAGE_SIZE, 0
    a.source_domid, a.source_ref = <uint16_t>owner.domid, ref
    return GNTST_okay


cdef int _writable(domain_t *owner, uint64_t mfn) noexcept nogil:
    """A type reference to a frame that holds a plain one already: 0 or -EINVAL."""
    if get_page_and_type(owner, mfn, TYPE_WRITABLE):
        return -XEN_EINVAL
    put_page(owner.machine, mfn)
    return 0


cdef int _take_frame(domain_t *owner, uint64_t mfn, uint32_t flags) noexcept nogil:
    """The references of a mapping, of which one is there already: 0, or -EINVAL with that one given back too."""
    cdef bint readonly = flags & GNTMAP_readonly != 0
    cdef bint both = flags & GNTMAP_device_map and flags & GNTMAP_host_map
    if both and get_page(owner, mfn):
        put_page(owner.machine, mfn)
        return -XEN_EINVAL
    if readonly:
        return 0
    if _writable(owner, mfn) == 0:
        if not both or _writable(owner, mfn) == 0:
            return 0
        put_page_and_type(owner, mfn)
        put_page(owner.machine, mfn)
        return -XEN_EINVAL
    if both:
        put_page(owner.machine, mfn)
    put_page(owner.machine, mfn)
    return -XEN_EINVAL


cdef void _give_frame(domain_t *d, uint64_t mfn, uint32_t pins) noexcept nogil:
    if pins & PIN_HOST_WRITE:
        put_page_and_type(d, mfn)
    if pins & PIN_DEVICE_WRITE:
        put_page_and_type(d, mfn)
    if pins & PIN_HOST_READ:
        put_page(d.machine, mfn)
    if pins & PIN_DEVICE_READ:
        put_page(d.machine, mfn)


cdef int _use_grant(domain_t *d, domain_t *owner, uint32_t ref, uint32_t flags, uint64_t *mfn) noexcept nogil:
    """Pin a grant of `owner` for a mapping by `d` with GNTMAP_* flags, with the references on its frame: a GNTST_* status."""
    cdef grant_table_t *t = owner.grants
    cdef uint32_t pins = _pins(flags)
    cdef bint readonly = flags & GNTMAP_readonly != 0, has_page = False
    cdef active_t *a
    cdef int rc
    if ref >= nr_entries(t):
        return GNTST_bad_gntref
    a = &t.active[ref]
    if a.pin and (a.domid != d.domid or a.pin & pins << 7 or a.is_sub_page):
        return GNTST_general_error
    if not a.pin or (not readonly and not a.pin & PIN_WRITERS):
        has_page = a.pin == 0
        rc = _first_use(d, owner, ref, readonly)
        if rc != GNTST_okay:
            return rc
    a.pin += pins
    mfn[0] = a.mfn
    if (not has_page and get_page(owner, a.mfn)) or _take_frame(owner, a.mfn, flags):
        end_use(owner, ref, pins)
        return GNTST_general_error
    d.machine.frames[a.mfn].flags |= FRAME_GRANTED
    if flags & GNTMAP_device_map and add_foreign(d, a.mfn, not readonly, True):
        _give_frame(d, a.mfn, pins)
        end_use(owner, ref, pins)
        return GNTST_general_error
    return GNTST_okay


cdef void _undo(domain_t *d, domain_t *owner, uint32_t ref, uint64_t mfn, uint32_t pins) noexcept nogil:
    """The end of a use; a page-table entry that it had is gone already."""
    if pins & (PIN_DEVICE_READ | PIN_DEVICE_WRITE):
        remove_foreign(d, mfn, pins & PIN_DEVICE_WRITE != 0, True)
    _give_frame(d, mfn, pins)
    end_use(owner, ref, pins)


# --- page-table entries -------------------------------------------------------------------------------------------

cdef uint64_t _entry(uint64_t mfn, uint32_t flags) noexcept nogil:
    """The page-table entry of a mapping, before hv's adjustments."""
    cdef uint64_t entry = mfn << PAGE_SHIFT | PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY | PTE_NX
    if flags & GNTMAP_application_map:
        entry |= PTE_USER
    if not flags & GNTMAP_readonly:
        entry |= PTE_RW
    return entry | (<uint64_t>(flags >> 16) << 9 & 0xe00)       # _GNTMAP_guest_avail0 to the entry's software bits


cdef uint64_t *_slot(vcpu_t *v, uint64_t address, uint32_t flags, uint64_t *table) noexcept nogil:
    """The L1 entry that `address` names: its own machine address with GNTMAP_contains_pte, else what it maps. NULL for
    none, or one that is not in a page table of the domain."""
    cdef domain_t *d = v.domain
    cdef frame_t *f
    cdef walk_t w
    if not flags & GNTMAP_contains_pte:
        if HV_START <= address < HV_END or not canonical(address):
            return NULL
        w.level, w.slots[1] = 4, 0
        if walk(v, v.kernel_root, address, ACCESS_LOOK, True, &w) != WALK_OK and w.level > 1:
            return NULL
        address = w.slots[1]
    elif address & 7:
        return NULL
    table[0] = address >> PAGE_SHIFT
    if not owns(d, table[0]):
        return NULL
    f = &d.machine.frames[table[0]]
    if f.type != TYPE_L1 or f.type_count == 0 or not f.flags & FRAME_VALIDATED:
        return NULL
    return <uint64_t *>(d.machine.ram + address)


cdef int _create_mapping(vcpu_t *v, uint64_t address, uint64_t mfn, uint32_t flags) noexcept nogil:
    """The entry takes over a reference that the caller has."""
    cdef uint64_t table, old
    cdef uint64_t *slot = _slot(v, address, flags, &table)
    if slot == NULL or add_foreign(v.domain, mfn, not flags & GNTMAP_readonly, False):
        return GNTST_general_error
    old = slot[0]
    slot[0] = adjust_entry(TYPE_L1, _entry(mfn, flags))
    if old & PTE_PRESENT:
        entry_changed(v.domain, TYPE_L1, table, old)
        put_target(v.domain, TYPE_L1, old, table)
    return GNTST_okay


cdef bint _steal_entry(vcpu_t *v, uint64_t address, uint64_t *entry) noexcept nogil:
    """Take the entry that maps an address out of its table, with its references."""
    cdef uint64_t table
    cdef uint64_t *slot = _slot(v, address, 0, &table)
    if slot == NULL:
        return False
    entry[0] = slot[0]
    slot[0] = 0
    if entry[0] & PTE_PRESENT:
        request_flush(v.domain)
    return True


cdef int _replace_mapping(vcpu_t *v, uint64_t address, uint64_t mfn, uint64_t new_address, uint32_t flags) noexcept nogil:
    """Take a mapping's entry away, whose references stay with the caller; what maps `new_address` comes in its place."""
    cdef uint64_t table, replacement = 0
    cdef uint64_t *slot
    if new_address and (flags & GNTMAP_contains_pte or not _steal_entry(v, new_address, &replacement)):
        return GNTST_general_error
    slot = _slot(v, address, flags, &table)
    if slot == NULL or (slot[0] & ADDRESS_MASK) >> PAGE_SHIFT != mfn or \
            (slot[0] ^ _entry(mfn, flags)) & (PTE_PRESENT | PTE_RW):
        put_target(v.domain, TYPE_L1, replacement, 0)
        return GNTST_general_error
    slot[0] = replacement
    remove_foreign(v.domain, mfn, not flags & GNTMAP_readonly, False)
    return GNTST_okay


# --- the operations -----------------------------------------------------------------------------------------------

cdef void map_grant_ref(vcpu_t *v, xen_gnttab_map_grant_ref *op) noexcept nogil:
    cdef domain_t *d = v.domain
    cdef domain_t *owner
    cdef uint32_t handle
    cdef uint64_t mfn
    cdef int rc
    if not op.flags & (GNTMAP_host_map | GNTMAP_device_map):
        op.status = GNTST_bad_gntref
        return
    owner = find_domain(d.machine, op.dom)
    if owner == NULL:
        op.status = GNTST_bad_domain
        return
    handle = take_handle(d.grants, v.id)
    if handle == NO_HANDLE:
        op.status = GNTST_no_space
        return
    rc = _use_grant(d, owner, op.ref, op.flags, &mfn)
    if rc == GNTST_okay and op.flags & GNTMAP_host_map:
        rc = _create_mapping(v, op.host_addr, mfn, op.flags)
        if rc != GNTST_okay:
            _undo(d, owner, op.ref, mfn, _pins(op.flags))
    op.status = <int16_t>rc
    if rc != GNTST_okay:
        give_handle(d.grants, handle)
        return
    d.grants.maptrack[handle].ref = op.ref
    d.grants.maptrack[handle].domid = op.dom
    d.grants.maptrack[handle].flags = <uint16_t>op.flags
    op.dev_bus_addr = mfn << PAGE_SHIFT
    op.handle = handle
    if d.machine.trace != NULL:
        trace_grant(d, False, mfn, &d.grants.maptrack[handle], op.host_addr if op.flags & GNTMAP_host_map else 0, handle)


cdef int _unmap(vcpu_t *v, uint32_t handle, uint64_t host_address, uint64_t bus_address, uint64_t new_address) noexcept nogil:
    """What both ways of unmapping share: a GNTST_* status."""
    cdef domain_t *d = v.domain
    cdef mapping_t *map
    cdef domain_t *owner
    cdef uint32_t flags, done = 0
    cdef uint64_t mfn
    cdef int rc
    if handle >= d.grants.nr_handles or d.grants.maptrack[handle].flags == 0:
        return GNTST_bad_handle
    map = &d.grants.maptrack[handle]
    owner = find_domain(d.machine, map.domid)
    if owner == NULL:                       # its entry was overwritten, and now even the granter is gone
        crash(d, b"unmaps a grant of a domain that no longer exists, after it had overwritten the mapping itself")
        return GNTST_general_error
    if map.ref >= nr_entries(owner.grants):
        return GNTST_bad_handle
    flags = map.flags
    mfn = owner.grants.active[map.ref].mfn
    if bus_address and flags & GNTMAP_device_map and bus_address != mfn << PAGE_SHIFT:
        return GNTST_bad_dev_addr
    if host_address and flags & GNTMAP_host_map:
        rc = _replace_mapping(v, host_address, mfn, new_address, flags)
        if rc != GNTST_okay:
            return rc
        done |= GNTMAP_host_map
    if bus_address and flags & GNTMAP_device_map:
        done |= GNTMAP_device_map
    if done and d.machine.trace != NULL:
        trace_grant(d, True, mfn, map, host_address, handle)
    map.flags &= ~<uint16_t>done
    if done:
        _undo(d, owner, map.ref, mfn, _pins(done | flags & GNTMAP_readonly))
    if not map.flags & (GNTMAP_host_map | GNTMAP_device_map):
        give_handle(d.grants, handle)
    if d.granted_in_tlb:
        request_flush(d)
    return GNTST_okay


cdef void unmap_grant_ref(vcpu_t *v, xen_gnttab_unmap_grant_ref *op) noexcept nogil:
    op.status = <int16_t>_unmap(v, op.handle, op.host_addr, op.dev_bus_addr, 0)


cdef void unmap_and_replace(vcpu_t *v, xen_gnttab_unmap_and_replace *op) noexcept nogil:
    op.status = <int16_t>_unmap(v, op.handle, op.host_addr, 0, op.new_addr)


# --- domain 0 -----------------------------------------------------------------------------------------------------

cdef int host_map(domain_t *host, uint32_t domid, uint32_t ref, bint readonly, uint32_t *handle, uint64_t *mfn) noexcept nogil:
    """Map a grant for a backend: a GNTST_* status, and then a handle and the frame."""
    cdef domain_t *owner = find_domain(host.machine, domid)
    cdef uint32_t flags = GNTMAP_host_map | GNTMAP_readonly if readonly else GNTMAP_host_map
    cdef int rc
    if owner == NULL:
        return GNTST_bad_domain
    handle[0] = take_handle(host.grants, 0)
    if handle[0] == NO_HANDLE:
        return GNTST_no_space
    rc = _use_grant(host, owner, ref, flags, mfn)
    if rc == GNTST_okay and add_foreign(host, mfn[0], not readonly, False):
        _undo(host, owner, ref, mfn[0], _pins(flags))
        rc = GNTST_general_error
    if rc != GNTST_okay:
        give_handle(host.grants, handle[0])
        return rc
    host.grants.maptrack[handle[0]].ref = ref
    host.grants.maptrack[handle[0]].domid = <uint16_t>domid
    host.grants.maptrack[handle[0]].flags = <uint16_t>flags
    if host.machine.trace != NULL:
        trace_grant(host, False, mfn[0], &host.grants.maptrack[handle[0]], 0, handle[0])
    return GNTST_okay


cdef int host_unmap(domain_t *host, uint32_t handle) noexcept nogil:
    """The end of a backend's mapping: a GNTST_* status."""
    cdef mapping_t *map
    cdef domain_t *owner
    cdef uint64_t mfn
    if handle >= host.grants.nr_handles or host.grants.maptrack[handle].flags == 0:
        return GNTST_bad_handle
    map = &host.grants.maptrack[handle]
    owner = find_domain(host.machine, map.domid)
    if owner == NULL:
        return GNTST_bad_domain
    mfn = owner.grants.active[map.ref].mfn
    if host.machine.trace != NULL:
        trace_grant(host, True, mfn, map, 0, handle)
    frame_written(host.machine, mfn)        # the last chance to say so
    remove_foreign(host, mfn, not map.flags & GNTMAP_readonly, False)
    _undo(host, owner, map.ref, mfn, _pins(map.flags))
    give_handle(host.grants, handle)
    return GNTST_okay


# --- death --------------------------------------------------------------------------------------------------------

cdef void release_mappings(domain_t *d) noexcept nogil:
    """A dying domain ends its use of every grant; the references on their frames go with release_foreign."""
    cdef grant_table_t *t = d.grants
    cdef domain_t *owner
    cdef uint32_t handle, pins
    for handle in range(t.nr_handles):
        pins = _pins(t.maptrack[handle].flags)
        owner = find_domain(d.machine, t.maptrack[handle].domid) if pins else NULL
        if owner != NULL:
            end_use(owner, t.maptrack[handle].ref, pins)
        t.maptrack[handle].flags = 0


cdef void release_foreign(domain_t *d) noexcept nogil:
    """Its page tables go: what they, and device mappings, hold of other domains' frames."""
    cdef grant_table_t *t = d.grants
    cdef foreign_t *f
    cdef uint64_t mfn
    cdef uint32_t i
    for i in range(t.foreign_size):
        f = &t.foreign[i]
        while f.tag:                        # a removal may move another one here
            mfn = f.tag - 1
            if f.writes or f.device_writes:
                remove_foreign(d, mfn, True, f.writes == 0)
                put_page_and_type(d, mfn)
            else:
                remove_foreign(d, mfn, False, f.reads == 0)
                put_page(d.machine, mfn)
