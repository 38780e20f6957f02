# cython: language_level=3
"""HYPERVISOR_sched_op, vcpu_op and set_timer_op, as far as they are served without Python: sleeping, timers, run states.

Who blocks or yields asks the engine to come back (STOP_RESCHEDULE); clock.pyx has the timers, and picks who runs next.
Shutting down, watchdogs, and vCPUs that come and go are served by hv/hypercalls/sched_op.py and vcpu_op.py.

Behaviour: Xen 4.17, common/sched/core.c (do_sched_op, do_poll, do_set_timer_op) and common/domain.c (common_vcpu_op).
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from xen_abi cimport *
from hv.engine.clock cimport set_periodic, set_poll_timeout, set_singleshot, stop_singleshot
from hv.engine.hypercall cimport COLD
from hv.fastpath.domain cimport shutdown
from hv.fastpath.evtchn cimport poll as poll_port
from hv.fastpath.memory cimport HV_END, HV_START, canonical, copy_from_guest, copy_to_guest
from hv.fastpath.now cimport system_time
from hv.fastpath.state cimport PAUSE_BLOCKED, PAUSE_DOWN, STOP_RESCHEDULE, vcpu_t
from hv.fastpath.vcpu cimport runstate_now, unblock

cdef enum:
    SHORTEST_PERIOD = 1000000     # ns, of a periodic timer


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
