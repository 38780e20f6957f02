# cython: language_level=3
"""Hypercalls: from `syscall` in guest kernel mode to a handler and back.

Rules:
* A hot row (hv/abi/hypercalls.py names its C function) is served without Python; COLD passes the call on to the Python
  handlers, which also serve whatever sub-operation a hot function does not.
* Work is bounded: a call that counts stops after BATCH elements and is made again with its arguments moved on.
* On the way back: domain 0's handlers first, then TLB flushes, then upcalls.

Here are the way in and out, batches, and the hot functions of a few lines; mmu_op.pyx, sched_op.pyx and
grant_table_op.pyx have the others.

Behaviour: Xen 4.17 (arch/x86/pv/hypercall.c, common/multicall.c, arch/x86/pv/misc-hypercalls.c).
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from xen_abi cimport *
from hv.engine.clock cimport HYPERCALL_TICKS, PART_TICKS, forget_watch
from hv.engine.cpu cimport debug_registers_changed, flush_wanted, get_flags, leave_now, restart_block, set_task_switched
from hv.engine.grant_table_op cimport hot_grant_table_op
from hv.engine.mmu_op cimport hot_mmu_update, hot_mmuext_op, hot_update_va_mapping, hot_update_va_mapping_otherdomain
from hv.engine.sched_op cimport hot_sched_op, hot_sched_op_compat, hot_set_timer_op, hot_vcpu_op
from hv.engine.stepping cimport look_at_call
from hv.engine.traps cimport deliver_events, iret, segment_base, set_flat_segments, syscall_entry
from hv.engine.unicorn cimport *
from hv.fastpath.breakpoints cimport get_debug_register, set_debug_register
from hv.fastpath.evtchn cimport send, unmask
from hv.fastpath.memory cimport canonical, copy_from_guest, copy_to_guest
from hv.fastpath.points cimport note_return
from hv.fastpath.state cimport *
from hv.fastpath.trace cimport trace_call, trace_return

cdef enum:
    NR_HYPERCALLS = 64

cdef hot_t[NR_HYPERCALLS] _hot


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
    m.budget.block = NULL                   # it ends here, complete
    if v.watching:                          # a #DB that comes inside Xen is nobody's
        forget_watch(v)
    m.budget.left -= HYPERCALL_TICKS
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
            m.budget.left -= PART_TICKS
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
            result = domain.dispatch(v.id, number, args[0], args[1], args[2], args[3], args[4], args[5])
            return <int64_t><uint64_t>(result & 0xffffffffffffffff)     # rax has 64 bits, whatever a guest made of it
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
