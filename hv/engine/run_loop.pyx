# cython: language_level=3
"""The run loop, and what the CPU calls in it: who runs next, and how one vCPU is given the CPU.

Rules:
* It comes back with a reason in `machine_t.stop`, and never with a guest half-stopped.
* Nothing in it enters Python.
"""
from libc.stdint cimport uint64_t
from hv.engine.clock cimport block, fire_timers, follow, idle, rearm, switch_to
from hv.engine.cpu cimport enter, flush_wanted, handlers, load_context, save_context
from hv.engine.cpuid cimport guest_cpuid
from hv.engine.exceptions cimport on_exception
from hv.engine.hypercall cimport on_syscall
from hv.engine.traps cimport deliver_events, reload_segments
from hv.engine.unicorn cimport *
from hv.fastpath.domain cimport crash
from hv.fastpath.now cimport hold_time, host_ns, let_time_go_on, ticks
from hv.fastpath.scheduler cimport in_its_turn, next_vcpu, turn_ticks
from hv.fastpath.state cimport *


cdef uint64_t _tsc(vcpu_t *v) noexcept nogil:
    """RDTSC does not end a block: the time in its middle is computed, the charge for the whole of it stays."""
    cdef machine_t *m = v.domain.machine
    cdef hv_block *block
    if m.mode == CLOCK_HOST:
        return ticks(m)
    block = <hv_block *>m.budget.block
    return charged(m) - (block.size - ((<hv_env *>v.domain.env).eip + block.cs_base - block.pc))


cdef void run_guests(machine_t *m) noexcept nogil:
    _run(m)
    let_time_go_on(m)


cdef void _run(machine_t *m) noexcept nogil:
    cdef vcpu_t *v
    cdef bint fresh, another
    while m.stop == STOP_NONE or m.stop == STOP_RESCHEDULE:
        another = m.stop == STOP_RESCHEDULE
        if another:
            m.in_slice = 0
        m.stop = STOP_NONE
        hold_time(m)
        if m.idle_since:                        # whoever woke a vCPU did it now
            follow(m)
        fire_timers(m)
        if m.stop:                              # a watchdog has ended its domain
            return
        if m.nr_hits:                           # of a call that blocks, or of a timer
            m.stop = STOP_POINT
            return
        v = in_its_turn(m)
        fresh = v == NULL
        if fresh:
            v = next_vcpu(m, another)
            m.in_slice = v != NULL
            m.slice_end = ticks(m) + turn_ticks(v)
        switch_to(m, v)
        if v == NULL:
            if idle(m) and host_ns() >= m.host_poll:      # a chain of timers without a guest to run must not stall hv
                m.stop = STOP_HOST
            continue
        m.idle_since = 0
        if ticks(m) >= m.until:
            m.stop = STOP_UNTIL
            return
        _resume(m, v, fresh)
        m.undelivered = _is_due(v)


cdef bint _is_due(vcpu_t *v) noexcept nogil:
    return v.info.evtchn_upcall_pending and not v.info.evtchn_upcall_mask


cdef void _resume(machine_t *m, vcpu_t *v, bint fresh) noexcept nogil:
    """Give the CPU to one vCPU until it blocks, its slice ends, or the engine has to come back.

    In the middle of a slice, what was pending and not masked when the engine came back stays so: the guest has made it
    so by itself, and hears of it at its next way through the hypervisor, wherever the host made it stop.
    """
    cdef domain_t *d = v.domain
    cdef bint switched = d.current != v or m.running != d
    cdef int rc
    if d.current != v:
        if d.current != NULL:
            save_context(d.current)
        load_context(v)
    m.running = d
    m.armed = 0
    m.budget.block = NULL
    rearm(m)
    if switched:
        reload_segments(v)
    if switched or fresh or not m.undelivered:
        deliver_events(v)
    if d.need_flush:
        flush_wanted(d)
    let_time_go_on(m)
    if not m.stop:
        rc = enter(d)
        if rc and not d.dying:
            crash(d, b"the CPU emulator could not go on")


handlers.syscall = on_syscall
handlers.exception = on_exception
handlers.block = block
handlers.cpuid = guest_cpuid
handlers.tsc = _tsc
