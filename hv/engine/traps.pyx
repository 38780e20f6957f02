# cython: language_level=3
"""Entries into a PV64 guest and the way back: exception and upcall frames, syscall entry, iret.

Rules:
* An entry always runs at CS 0xe033, SS 0xe02b, in guest kernel mode, with TF, NT, RF and AC clear.
* Exceptions go in before events; then events are tested, so an upcall may nest on a fresh frame.
* A handler that is 0, or a frame that can not be pushed, crashes the domain: there is no double fault.

The frame, from the top: ss, rsp, rflags, cs (with the saved upcall mask in byte 4), rip, [error code], r11, rcx.
Behaviour: Xen 4.17, create_bounce_frame in arch/x86/x86_64/entry.S and pv/iret.c; layout in arch-x86/xen-x86_64.h.
"""
cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from xen_abi cimport xen_iret_context, VMASST_TYPE_architectural_iopl
from hv.engine.cpu cimport flush_tlb, flush_user, get_flags, set_flags, set_ring
from hv.engine.unicorn cimport *
from hv.fastpath.domain cimport crash
from hv.fastpath.memory cimport canonical, HV_END, HV_START, LDT_OFFSET, PF_USER, PERDOMAIN_START, copy_from_guest, copy_to_guest, frame_pointer, walk, walk_t, ACCESS_READ, WALK_OK
from hv.fastpath.paging cimport map_ldt_page
from hv.fastpath.points cimport note_entry
from hv.fastpath.state cimport ENTRY_UPCALL, HISTORY, PAGE_SIZE, OBSERVED_TRACE, POINT_UPCALL, POINT_VECTOR, charged, domain_t, entry_record_t, trap_t, vcpu_t
from hv.fastpath.trace cimport (TRACE_FAILSAFE, TRACE_SYSCALL, trace_entered, trace_entry, trace_exception, trace_iret,
                                trace_upcall)

from hv.abi import vectors

cdef enum:
    FLAT_KERNEL_CS = 0xe033
    FLAT_KERNEL_SS = 0xe02b
    FLAT_USER_CS32 = 0xe023
    CODE_64 = 0xaffb00       # descriptor flags: present, DPL 3, code, readable, accessed, L
    DATA_FLAT = 0xcff300     # present, DPL 3, data, writable, accessed, B
    VECTOR_NMI = 2
    VECTOR_GP = 13
    VECTOR_UD = 6
    VECTOR_PF = 14
    HAVE_ERROR_CODE = 0x27d00     # vectors 8, 10-14, 17
    VGCF_IN_SYSCALL = 0x100
    MASK_EVENTS = 4               # trap_info.flags


cdef void _set_segment(hv_env *env, int segment, uint32_t selector, uint64_t base, uint32_t limit, uint32_t flags) noexcept nogil:
    env.segs[segment].selector = selector
    env.segs[segment].base = base
    env.segs[segment].limit = limit
    env.segs[segment].flags = flags


cdef void set_flat_segments(vcpu_t *v) noexcept nogil:
    flat_segments(<hv_env *>v.domain.env, v.kernel_mode)


cdef void flat_segments(hv_env *env, bint kernel_mode) noexcept nogil:
    """CS and SS of every entry into the guest; 64-bit."""
    _set_segment(env, SEG_CS, FLAT_KERNEL_CS, 0, 0xffffffff, CODE_64)
    _set_segment(env, SEG_SS, FLAT_KERNEL_SS, 0, 0xffffffff, DATA_FLAT)
    env.hflags = (env.hflags & ~<uint32_t>(HF_ADDSEG | HF_CPL)) | HF_CS32 | HF_SS32 | HF_CS64
    env.hflags |= RING_KERNEL if kernel_mode else RING_USER


cdef void load_ldt(vcpu_t *v, hv_env *env) noexcept nogil:
    """Where the CPU finds the vCPU's LDT, and how long it is."""
    env.ldt.base = PERDOMAIN_START + (<uint64_t>v.id << 17) + LDT_OFFSET
    env.ldt.limit = v.ldt_entries * 8 - 1 if v.ldt_entries else 0


cdef int _read_descriptor(vcpu_t *v, uint32_t selector, uint64_t *descriptor) noexcept nogil:
    """0, or -1 where the table has no such entry."""
    cdef uint64_t va = PERDOMAIN_START + (<uint64_t>v.id << 17) + (selector & 0xfff8)
    cdef walk_t w
    if selector & 4:
        if not map_ldt_page(v, selector & 0xfff8):
            return -1
        va += LDT_OFFSET
    if walk(v, v.kernel_root, va, ACCESS_READ, False, &w) != WALK_OK:
        return -1
    descriptor[0] = (<uint64_t *>(frame_pointer(v.domain.machine, w.mfn) + (va & (PAGE_SIZE - 1) & ~<uint64_t>7)))[0]
    return 0


cdef int load_segment(vcpu_t *v, int segment, uint32_t selector) noexcept nogil:
    """Load a selector as iret would at ring 3: 0, or -1 for what faults with #GP(selector)."""
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef uint64_t descriptor
    cdef uint32_t low, high, limit
    if not selector & 0xfffc:
        if segment == SEG_CS:
            return -1
        _set_segment(env, segment, selector, 0, 0, 0)
        return 0
    if _read_descriptor(v, selector, &descriptor):
        return -1
    low = <uint32_t>descriptor
    high = <uint32_t>(descriptor >> 32)
    if not high & 0x8000 or not high & 0x1000:           # present, and not a system descriptor
        return -1
    if ((high >> 13) & 3) != 3 and not (segment != SEG_CS and segment != SEG_SS):
        return -1
    if segment == SEG_CS:
        if not high & 0x800 or (high & 0x200000 and high & 0x400000):
            return -1
    elif segment == SEG_SS and (high & 0x800 or not high & 0x200):
        return -1
    limit = (low & 0xffff) | (high & 0xf0000)
    if high & 0x800000:
        limit = (limit << 12) | 0xfff
    _set_segment(env, segment, selector, (low >> 16) | ((high & 0xff) << 16) | ((high >> 24) << 24), limit, high & 0xffff00)
    if segment == SEG_CS:
        env.hflags &= ~<uint32_t>(HF_CS32 | HF_CS64)
        env.hflags |= HF_CS64 | HF_CS32 if high & 0x200000 else (HF_CS32 if high & 0x400000 else 0)
    elif segment == SEG_SS:
        env.hflags = (env.hflags & ~<uint32_t>HF_SS32) | (HF_SS32 if high & 0x400000 or env.hflags & HF_CS64 else 0)
    return 0


cdef uint64_t segment_base(vcpu_t *v, uint32_t selector) noexcept nogil:
    """The base of a data segment; 0 for a selector that could not be loaded."""
    cdef uint64_t descriptor
    if not selector & 0xfffc or _read_descriptor(v, selector, &descriptor):
        return 0
    if not descriptor >> 47 & 1 or not descriptor >> 44 & 1:
        return 0
    return (descriptor >> 16 & 0xffffff) | (descriptor >> 56 & 0xff) << 24


cdef void _toggle_mode(vcpu_t *v) noexcept nogil:
    """Guest kernel <-> guest user: another page-table root and the other GS base."""
    cdef hv_env *env = <hv_env *>v.domain.env
    if v.kernel_mode:
        v.gs_base_kernel = env.segs[SEG_GS].base
        env.segs[SEG_GS].base = v.gs_base_user
    else:
        v.gs_base_user = env.segs[SEG_GS].base
        env.segs[SEG_GS].base = v.gs_base_kernel
    v.kernel_mode ^= 1
    set_ring(v)
    if v.domain.kernel_changed:
        flush_tlb(v.domain)
    elif v.domain.cpu_filled:
        flush_user(v.domain)


@cython.overflowcheck(False)  # a stack near address 0 wraps around, as the CPU's
cdef int _bounce(vcpu_t *v, uint64_t handler, bint mask_events, bint with_error, uint32_t error) noexcept nogil:
    """Push a frame and go to `handler`; -1 after a crash."""
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef uint64_t flags = get_flags(v.domain), cs = env.segs[SEG_CS].selector & 0xffff, sp
    cdef uint64_t frame[8]
    cdef int n = 0
    if v.kernel_mode:
        sp = env.regs[RSP]
        cs &= ~<uint64_t>3
    else:
        _toggle_mode(v)
        sp = v.kernel_sp
    sp &= ~<uint64_t>15
    if HV_START < sp < HV_END + 64:
        crash(v.domain, b"the stack for a trap frame lies in the hypervisor's address range")
        return -1
    frame[0] = env.regs[RCX]
    frame[1] = env.regs[R11]
    n = 2
    if with_error:
        frame[2] = error
        n = 3
    frame[n] = env.eip
    frame[n + 1] = cs | <uint64_t>v.info.evtchn_upcall_mask << 32
    frame[n + 2] = (flags & ~<uint64_t>(FLAG_IF | FLAG_IOPL)) | (0 if v.info.evtchn_upcall_mask else FLAG_IF)
    if v.domain.vm_assist & (<uint64_t>1 << VMASST_TYPE_architectural_iopl):
        frame[n + 2] |= <uint64_t>v.iopl << 12
    frame[n + 3] = env.regs[RSP]
    frame[n + 4] = env.segs[SEG_SS].selector & 0xffff
    n += 5
    sp -= 8 * n
    if copy_to_guest(v, sp, frame, 8 * n):
        v.domain.crash_cr2 = sp
        v.domain.crash_has_cr2 = 1
        crash(v.domain, b"the trap frame can not be pushed: the guest's kernel stack is not writable there")
        return -1
    if handler == 0:
        return -1
    if mask_events:
        v.info.evtchn_upcall_mask = 1
    if v.domain.machine.trace != NULL:
        trace_entered(v, sp, env.regs[RSP])
    flags &= ~<uint64_t>(FLAG_AC | FLAG_VM | FLAG_RF | FLAG_NT | FLAG_TF)
    env.eip = handler
    env.regs[RSP] = sp
    env.regs[RCX] = handler             # Xen returns by sysret
    env.regs[R11] = flags | FLAG_IF
    set_flat_segments(v)
    set_flags(v.domain, flags)
    return 0


cdef inline void _record(vcpu_t *v, int vector, uint32_t error, uint64_t address, bint software) noexcept nogil:
    """Keep an entry into the guest for a crash report; before its frame is pushed."""
    cdef domain_t *d = v.domain
    cdef entry_record_t *r = &d.entries[d.nr_entries & (HISTORY - 1)]
    d.nr_entries += 1
    r.ticks = charged(d.machine)
    r.rip = (<hv_env *>d.env).eip
    r.address = address
    r.error = error
    r.vcpu = v.id
    r.vector = vector
    r.software = software
    r.kernel_mode = v.kernel_mode
    if not d.observed:
        return
    if d.observed & (POINT_VECTOR | POINT_UPCALL):
        note_entry(v, vector, error, address, software, r.rip)
    if not d.observed & OBSERVED_TRACE:
        return
    if vector == ENTRY_UPCALL:
        trace_upcall(v, r.rip)
    else:
        trace_exception(v, r.rip, vector, error, address if vector == VECTOR_PF else 0, software)


cdef void inject(vcpu_t *v, int vector, uint32_t error) noexcept nogil:
    """A hardware exception into the guest."""
    cdef trap_t *trap = &v.traps[vector]
    cdef hv_env *env = <hv_env *>v.domain.env
    if vector == VECTOR_PF:
        v.cr2 = env.cr[2]
        v.info.arch.cr2 = v.cr2
        error = (error & ~<uint32_t>PF_USER) | (0 if v.kernel_mode else PF_USER)
        v.domain.crash_cr2 = v.cr2
        v.domain.crash_has_cr2 = 1
    v.exceptions[vector & 31] += 1
    _record(v, vector, error, env.cr[2], False)
    if trap.address == 0:
        _unhandled(v, vector, error)
        return
    if _bounce(v, trap.address, trap.flags & MASK_EVENTS != 0, HAVE_ERROR_CODE >> vector & 1, error) == 0:
        v.domain.crash_has_cr2 = 0


cdef void _unhandled(vcpu_t *v, int vector, uint32_t error) noexcept nogil:
    with gil:
        name = vectors.name(vector)
        code = f" with error code {error:#x}" if HAVE_ERROR_CODE >> vector & 1 else ""
        where = f" at address {v.cr2:#x}" if vector == VECTOR_PF else ""
        text = f"{name}{where}{code}, and the guest has no handler for it (set_trap_table)".encode()
        crash(v.domain, text)


cdef void inject_interrupt(vcpu_t *v, int vector) noexcept nogil:
    """`int n` of the guest, allowed by its DPL: like an exception, but never an error code."""
    cdef trap_t *trap = &v.traps[vector]
    _record(v, vector, 0, 0, True)
    if trap.address == 0:
        _unhandled(v, vector, 0)
        return
    _bounce(v, trap.address, trap.flags & MASK_EVENTS != 0, False, 0)


cdef void reload_segments(vcpu_t *v) noexcept nogil:
    """A context switch loads the data segments from the tables of now; what fails becomes null, and the guest is told.

    The bases of FS and GS are kept apart and stay.
    """
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef uint32_t[4] old
    cdef uint64_t base
    cdef int i, segment
    cdef bint okay = True
    for i in range(4):
        segment = SEG_DS if i == 0 else SEG_ES if i == 1 else SEG_FS if i == 2 else SEG_GS
        old[i] = env.segs[segment].selector & 0xffff
        base = env.segs[segment].base
        if old[i] & 0xfffc and load_segment(v, segment, old[i]):
            load_segment(v, segment, 0)
            okay = False
        if segment == SEG_FS or segment == SEG_GS:
            env.segs[segment].base = base
    if not okay:
        if v.domain.machine.trace != NULL:
            trace_entry(v, TRACE_FAILSAFE, env.eip, v.failsafe_callback)
        _failsafe(v, old)


cdef void _failsafe(vcpu_t *v, uint32_t *selectors) noexcept nogil:
    """The failsafe callback: like an exception's frame, with DS, ES, FS and GS between rcx, r11 and rip."""
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef uint64_t flags = get_flags(v.domain), sp = env.regs[RSP] if v.kernel_mode else v.kernel_sp
    cdef uint64_t cs = env.segs[SEG_CS].selector & 0xffff, mask = v.info.evtchn_upcall_mask
    cdef uint64_t[11] frame
    if v.kernel_mode:
        cs &= ~<uint64_t>3
    else:
        _toggle_mode(v)
    sp = (sp & ~<uint64_t>15) - sizeof(frame)
    frame[:] = [env.regs[RCX], env.regs[R11], selectors[0], selectors[1], selectors[2], selectors[3], env.eip,
                cs | mask << 32, (flags & ~<uint64_t>(FLAG_IF | FLAG_IOPL)) | (0 if mask else FLAG_IF), env.regs[RSP],
                env.segs[SEG_SS].selector & 0xffff]
    if copy_to_guest(v, sp, frame, sizeof(frame)):
        v.domain.crash_cr2 = sp
        v.domain.crash_has_cr2 = 1
        crash(v.domain, b"the frame of the failsafe callback can not be pushed: the guest's kernel stack is not writable")
        return
    if v.failsafe_masks:
        v.info.evtchn_upcall_mask = 1
    if v.domain.machine.trace != NULL:
        trace_entered(v, sp, env.regs[RSP])
    flags &= ~<uint64_t>(FLAG_AC | FLAG_VM | FLAG_RF | FLAG_NT | FLAG_TF | FLAG_IOPL)
    env.eip = v.failsafe_callback
    env.regs[RSP] = sp
    env.regs[RCX] = env.eip             # Xen returns by sysret
    env.regs[R11] = flags | FLAG_IF
    set_flat_segments(v)
    set_flags(v.domain, flags | FLAG_IF)


cdef void syscall_entry(vcpu_t *v) noexcept nogil:
    """`syscall` in guest user mode; eip is behind it already."""
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef uint64_t flags = get_flags(v.domain)
    cdef bint is_64 = env.hflags & HF_CS64 != 0
    cdef uint64_t handler = v.syscall_callback if is_64 else v.syscall32_callback
    if handler == 0:
        env.eip -= 2
        inject(v, VECTOR_UD, 0)
        return
    if v.domain.machine.trace != NULL:
        trace_entry(v, TRACE_SYSCALL, env.eip, handler)
    env.regs[RCX] = env.eip
    env.regs[R11] = flags
    env.segs[SEG_CS].selector = FLAT_KERNEL_CS if is_64 else 0xe023
    env.segs[SEG_SS].selector = FLAT_KERNEL_SS
    if _bounce(v, handler, v.syscall_masks if is_64 else v.syscall32_masks, False, 0) == 0:
        set_flags(v.domain, get_flags(v.domain) & ~<uint64_t>FLAG_DF)


cdef void _deliver_nmi(vcpu_t *v) noexcept nogil:
    """Masked until the guest's next iret; nothing happens where it has no handler."""
    cdef trap_t *trap = &v.traps[VECTOR_NMI]
    v.nmi_pending = 0
    if trap.address == 0 or v.domain.dying:
        return
    v.nmi_masked = 1
    _record(v, VECTOR_NMI, 0, 0, False)
    _bounce(v, trap.address, trap.flags & MASK_EVENTS != 0, False, 0)


cdef void deliver_events(vcpu_t *v) noexcept nogil:
    """At every return to the guest: an NMI, then an upcall where one is pending and not masked."""
    if v.nmi_pending and not v.nmi_masked:
        _deliver_nmi(v)
    if not v.info.evtchn_upcall_pending or v.info.evtchn_upcall_mask or v.domain.dying:
        return
    if v.event_callback == 0:
        crash(v.domain, b"an event is pending and unmasked, and the guest has no event callback (set_callbacks)")
        return
    _record(v, ENTRY_UPCALL, 0, 0, False)
    if _bounce(v, v.event_callback, True, False, 0) == 0:
        v.upcalls += 1


cdef int64_t iret(vcpu_t *v) noexcept nogil:
    """HYPERVISOR_iret: everything comes from the frame; the result is the saved rax."""
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef xen_iret_context frame
    if copy_from_guest(v, &frame, env.regs[RSP], sizeof(frame)):
        crash(v.domain, b"iret: its frame on the guest's stack can not be read")
        return 0
    if frame.cs & 3 == 3:
        if v.user_root == 0:
            crash(v.domain, b"iret to user mode without a user page table (MMUEXT_NEW_USER_BASEPTR)")
            return 0
        _toggle_mode(v)
    if v.domain.vm_assist & (<uint64_t>1 << VMASST_TYPE_architectural_iopl):
        v.iopl = (frame.rflags >> 12) & 3
    if v.domain.machine.trace != NULL:
        trace_iret(v, frame.rip, frame.rsp, v.kernel_mode)
    env.eip = frame.rip
    env.regs[RSP] = frame.rsp
    set_flags(v.domain, (frame.rflags & 0x3f7fd7 & ~<uint64_t>(FLAG_IOPL | FLAG_VM)) | FLAG_IF)
    if not frame.flags & VGCF_IN_SYSCALL:
        env.regs[R11] = frame.r11
        env.regs[RCX] = frame.rcx
    else:
        env.regs[RCX] = frame.rip
        env.regs[R11] = get_flags(v.domain)
    v.info.evtchn_upcall_mask = 0 if frame.rflags & FLAG_IF else 1
    v.nmi_masked = 0
    env.regs[RAX] = frame.rax
    if frame.flags & VGCF_IN_SYSCALL and canonical(frame.rip):      # Xen returns by sysret: its segments, not these
        set_flat_segments(v)
        if frame.cs & 0xffff | 3 == FLAT_USER_CS32:
            load_segment(v, SEG_CS, FLAT_USER_CS32)
    else:
        _load_return_segments(v, (frame.cs | 3) & 0xffff, (frame.ss | 3) & 0xffff, frame.rip)
    return <int64_t>frame.rax


cdef void _load_return_segments(vcpu_t *v, uint32_t cs, uint32_t ss, uint64_t rip) noexcept nogil:
    """What the CPU's own iretq would check; a fault is the guest's #GP at the place it returns to."""
    if cs == FLAT_KERNEL_CS and ss == FLAT_KERNEL_SS:
        set_flat_segments(v)
    elif load_segment(v, SEG_CS, cs):
        set_flat_segments(v)
        inject(v, VECTOR_GP, cs & 0xfffc)
        return
    elif load_segment(v, SEG_SS, ss) or (not ss & 0xfffc and not (<hv_env *>v.domain.env).hflags & HF_CS64):
        set_flat_segments(v)
        inject(v, VECTOR_GP, ss & 0xfffc)
        return
    if not canonical(rip):
        inject(v, VECTOR_GP, 0)
