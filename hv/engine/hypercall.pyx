# cython: language_level=3
"""Hypercalls: from `syscall` in guest kernel mode to a handler and back.

Rules:
* A hot row (hv/abi/hypercalls.py names its C function) is served here without Python; COLD passes the call on to the
  Python handlers, which also serve whatever sub-operation a hot function does not.
* Work is bounded: a call that counts stops after BATCH elements and is made again with its arguments moved on.
* On the way back: domain 0's handlers first, then TLB flushes, then upcalls.

Behaviour: Xen 4.17 (arch/x86/pv/hypercall.c, mm.c, common/multicall.c, common/sched/core.c).
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from xen_abi cimport *
from hv.engine.clock cimport HYPERCALL_TICKS, forget_watch, set_periodic, set_poll_timeout, set_singleshot, stop_singleshot
from hv.engine.cpu cimport (debug_registers_changed, flush_page, flush_wanted, get_flags, leave_now, restart_block,
                            set_task_switched)
from hv.engine.grant_table_op cimport hot_grant_table_op
from hv.engine.stepping cimport look_at_call
from hv.engine.traps cimport deliver_events, iret, load_ldt, load_segment, segment_base, set_flat_segments, syscall_entry
from hv.engine.unicorn cimport *
from hv.fastpath.breakpoints cimport get_debug_register, set_debug_register
from hv.fastpath.domain cimport shutdown
from hv.fastpath.evtchn cimport poll as poll_port, send, unmask
from hv.fastpath.frames cimport get_page
from hv.fastpath.memory cimport canonical, HV_END, HV_START, copy_from_guest, copy_to_guest, frame_pointer, frame_written, owns
from hv.fastpath.now cimport system_time
from hv.fastpath.paging cimport (get_page_and_type, new_root, new_user_root, pin, put_page_and_type, unmap_ldt, unpin, update_l1_of,
                                 write_entry)
from hv.fastpath.points cimport note_return
from hv.fastpath.state cimport *
from hv.fastpath.trace cimport trace_call, trace_return
from hv.fastpath.vcpu cimport runstate_now, unblock
from libc.string cimport memcpy, memset

cdef enum:
    NR_HYPERCALLS = 64
    BATCH = 4096
    SHORTEST_PERIOD = 1000000     # ns, of a periodic timer

cdef extern from * nogil:
    """
    #define MMU_PREEMPTED 0x80000000u
    """
    const uint32_t MMU_PREEMPTED

cdef hot_t[NR_HYPERCALLS] _hot


cdef int _foreign(vcpu_t *v, uint32_t domid) noexcept nogil:
    """Page-table calls of a domU are about itself: 0, or the errno for naming anybody else (even its own number)."""
    cdef machine_t *m = v.domain.machine
    cdef uint32_t i
    if domid == DOMID_SELF:
        return 0
    if domid == DOMID_IO or domid == DOMID_XEN:
        return -XEN_EPERM
    for i in range(m.nr_domains):
        if m.domains[i].domid == domid and domid != v.domain.domid:
            return -XEN_EPERM
    return -XEN_ESRCH


# --- entry and exit -----------------------------------------------------------------------------------------------

cdef void on_syscall(vcpu_t *v) noexcept nogil:
    cdef domain_t *d = v.domain
    cdef hv_env *env = <hv_env *>d.env
    cdef machine_t *m = d.machine
    cdef uint64_t args[6]
    cdef uint64_t number = env.regs[RAX]
    cdef int64_t result
    if d.observed & POINT_CALL and v.kernel_mode:
        look_at_call(v)
    env.eip += 2
    m.block = NULL                          # it ends here, complete
    if v.watching:                          # a #DB that comes inside Xen is nobody's
        forget_watch(v)
    m.left -= HYPERCALL_TICKS
    if not v.kernel_mode:
        syscall_entry(v)
        back_to_guest(v)
        return
    args[0] = env.regs[RDI]
    args[1] = env.regs[RSI]
    args[2] = env.regs[RDX]
    args[3] = env.regs[R10]
    args[4] = env.regs[R8]
    args[5] = env.regs[R9]
    env.regs[RCX] = env.eip                 # what syscall and sysret leave there
    env.regs[R11] = get_flags(d)
    if env.segs[SEG_CS].selector != 0xe033 or env.segs[SEG_SS].selector != 0xe02b:
        set_flat_segments(v)
    if number == __HYPERVISOR_iret:
        d.hypercall_count[__HYPERVISOR_iret] += 1
        iret(v)
        if d.observed & POINT_RETURN:
            note_return(v, number, args, <int64_t>env.regs[RAX])
    else:
        result = _dispatch(v, number, args)
        if result == PREEMPTED:
            env.eip -= 2
            m.part_of, m.part_at = v, env.eip
            env.regs[RDI], env.regs[RSI], env.regs[RDX] = args[0], args[1], args[2]
            env.regs[R10] = args[3]
        else:
            env.regs[RAX] = <uint64_t>result
    back_to_guest(v)


cdef void back_to_guest(vcpu_t *v) noexcept nogil:
    """What Xen's test_all_events does; leaves the CPU loop where the engine has to act."""
    cdef domain_t *d = v.domain
    if d.machine.host.evtchn_upcall_pending:
        drain_host_events(d.machine)
    deliver_events(v)
    if d.need_flush:
        flush_wanted(d)
    if d.machine.stop:
        leave_now(d)
    if (<hv_env *>d.env).eflags & FLAG_TF:      # returning here would raise #DB before the guest's next instruction
        restart_block(d)


cdef int64_t _dispatch(vcpu_t *v, uint64_t number, uint64_t *args) noexcept nogil:
    if not v.domain.observed:
        return _serve(v, number, args)
    return _observed(v, number, args)


cdef int64_t _observed(vcpu_t *v, uint64_t number, uint64_t *args) noexcept nogil:
    """A trace or the debugger wants to know."""
    cdef int64_t result = _serve(v, number, args) if v.domain.machine.trace == NULL else _traced(v, number, args)
    if v.domain.observed & POINT_RETURN and result != PREEMPTED:
        note_return(v, number, args, result)
    return result


cdef int64_t _traced(vcpu_t *v, uint64_t number, uint64_t *args) noexcept nogil:
    cdef machine_t *m = v.domain.machine
    cdef uint64_t before = m.trace.current
    cdef uint64_t call = trace_call(v, number, args, (<hv_env *>v.domain.env).regs[RSP],
                                    0 if v.domain.in_multicall else HYPERCALL_TICKS)
    cdef int64_t result = _serve(v, number, args)
    if m.trace != NULL:                     # a handler in Python may have ended the trace
        trace_return(v, call, before, number, args, result, result == PREEMPTED)
    return result


cdef int64_t _serve(vcpu_t *v, uint64_t number, uint64_t *args) noexcept nogil:
    cdef int64_t result = COLD
    if number >= NR_HYPERCALLS:
        _record(v, number, args, -XEN_ENOSYS)
        return -XEN_ENOSYS
    v.domain.hypercall_count[number] += 1
    if _hot[number] != NULL:
        result = _hot[number](v, args)
    if result == COLD:
        result = _cold(v, number, args)
    _record(v, number, args, result)
    return result


cdef inline void _record(vcpu_t *v, uint64_t number, const uint64_t *args, int64_t result) noexcept nogil:
    """Keep a call that has returned for a crash report. A few stores: this is part of every hypercall."""
    cdef domain_t *d = v.domain
    cdef call_record_t *r = &d.calls[d.nr_calls & (HISTORY - 1)]
    d.nr_calls += 1
    r.ticks = charged(d.machine)
    r.number = number
    r.args[0], r.args[1] = args[0], args[1]
    r.args[2], r.args[3] = args[2], args[3]
    r.result = result
    r.vcpu = v.id
    r.in_multicall = d.in_multicall


cdef int64_t _cold(vcpu_t *v, uint64_t number, uint64_t *args) noexcept nogil:
    with gil:
        domain = <object>v.domain.python
        try:
            return domain.dispatch(v.id, number, args[0], args[1], args[2], args[3], args[4], args[5])
        except BaseException as error:
            domain.engine.raised(error)
            return -XEN_EFAULT


cdef void drain_host_events(machine_t *m) noexcept nogil:
    """Domain 0's handlers run before the guest goes on; they may raise further events."""
    with gil:
        domain = <object>m.domains[0].python
        try:
            domain.drain()
        except BaseException as error:
            domain.engine.raised(error)


# --- page tables --------------------------------------------------------------------------------------------------

cdef int _one_mmu_update(vcpu_t *v, xen_mmu_update *request) noexcept nogil:
    cdef uint64_t command = request.ptr & 7
    cdef uint64_t mfn = request.ptr >> PAGE_SHIFT
    if command == MMU_NORMAL_PT_UPDATE or command == MMU_PT_UPDATE_NO_TRANSLATE:
        return write_entry(v.domain, request.ptr - command, request.val, False)
    if command == MMU_PT_UPDATE_PRESERVE_AD:
        return write_entry(v.domain, request.ptr - command, request.val, True)
    if command == MMU_MACHPHYS_UPDATE:
        if not owns(v.domain, mfn):
            return -XEN_EINVAL
        v.domain.machine.m2p[mfn] = request.val
        return 0
    return -XEN_ENOSYS


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
    cdef xen_mmu_update request
    cdef int rc = 0
    if (args[3] >> 16) & 0xffff and (args[3] >> 16) & 0xffff != v.domain.domid + 1:     # page tables of another domain
        rc = _foreign(v, <uint32_t>((args[3] >> 16) & 0xffff) - 1)
        return rc if rc else -XEN_ESRCH
    rc = _foreign(v, <uint32_t>(args[3] & 0xffff))
    if rc:
        return rc
    while i < count and rc == 0:
        if i == BATCH:
            args[0] += BATCH * sizeof(request)
            rc = _report_done(v, args[2], <uint32_t>args[1], i, 0)
            args[1] = (count - BATCH) | MMU_PREEMPTED
            return PREEMPTED
        if copy_from_guest(v, &request, args[0] + i * sizeof(request), sizeof(request)):
            rc = -XEN_EFAULT
        else:
            rc = _one_mmu_update(v, &request)
        if rc == 0:
            i += 1
    return _report_done(v, args[2], <uint32_t>args[1], i, rc)


cdef int64_t hot_update_va_mapping(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef uint64_t kind = args[2] & UVMF_FLUSHTYPE_MASK, whom = args[2] & ~<uint64_t>UVMF_FLUSHTYPE_MASK, mask
    cdef int rc = update_l1_of(v, args[0], args[1])
    if rc or (kind != UVMF_TLB_FLUSH and kind != UVMF_INVLPG):
        return rc
    if whom != UVMF_LOCAL and whom != UVMF_ALL:         # a pointer to a mask of vCPUs; they share one TLB here
        if copy_from_guest(v, &mask, whom, (v.domain.nr_vcpus + 7) // 8):
            return -XEN_EFAULT
    if kind == UVMF_TLB_FLUSH:
        request_flush(v.domain)
    else:
        flush_page(v.domain, args[0])
    return 0


cdef int64_t hot_update_va_mapping_otherdomain(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef int rc = _foreign(v, <uint32_t>(args[3] & 0xffff))
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
        if copy_from_guest(v, &mask, op.arg2.vcpumask, (v.domain.nr_vcpus + 7) // 8):
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
    rc = _foreign(v, <uint32_t>args[3])
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


# --- the CPU ------------------------------------------------------------------------------------------------------

cdef int64_t hot_stack_switch(vcpu_t *v, uint64_t *args) noexcept nogil:
    v.kernel_ss = args[0] & 0xffff | 3
    v.kernel_sp = args[1]
    return 0


cdef int64_t hot_fpu_taskswitch(vcpu_t *v, uint64_t *args) noexcept nogil:
    set_task_switched(v, <int>args[0] != 0)
    return 0


cdef int64_t hot_set_debugreg(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef int rc = set_debug_register(v, <uint32_t>args[0], args[1])
    if rc == 0:
        debug_registers_changed(v)
    return rc


cdef int64_t hot_get_debugreg(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef uint64_t value
    cdef int rc = get_debug_register(v, <uint32_t>args[0], &value)
    return rc if rc else <int64_t>value


cdef int64_t hot_set_segment_base(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef uint32_t which = <uint32_t>args[0]
    if which == SEGBASE_GS_USER_SEL:
        v.gs_base_user = segment_base(v, args[1] & 0xffff)
        return 0
    if which > SEGBASE_GS_USER_SEL or not canonical(args[1]):
        return -XEN_EINVAL
    if which == SEGBASE_FS:
        env.segs[SEG_FS].base = args[1]
    elif which == SEGBASE_GS_USER:
        v.gs_base_user = args[1]
    else:
        env.segs[SEG_GS].base = args[1]
    return 0


cdef int64_t hot_iret(vcpu_t *v, uint64_t *args) noexcept nogil:
    return iret(v)


# --- time and scheduling ------------------------------------------------------------------------------------------

cdef int64_t hot_set_timer_op(vcpu_t *v, uint64_t *args) noexcept nogil:
    """What lies absurdly far in the future, and what is negative, is taken as 100 ms from now."""
    cdef uint64_t now = system_time(v.domain.machine), timeout = args[0]
    if timeout == 0:
        stop_singleshot(v)
    elif timeout > now and (timeout - now) >> 50:
        set_singleshot(v, now + 100000000)
    else:
        set_singleshot(v, timeout)
    return 0


cdef int64_t hot_vcpu_op(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef uint32_t cmd = <uint32_t>args[0]
    cdef xen_vcpu_set_singleshot_timer single
    cdef xen_vcpu_set_periodic_timer period
    cdef xen_vcpu_runstate_info runstate
    cdef vcpu_t *target
    if <uint32_t>args[1] >= v.domain.nr_vcpus:
        return -XEN_ENOENT
    target = &v.domain.vcpus[<uint32_t>args[1]]
    if cmd == VCPUOP_is_up:
        return not target.pause & PAUSE_DOWN
    if cmd == VCPUOP_get_runstate_info:
        runstate_now(target, &runstate)
        return -XEN_EFAULT if copy_to_guest(v, args[2], &runstate, sizeof(runstate)) else 0
    if cmd == VCPUOP_set_periodic_timer:
        if copy_from_guest(v, &period, args[2], sizeof(period)):
            return -XEN_EFAULT
        if period.period_ns < SHORTEST_PERIOD or period.period_ns >> 62:
            return -XEN_EINVAL
        set_periodic(target, period.period_ns)
    elif cmd == VCPUOP_stop_periodic_timer:
        set_periodic(target, 0)
    elif cmd == VCPUOP_set_singleshot_timer:
        if target != v:
            return -XEN_EINVAL
        if copy_from_guest(v, &single, args[2], sizeof(single)):
            return -XEN_EFAULT
        set_singleshot(v, single.timeout_abs_ns)
    elif cmd == VCPUOP_stop_singleshot_timer:
        if target != v:
            return -XEN_EINVAL
        stop_singleshot(v)
    elif cmd == VCPUOP_send_nmi:
        if args[2]:
            return -XEN_EINVAL
        if not target.nmi_pending:
            target.nmi_pending = 1
            unblock(target)
    else:
        return COLD
    return 0


cdef bint _events_waiting(vcpu_t *v) noexcept nogil:
    return v.info.evtchn_upcall_pending and not v.info.evtchn_upcall_mask


cdef int64_t _poll(vcpu_t *v, uint64_t arg) noexcept nogil:
    cdef xen_sched_poll poll
    cdef uint32_t port = 0, i
    cdef int64_t rc
    if copy_from_guest(v, &poll, arg, sizeof(poll)):
        return -XEN_EFAULT
    if poll.nr_ports > 128:
        return -XEN_EINVAL
    if not canonical(poll.ports) or HV_START <= poll.ports < HV_END:
        return -XEN_EFAULT
    if _events_waiting(v):
        return 0
    for i in range(poll.nr_ports):
        if copy_from_guest(v, &port, poll.ports + 4 * i, 4):
            return -XEN_EFAULT
        rc = poll_port(v.domain, port)
        if rc:
            return min(rc, <int64_t>0)
    v.pause |= PAUSE_BLOCKED
    v.domain.polling |= <uint64_t>1 << v.id
    v.poll_all = poll.nr_ports != 1
    v.poll_port = port
    if poll.timeout:
        set_poll_timeout(v, poll.timeout)
    v.domain.machine.stop = STOP_RESCHEDULE
    return 0


cdef int64_t hot_sched_op(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef int cmd = <int>args[0]
    if cmd == SCHEDOP_yield:
        if v.domain.nr_vcpus > 1 or v.domain.machine.nr_domains > 2:
            v.domain.machine.stop = STOP_RESCHEDULE
        return 0
    if cmd == SCHEDOP_block:
        v.info.evtchn_upcall_mask = 0
        if not v.info.evtchn_upcall_pending:
            v.pause |= PAUSE_BLOCKED
            v.domain.machine.stop = STOP_RESCHEDULE
        return 0
    if cmd == SCHEDOP_poll:
        return _poll(v, args[1])
    return COLD


cdef int64_t hot_sched_op_compat(vcpu_t *v, uint64_t *args) noexcept nogil:
    """The oldest one: the reason of a shutdown is in the register itself."""
    cdef int cmd = <int>args[0]
    if cmd == SCHEDOP_shutdown:
        shutdown(v.domain, <uint8_t>args[1])
        return 0
    return hot_sched_op(v, args) if cmd == SCHEDOP_yield or cmd == SCHEDOP_block else -XEN_ENOSYS


# --- events, versions, batches ------------------------------------------------------------------------------------

cdef int64_t hot_event_channel_op(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef uint32_t port
    if <int>args[0] != EVTCHNOP_send and <int>args[0] != EVTCHNOP_unmask:
        return COLD
    if copy_from_guest(v, &port, args[1], 4):
        return -XEN_EFAULT
    return send(v.domain, port) if <int>args[0] == EVTCHNOP_send else unmask(v.domain, port)


cdef int64_t _as_newer_call(vcpu_t *v, uint64_t number, uint64_t cmd, uint64_t arg) noexcept nogil:
    """The old calls with everything in one structure: what the newer one with two arguments answers."""
    cdef uint64_t[6] args = [cmd, arg, 0, 0, 0, 0]
    cdef int64_t result = _hot[number](v, args) if _hot[number] != NULL else COLD
    return _cold(v, number, args) if result == COLD else result


cdef int64_t hot_event_channel_op_compat(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef xen_evtchn_op op
    if copy_from_guest(v, &op, args[0], sizeof(op)):
        return -XEN_EFAULT
    if op.cmd > EVTCHNOP_unmask:
        return -XEN_ENOSYS
    return _as_newer_call(v, __HYPERVISOR_event_channel_op, op.cmd, args[0] + <uint64_t>(<char *>&op.u - <char *>&op))


cdef int64_t hot_physdev_op_compat(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef xen_physdev_op op
    if copy_from_guest(v, &op, args[0], sizeof(op)):
        return -XEN_EFAULT
    return _as_newer_call(v, __HYPERVISOR_physdev_op, op.cmd, args[0] + <uint64_t>(<char *>&op.u - <char *>&op))


cdef int64_t hot_xen_version(vcpu_t *v, uint64_t *args) noexcept nogil:
    if <int>args[0] == XENVER_version:
        return (4 << 16) | 17
    if <int>args[0] == XENVER_pagesize:
        return -XEN_EINVAL if args[1] else PAGE_SIZE
    return COLD


cdef int64_t hot_multicall(vcpu_t *v, uint64_t *args) noexcept nogil:
    cdef uint32_t count = <uint32_t>args[1], i
    cdef xen_multicall_entry entry
    cdef uint64_t va
    if v.domain.in_multicall:
        return -XEN_EINVAL
    for i in range(count):
        va = args[0]
        if i == BATCH or v.domain.machine.stop:         # a call that stopped the run: the rest comes afterwards
            args[1] = count - i
            return PREEMPTED
        if copy_from_guest(v, &entry, va, sizeof(entry)):
            return -XEN_EFAULT
        v.domain.in_multicall = 1
        entry.result = <uint64_t>_dispatch(v, entry.op, <uint64_t *>entry.args)
        v.domain.in_multicall = 0
        if <int64_t>entry.result == PREEMPTED:
            args[1] = count - i
            copy_to_guest(v, va + 16, entry.args, sizeof(entry.args))
            return PREEMPTED
        if copy_to_guest(v, va + 8, &entry.result, 8) and entry.op != __HYPERVISOR_iret:
            return -XEN_EFAULT
        if entry.op == __HYPERVISOR_iret:               # the caller is gone: the rest is not run
            return <int64_t>entry.result
        args[0] += sizeof(entry)
    return 0


include "hot_table.pxi"                                 # generated from the rows of hv/abi/hypercalls.py
fill_hot_table()
