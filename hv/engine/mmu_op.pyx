# cython: language_level=3
"""HYPERVISOR_mmu_update, update_va_mapping and mmuext_op: page tables, their roots, the TLB, the LDT.

Rules:
* An update is validated where page types are (hv/fastpath/paging.pyx); here requests are read, bounded and counted.
* A domU names itself only, as DOMID_SELF; in mmu_update DOMID_IO too, whose frames it does not get.
* A call stops after BATCH updates (an extended operation counts for 64: it may walk whole trees) and is made again with
  the rest; `*pdone` counts all that are done.

Behaviour: Xen 4.17, arch/x86/mm.c (do_mmu_update, do_update_va_mapping, do_mmuext_op).
"""
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from xen_abi cimport *
from hv.engine.cpu cimport flush_page
from hv.engine.hypercall cimport BATCH, PREEMPTED
from hv.engine.traps cimport load_ldt
from hv.engine.unicorn cimport hv_env
from hv.fastpath.memory cimport HV_END, HV_START, canonical, copy_from_guest, copy_to_guest, frame_pointer, frame_written, owns
from hv.fastpath.paging cimport (get_page_and_type, new_root, new_user_root, pin, put_page_and_type, unmap_ldt, unpin, update_l1_of,
                                 write_entry, write_m2p)
from hv.fastpath.state cimport PAGE_SHIFT, PAGE_SIZE, TYPE_L1, TYPE_WRITABLE, domain_t, machine_t, request_flush, vcpu_t

cdef extern from * nogil:
    """
    #define MMU_PREEMPTED 0x80000000u
    """
    const uint32_t MMU_PREEMPTED


cdef bint _exists(domain_t *d, uint32_t domid) noexcept nogil:
    cdef machine_t *m = d.machine
    cdef uint32_t i
    for i in range(m.nr_domains):
        if m.domains[i].domid == domid:
            return True
    return False


cdef int _foreign(vcpu_t *v, uint64_t domid) noexcept nogil:
    """0 for DOMID_SELF, or the errno for naming anybody else: it may not (-EPERM), or there is none (its own number)."""
    domid &= 0xffff
    if domid == DOMID_SELF:
        return 0
    if domid == DOMID_IO or domid == DOMID_XEN:
        return -XEN_EPERM
    return -XEN_EPERM if domid != v.domain.domid and _exists(v.domain, <uint32_t>domid) else -XEN_ESRCH


cdef bint _may_be_array(uint64_t address) noexcept nogil:
    """What Xen asks of an array first, even of an empty one: it begins outside of Xen's range."""
    return address >> 47 == 0 or address >= HV_END


cdef int _one_mmu_update(vcpu_t *v, xen_mmu_update *request, bint may, bint as_io) noexcept nogil:
    cdef uint64_t command = request.ptr & 7
    if command > MMU_PT_UPDATE_NO_TRANSLATE:
        return -XEN_ENOSYS
    if not may:
        return -XEN_EPERM
    if command == MMU_MACHPHYS_UPDATE:
        return write_m2p(v.domain, request.ptr >> PAGE_SHIFT, request.val, as_io)
    return write_entry(v.domain, request.ptr - command, request.val, command == MMU_PT_UPDATE_PRESERVE_AD, as_io)


cdef bint _is_rest_of_nothing(const uint64_t *args) noexcept nogil:
    """How Xen makes a call again that only has its result left, in place of the domain: a guest may do it too."""
    return args[0] == 0 and <uint32_t>args[1] == MMU_PREEMPTED


cdef int64_t _report_done(vcpu_t *v, uint64_t pdone, uint32_t count, uint32_t done, int64_t rc) noexcept nogil:
    """`*pdone` counts the elements done in all parts of a preempted call."""
    cdef uint32_t before = 0
    if pdone:
        if count & MMU_PREEMPTED:
            copy_from_guest(v, &before, pdone, 4)
        before += done
        copy_to_guest(v, pdone, &before, 4)
    return rc


cdef int64_t hot_mmu_update(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef uint32_t count = <uint32_t>args[1] & ~MMU_PREEMPTED, i = 0
    cdef uint32_t tables = <uint32_t>args[3] >> 16       # whose page tables: 0, or a domain's number + 1
    cdef bint as_io = <uint32_t>args[3] & 0xffff == DOMID_IO
    cdef xen_mmu_update request
    cdef int rc = 0
    cdef bint may
    if _is_rest_of_nothing(args):
        return <int32_t>args[3]
    if not _may_be_array(args[0]):
        return -XEN_EFAULT
    if tables and not _exists(v.domain, tables - 1):
        return -XEN_ESRCH
    rc = _foreign(v, args[3])
    if rc == -XEN_ESRCH:
        return _report_done(v, args[2], <uint32_t>args[1], 0, rc)
    may = (rc == 0 or as_io) and (tables == 0 or tables - 1 == v.domain.domid)  # asked for each request, behind its command
    rc = 0
    while i < count and rc == 0:
        if i == BATCH:
            args[0] += BATCH * sizeof(request)
            rc = _report_done(v, args[2], <uint32_t>args[1], i, 0)
            args[1] = (count - BATCH) | MMU_PREEMPTED
            return PREEMPTED
        if copy_from_guest(v, &request, args[0] + i * sizeof(request), sizeof(request)):
            rc = -XEN_EFAULT
        else:
            rc = _one_mmu_update(v, &request, may, as_io)
        if rc == 0:
            i += 1
    return _report_done(v, args[2], <uint32_t>args[1], i, rc)


cdef int64_t hot_update_va_mapping(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef uint64_t kind = args[2] & UVMF_FLUSHTYPE_MASK, whom = args[2] & ~<uint64_t>UVMF_FLUSHTYPE_MASK, mask
    cdef int rc = update_l1_of(v, args[0], args[1])
    if rc or (kind != UVMF_TLB_FLUSH and kind != UVMF_INVLPG):
        return rc
    if whom != UVMF_LOCAL and whom != UVMF_ALL:         # a pointer to a mask of vCPUs; they share one TLB here
        if copy_from_guest(v, &mask, whom, sizeof(mask)):
            return -XEN_EFAULT
    if kind == UVMF_TLB_FLUSH:
        request_flush(v.domain)
    else:
        flush_page(v.domain, args[0])
    return 0


cdef int64_t hot_update_va_mapping_otherdomain(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef int rc = _foreign(v, args[3])
    return rc if rc else hot_update_va_mapping(v, args)


cdef int _set_ldt(vcpu_t *v, uint64_t base, uint32_t entries) noexcept nogil:
    if entries == 0:
        base = 0
    if base & (PAGE_SIZE - 1) or entries > 8192 or HV_START <= base < HV_END or not canonical(base):
        return -XEN_EINVAL
    if v.ldt_base != base or v.ldt_entries != entries:
        unmap_ldt(v)
        v.ldt_base = base
        v.ldt_entries = entries
        load_ldt(v, <hv_env *>v.domain.env)
    return 0


cdef int _page_operation(vcpu_t *v, uint64_t to, uint64_t source, bint copy) noexcept nogil:
    cdef domain_t *d = v.domain
    if copy and not owns(d, source):
        return -XEN_EINVAL
    if get_page_and_type(d, to, TYPE_WRITABLE):
        return -XEN_EINVAL
    if copy:
        memcpy(frame_pointer(d.machine, to), frame_pointer(d.machine, source), PAGE_SIZE)
    else:
        memset(frame_pointer(d.machine, to), 0, PAGE_SIZE)
    frame_written(d.machine, to)
    put_page_and_type(d, to)
    return 0


cdef int _flush_operation(vcpu_t *v, xen_mmuext_op *op) noexcept nogil:
    """All vCPUs share one TLB here, so local, multi and all are the same."""
    if op.cmd == MMUEXT_INVLPG_LOCAL or op.cmd == MMUEXT_INVLPG_MULTI or op.cmd == MMUEXT_INVLPG_ALL:
        if canonical(op.arg1.linear_addr):
            flush_page(v.domain, op.arg1.linear_addr)
    else:
        request_flush(v.domain)
    return 0


cdef int _one_mmuext(vcpu_t *v, xen_mmuext_op *op) noexcept nogil:
    cdef uint64_t mfn = op.arg1.mfn
    cdef uint64_t mask
    if op.cmd <= MMUEXT_PIN_L4_TABLE:
        return pin(v.domain, mfn, TYPE_L1 + (op.cmd - MMUEXT_PIN_L1_TABLE))
    if op.cmd == MMUEXT_UNPIN_TABLE:
        return unpin(v.domain, mfn)
    if op.cmd == MMUEXT_NEW_BASEPTR:
        return new_root(v, mfn)
    if op.cmd == MMUEXT_NEW_USER_BASEPTR:
        return new_user_root(v, mfn)
    if op.cmd == MMUEXT_TLB_FLUSH_MULTI or op.cmd == MMUEXT_INVLPG_MULTI:
        if copy_from_guest(v, &mask, op.arg2.vcpumask, sizeof(mask)):
            return -XEN_EINVAL
        return _flush_operation(v, op)
    if MMUEXT_TLB_FLUSH_LOCAL <= op.cmd <= MMUEXT_INVLPG_ALL:
        return _flush_operation(v, op)
    if op.cmd == MMUEXT_FLUSH_CACHE:
        return -XEN_EACCES
    if op.cmd == MMUEXT_FLUSH_CACHE_GLOBAL:
        return -XEN_EINVAL
    if op.cmd == MMUEXT_SET_LDT:
        return _set_ldt(v, op.arg1.linear_addr, op.arg2.nr_ents)
    if op.cmd == MMUEXT_CLEAR_PAGE:
        return _page_operation(v, mfn, 0, False)
    if op.cmd == MMUEXT_COPY_PAGE:
        return _page_operation(v, mfn, op.arg2.src_mfn, True)
    if op.cmd == MMUEXT_MARK_SUPER or op.cmd == MMUEXT_UNMARK_SUPER:
        return -XEN_EOPNOTSUPP
    return -XEN_ENOSYS


cdef int64_t hot_mmuext_op(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef uint32_t count = <uint32_t>args[1] & ~MMU_PREEMPTED, i = 0
    cdef xen_mmuext_op op
    cdef int rc = 0
    if _is_rest_of_nothing(args):
        return <int32_t>args[3]
    if not _may_be_array(args[0]):
        return -XEN_EFAULT
    rc = _foreign(v, args[3])
    if rc:
        return rc
    while i < count and rc == 0:
        if i == BATCH // 64:                # an operation may walk whole page-table trees
            args[0] += i * sizeof(op)
            _report_done(v, args[2], <uint32_t>args[1], i, 0)
            args[1] = (count - i) | MMU_PREEMPTED
            return PREEMPTED
        if copy_from_guest(v, &op, args[0] + i * sizeof(op), sizeof(op)):
            rc = -XEN_EFAULT
        else:
            rc = _one_mmuext(v, &op)
        if rc == 0:
            i += 1
    return _report_done(v, args[2], <uint32_t>args[1], i, rc)
