# cython: language_level=3
"""What each vCPU is doing: pause flags, run states, and the areas in guest memory that tell the guest.

Rules:
* A vCPU can run while no pause flag is set and nobody has paused its domain. Every change of a flag comes with `wake`
  or `sleep`; both only move the vCPU in or out of the queue.
* Its run state follows behind: `running` from the switch that gives it the CPU to the switch that takes it. So one that
  blocked and was woken before anybody else ran has been running all the time, as on Xen.
* The four times of a run state, and what has passed since `state_entry_time`, add up to the time since it was made.
* The areas are written at switches only, with the kernel's page table of their vCPU; an address that is not mapped at
  that moment is not written, and nobody hears of it.

Behaviour: Xen 4.17, common/sched/core.c (vcpu_runstate_change, vcpu_wake, vcpu_unblock, sched_switch_units),
arch/x86/domain.c (update_runstate_area) and arch/x86/time.c (__update_vcpu_system_time).
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from xen_abi cimport *
from hv.fastpath.memory cimport copy_to_guest
from hv.fastpath.now cimport system_time
from hv.fastpath.state cimport PAUSE_BLOCKED
from hv.fastpath.trace cimport trace_runstate

cdef enum:
    UPDATE_FLAG_AT = 15     # in vcpu_runstate_info: the last byte of state_entry_time, with XEN_RUNSTATE_UPDATE


# --- pause flags --------------------------------------------------------------------------------------------------

cdef bint runnable(const vcpu_t *v) noexcept nogil:
    return not (v.pause or v.domain.paused or v.domain.dying)


cdef bint in_the_queue(const vcpu_t *v) noexcept nogil:
    """Whether its turn may come: what can run has also been woken (VCPUOP_initialise can bring up without that)."""
    return v.runstate.state <= RUNSTATE_runnable and runnable(v)


cdef void wake(vcpu_t *v) noexcept nogil:
    """A reason to pause has gone."""
    if runnable(v):
        if v.runstate.state >= RUNSTATE_blocked:
            _change(v, RUNSTATE_runnable)
    elif not v.pause & PAUSE_BLOCKED and v.runstate.state == RUNSTATE_blocked:
        _change(v, RUNSTATE_offline)


cdef void sleep(vcpu_t *v) noexcept nogil:
    """A reason to pause has come."""
    if not runnable(v) and v.runstate.state == RUNSTATE_runnable:
        _change(v, RUNSTATE_offline)


cdef void unblock(vcpu_t *v) noexcept nogil:
    """An event for it, or the end of its poll."""
    if v.pause & PAUSE_BLOCKED:
        v.pause &= ~<uint32_t>PAUSE_BLOCKED
        v.domain.polling &= ~(<uint64_t>1 << v.id)
        wake(v)


cdef void check_pollers(domain_t *d, uint32_t port) noexcept nogil:
    """A port became pending: wake who polls for it, whether it is masked or not."""
    cdef uint32_t i
    if not d.polling:
        return
    for i in range(d.nr_vcpus):
        if d.polling >> i & 1 and (d.vcpus[i].poll_all or d.vcpus[i].poll_port == port):
            unblock(&d.vcpus[i])


cdef void mark_events_pending(vcpu_t *v) noexcept nogil:
    """There is an event for it: set its upcall flag, and wake it where that is new."""
    if not v.info.evtchn_upcall_pending:
        v.info.evtchn_upcall_pending = 1
        unblock(v)


# --- run states ---------------------------------------------------------------------------------------------------

cdef void _change(vcpu_t *v, int state) noexcept nogil:
    cdef uint64_t now = system_time(v.domain.machine)
    if v.runstate.state == state:
        return
    if now > v.runstate.state_entry_time:
        v.runstate.time[v.runstate.state] += now - v.runstate.state_entry_time
        v.runstate.state_entry_time = now
    if v.domain.machine.trace != NULL:
        trace_runstate(v, v.runstate.state, state)
    v.runstate.state = state


cdef void runstate_now(const vcpu_t *v, xen_vcpu_runstate_info *info) noexcept nogil:
    """The run state with the time in it that has passed since its last change."""
    cdef uint64_t now = system_time(v.domain.machine)
    memcpy(info, &v.runstate, sizeof(info[0]))      # with its padding, which guests can read: no assignment
    if now > info.state_entry_time:
        info.time[info.state] += now - info.state_entry_time


cdef void switch_cpu(machine_t *m, vcpu_t *to) noexcept nogil:
    """The CPU goes from m.on_cpu to another vCPU; NULL is nobody."""
    cdef vcpu_t *last = m.on_cpu
    if last != NULL:
        _change(last, RUNSTATE_blocked if last.pause & PAUSE_BLOCKED else
                RUNSTATE_runnable if runnable(last) else RUNSTATE_offline)
        _write_runstate(last)
    m.on_cpu = to
    if to != NULL:
        _change(to, RUNSTATE_running)
        _write_runstate(to)
        update_time(to, to, False)


cdef void _write_runstate(vcpu_t *v) noexcept nogil:
    """With VMASST_TYPE_runstate_update_flag, the flag is set before and cleared behind the copy."""
    cdef xen_vcpu_runstate_info info
    cdef uint8_t *flag = <uint8_t *>&info + UPDATE_FLAG_AT
    cdef bint flagged = v.domain.vm_assist >> VMASST_TYPE_runstate_update_flag & 1
    if not v.runstate_area:
        return
    memcpy(&info, &v.runstate, sizeof(info))
    if flagged:
        flag[0] |= 0x80
        copy_to_guest(v, v.runstate_area + UPDATE_FLAG_AT, flag, 1)
    copy_to_guest(v, v.runstate_area, &info, sizeof(info))
    if flagged:
        flag[0] &= 0x7f
        copy_to_guest(v, v.runstate_area + UPDATE_FLAG_AT, flag, 1)


# --- the paravirtual clock ----------------------------------------------------------------------------------------

cdef void update_time(vcpu_t *v, vcpu_t *writer, bint force) noexcept nogil:
    """vcpu_info's clock, and its copy at `time_area` as `writer` sees memory.

    TSC and system time are in one fixed relation, so that the record changes only where the guest wrote into it.
    """
    cdef xen_vcpu_time_info *record = &v.info.time
    cdef xen_vcpu_time_info now
    memset(&now, 0, sizeof(now))
    now.tsc_to_system_mul = 0x80000000U     # ns = (tsc >> 1) * 2**31 / 2**32
    now.tsc_shift = -1
    now.flags = XEN_PVCLOCK_TSC_STABLE_BIT
    now.version = record.version
    if not force and memcmp(record, &now, sizeof(now)) == 0:
        return
    now.version = ((now.version + 1) | 1) + 1
    record[0] = now
    if v.time_area:
        copy_to_guest(writer, v.time_area, &now, sizeof(now))
