# cython: language_level=3
"""The clock, and everything that happens at a point of virtual time.

Rules:
* now = limit - left. A block is charged at its entry, by generated code; a block that ends in the middle is corrected
  at the one place where Unicorn recovers the pc (cpu.pyx). So free, stepped and preempted runs agree to the instruction.
* A deadline is the first instruction boundary with now >= deadline: near it, blocks of one instruction run.
* When nothing can run, the clock moves to the next deadline at once (virtual), or waits for the host (paced, host).
* The host is looked at only at block boundaries, and looking changes nothing the guest can see.
* Timers are Xen's: every vCPU is made with a periodic one of 10 ms, which kernels stop. It only ticks while its vCPU has the CPU, and starts with an event where the last is a
  period or more ago; a poll's timeout stays armed behind its end.

Behaviour of timers: Xen 4.17, common/sched/core.c. Units: hv/fastpath/now.pyx; docs/time.md defines them for users.
"""
from libc.stdint cimport uint32_t, uint64_t
from xen_abi cimport SHUTDOWN_watchdog, VIRQ_TIMER
from hv.engine.cpu cimport flush_wanted, leave_now, one_instruction_next, restart_block
from hv.engine.pacing cimport follow_host
from hv.engine.traps cimport deliver_events, inject
from hv.engine.stepping cimport count_step, is_stepped, step_is_over, stop_here, stopped_here
from hv.engine.unicorn cimport FLAG_RF, HF_INHIBIT_IRQ, hv_env
from hv.fastpath.breakpoints cimport stops_at
from hv.fastpath.domain cimport shutdown
from hv.fastpath.evtchn cimport raise_virq
from hv.fastpath.points cimport note_address
from hv.fastpath.now cimport NEVER, TICKS_PER_NS, host_ns, system_time, ticks, ticks_of
from hv.fastpath.scheduler cimport refill, turn_is_over, turn_ticks
from hv.fastpath.state cimport *
from hv.fastpath.trace cimport trace_timer, trace_watchdog
from hv.fastpath.vcpu cimport switch_cpu, unblock

cdef enum:
    SOFT_TICKS = 400000          # how often virtual time looks at the host's clock: 0.1 ms
    VECTOR_DB = 1
    HOST_POLL_NS = 10000000      # how often control returns to Python: 10 ms
    HOST_BUDGET = 100000         # host clock: bytes of guest code between two looks


cdef void rearm(machine_t *m) noexcept nogil:
    """Recompute the next timer and with it the limit of the block fast path."""
    cdef uint32_t i, j
    cdef uint64_t next = NEVER
    cdef domain_t *d
    for i in range(m.nr_domains):
        d = m.domains[i]
        if d.dying:
            continue
        for j in range(d.nr_vcpus):
            next = _earlier(next, d.vcpus[j].singleshot)
            next = _earlier(next, d.vcpus[j].periodic)
            next = _earlier(next, d.vcpus[j].poll_deadline)
        next = _earlier(_earlier(_earlier(next, d.watchdog[0]), d.watchdog[1]), d.refill_at)
    m.next_timer = next
    set_limit(m)


cdef inline uint64_t _earlier(uint64_t deadline, uint64_t other) noexcept nogil:
    """Of two deadlines; 0 is unarmed."""
    return other if other and other < deadline else deadline


cdef void set_limit(machine_t *m) noexcept nogil:
    m.hard = m.next_timer
    if m.slice_end < m.hard:
        m.hard = m.slice_end
    if m.until < m.hard:
        m.hard = m.until
    if m.stepping or m.nr_hits:
        _set_budget(m, charged(m))
    elif m.mode == CLOCK_HOST:
        _set_budget(m, charged(m) + HOST_BUDGET)
    else:
        _set_budget(m, m.hard if m.hard < m.soft else m.soft)


cdef void _set_budget(machine_t *m, uint64_t limit) noexcept nogil:
    m.budget.left += <int64_t>limit - <int64_t>m.limit
    m.limit = limit


cdef void _fire(vcpu_t *v, uint64_t now) noexcept nogil:
    cdef uint64_t deadline
    if v.singleshot and v.singleshot <= now:
        deadline, v.singleshot = v.singleshot, 0
        _go_off(v, TIMER_SINGLESHOT, deadline)
    if v.periodic and v.periodic <= now:
        _work_periodic(v)
    if v.poll_deadline and v.poll_deadline <= now:
        deadline, v.poll_deadline = v.poll_deadline, 0
        _go_off(v, TIMER_POLL, deadline)


cdef void _go_off(vcpu_t *v, int which, uint64_t deadline) noexcept nogil:
    """The effect of a timer that is due."""
    cdef trace_t *t = v.domain.machine.trace
    cdef uint64_t before = 0
    if t != NULL:
        before = t.current
        t.current = trace_timer(v, which, deadline)
    if which != TIMER_POLL:
        raise_virq(v, VIRQ_TIMER)
    elif is_polling(v):
        unblock(v)
    if t != NULL:
        t.current = before


cdef inline void _armed(vcpu_t *v, int which) noexcept nogil:
    if v.domain.machine.trace != NULL:
        v.tracing.armed_by[which] = v.domain.machine.trace.current


cdef void _bite(domain_t *d, uint64_t now) noexcept nogil:
    cdef int i
    for i in range(2):
        if d.watchdog[i] and d.watchdog[i] <= now:
            if d.machine.trace != NULL:
                trace_watchdog(d, d.watchdog[i])
            shutdown(d, SHUTDOWN_watchdog)
            if d.machine.trace != NULL:
                d.machine.trace.current = 0


cdef void fire_timers(machine_t *m) noexcept nogil:
    cdef uint64_t now = ticks(m)
    cdef uint32_t i, j
    if now < m.next_timer:
        return
    for i in range(m.nr_domains):
        if not m.domains[i].dying:
            for j in range(m.domains[i].nr_vcpus):
                _fire(&m.domains[i].vcpus[j], now)
            _bite(m.domains[i], now)
            refill(m.domains[i], now)
    rearm(m)


cdef void set_singleshot(vcpu_t *v, uint64_t ns) noexcept nogil:
    """VIRQ_TIMER at a system time; one that has passed, or is negative for Xen, at once."""
    v.singleshot = 0
    if ns <= system_time(v.domain.machine) or ns >> 63:
        raise_virq(v, VIRQ_TIMER)
    else:
        v.singleshot = ticks_of(ns)
        _armed(v, TIMER_SINGLESHOT)
    rearm(v.domain.machine)


cdef void stop_singleshot(vcpu_t *v) noexcept nogil:
    v.singleshot = 0
    rearm(v.domain.machine)


cdef void set_periodic(vcpu_t *v, uint64_t ns) noexcept nogil:
    """Start the periodic timer, of a vCPU without the CPU too; 0 stops it."""
    v.period = ns
    _armed(v, TIMER_PERIODIC)
    _work_periodic(v)
    rearm(v.domain.machine)


cdef void _work_periodic(vcpu_t *v) noexcept nogil:
    """An event where a period has passed since the last one, and the next deadline."""
    cdef uint64_t now = system_time(v.domain.machine)
    v.periodic = 0
    if not v.period:
        return
    if now >= v.periodic_last + v.period:
        _go_off(v, TIMER_PERIODIC, ticks_of(v.periodic_last + v.period))
        v.periodic_last = now
    v.periodic = ticks_of(v.periodic_last + v.period)


cdef void set_poll_timeout(vcpu_t *v, uint64_t ns) noexcept nogil:
    v.poll_deadline = 1 if ns >> 63 else ticks_of(ns)
    _armed(v, TIMER_POLL)
    rearm(v.domain.machine)


cdef void switch_to(machine_t *m, vcpu_t *v) noexcept nogil:
    """Who has the CPU from now on; NULL is nobody."""
    if m.on_cpu == v:
        return
    if m.on_cpu != NULL:
        m.on_cpu.periodic = 0
    switch_cpu(m, v)
    if v != NULL:
        _work_periodic(v)
    rearm(m)


cdef void _deadline(machine_t *m) noexcept nogil:
    """now >= hard: timers, the end of a time slice, the time that the caller asked for."""
    cdef uint64_t now = ticks(m)
    fire_timers(m)
    if m.stop:                                  # a watchdog has ended its domain
        pass
    elif now >= m.until:
        m.stop = STOP_UNTIL
    elif now >= m.slice_end:
        if turn_is_over(m):
            m.stop = STOP_RESCHEDULE
        m.slice_end = now + turn_ticks(m.on_cpu)
    rearm(m)


cdef void look_at_host(machine_t *m) noexcept nogil:
    """Every SOFT_TICKS; back to Python for signals, input and timeouts every HOST_POLL_NS."""
    if charged(m) < m.soft and m.mode != CLOCK_HOST:
        return
    m.soft = charged(m) + SOFT_TICKS
    set_limit(m)
    if host_ns() >= m.host_poll and not m.stop:
        m.stop = STOP_HOST


cdef void _enter_guest_anew(domain_t *d) noexcept nogil:
    """At a block's entry: what became due may stop the run or send the guest to a handler; then it does not return."""
    cdef hv_env *env = <hv_env *>d.env
    cdef uint64_t eip = env.eip
    if not d.machine.stop:
        deliver_events(d.current)
    if d.need_flush:
        flush_wanted(d)
    if d.machine.stop:
        leave_now(d)
    if env.eip != eip:
        restart_block(d)


cdef void _debug_exception(vcpu_t *v, uint64_t address) noexcept nogil:
    """A breakpoint of the guest at this instruction, or a watchpoint that the one before it has touched."""
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef uint32_t hits = v.watch_hits
    if v.watching and env.hflags & HF_INHIBIT_IRQ:      # behind a load of SS it waits for one more instruction
        v.domain.machine.armed = 1
        v.domain.machine.armed_at = address
        one_instruction_next(v.domain)
        restart_block(v.domain)
    if v.breakpoints and not env.eflags & FLAG_RF:
        hits |= stops_at(v, address)
    forget_watch(v)
    if hits:
        v.domain.machine.budget.left -= EXCEPTION_TICKS
        v.dr[6] |= hits
        inject(v, VECTOR_DB, 0)
        _enter_guest_anew(v.domain)
        restart_block(v.domain)


cdef void forget_watch(vcpu_t *v) noexcept nogil:
    """The instruction that was run alone is over."""
    if v.watching:
        v.watching = v.watch_hits = 0
        set_limit(v.domain.machine)


cdef void block(machine_t *m, uint64_t address, uint32_t size) noexcept nogil:
    """A block is about to run that may not end before the limit. Nothing of it is charged yet."""
    cdef domain_t *d = m.running
    if m.armed and m.armed_at == address:       # this is the one-instruction block asked for below
        m.armed = 0
        m.blocks_stepped += 1
        if m.stepping:
            count_step(d.current)
        return
    m.armed = 0
    if d.current.watching or d.current.breakpoints:
        _debug_exception(d.current, address)
    if ticks(m) >= m.hard:
        _deadline(m)
        _enter_guest_anew(d)
    look_at_host(m)
    if m.stop:
        leave_now(d)
    if d.observed & POINT_ADDRESS and not stopped_here(d.current, 0):
        note_address(d.current, address)
    if m.nr_hits or (m.stepping and step_is_over(d.current, address)):
        m.stopped_by_call = 0
        stop_here(d.current, STOP_POINT if m.nr_hits else STOP_STEP)
    if (m.stepping and is_stepped(d.current)) or (m.mode != CLOCK_HOST and charged(m) + size > m.hard):
        m.armed = 1
        m.armed_at = address
        one_instruction_next(d)
        restart_block(d)


cdef void _move_to(machine_t *m, uint64_t to) noexcept nogil:
    """The clock moves on while no vCPU runs."""
    cdef uint64_t now = ticks(m)
    if to > now:
        m.budget.left -= <int64_t>(to - now)


cdef void follow(machine_t *m) noexcept nogil:
    """Paced: no vCPU can run or could meanwhile, so the host's time has passed for the guests, up to the next deadline."""
    _move_to(m, min(follow_host(m), min(m.next_timer, m.until)))


cdef bint idle(machine_t *m) noexcept nogil:
    """No vCPU can run: move on to the next timer, or say why the engine comes back. True to go on."""
    cdef uint64_t to = m.next_timer if m.next_timer < m.until else m.until
    if m.mode == CLOCK_PACED:
        follow(m)
    if to == NEVER:
        m.wake_at = NEVER
        m.stop = STOP_IDLE
        return False
    if m.mode == CLOCK_VIRTUAL:
        _move_to(m, to)
    elif ticks(m) < to:
        m.wake_at = to
        m.stop = STOP_WAIT
        return False
    if m.next_timer > m.until:
        m.stop = STOP_UNTIL
        return False
    fire_timers(m)
    return True
