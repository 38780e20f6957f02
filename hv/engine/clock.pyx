# cython: language_level=3
"""The clock, and everything that happens at a point of virtual time.

Rules:
* now = limit - left. A block is charged at its entry, by generated code; a block that ends in the middle is corrected
  at the one place where Unicorn recovers the pc (cpu.pyx). So free, stepped and preempted runs agree to the instruction.
* A deadline is the first instruction boundary with now >= deadline: near it, blocks of one instruction run.
* When nothing can run, the clock moves to the next deadline at once (virtual), or waits for the host (paced, host).
* The host is looked at only at block boundaries, and looking changes nothing the guest can see.

Units: ticks of 1/4 ns; one byte of executed guest code is one tick. docs/time.md defines them for users.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from xen_abi cimport VIRQ_TIMER
from hv.engine.cpu cimport flush_tlb, leave_now, one_instruction_next, restart_block
from hv.engine.traps cimport deliver_events
from hv.engine.unicorn cimport hv_env
from hv.fastpath.domain cimport wake
from hv.fastpath.evtchn cimport raise_virq
from hv.fastpath.state cimport *

cdef extern from "time.h" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *t)

cdef enum:
    SOFT_TICKS = 400000          # how often virtual time looks at the host's clock: 0.1 ms
    HOST_POLL_NS = 10000000      # how often control returns to Python: 10 ms
    HOST_BUDGET = 100000         # host clock: bytes of guest code between two looks

cdef extern from * nogil:
    """
    #define NEVER 0xffffffffffffffffULL
    """
    const uint64_t NEVER


cdef int64_t host_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef uint64_t ticks(machine_t *m) noexcept nogil:
    if m.mode == CLOCK_HOST:
        return <uint64_t>(host_ns() - m.host_offset) * TICKS_PER_NS
    return charged(m)


cdef uint64_t system_time(machine_t *m) noexcept nogil:
    """ns since the machine started, as Xen's NOW()."""
    return ticks(m) // TICKS_PER_NS


cdef void rearm(machine_t *m) noexcept nogil:
    """Recompute the next timer and with it the limit of the block fast path."""
    cdef uint32_t i, j
    cdef vcpu_t *v
    m.next_timer = NEVER
    for i in range(m.nr_domains):
        if m.domains[i].dying:
            continue
        for j in range(m.domains[i].nr_vcpus):
            v = &m.domains[i].vcpus[j]
            if v.singleshot and v.singleshot < m.next_timer:
                m.next_timer = v.singleshot
            if v.periodic and v.periodic < m.next_timer:
                m.next_timer = v.periodic
            if v.poll_deadline and v.poll_deadline < m.next_timer:
                m.next_timer = v.poll_deadline
    set_limit(m)


cdef void set_limit(machine_t *m) noexcept nogil:
    m.hard = m.next_timer
    if m.slice_end < m.hard:
        m.hard = m.slice_end
    if m.until < m.hard:
        m.hard = m.until
    if m.stepping:
        _set_budget(m, charged(m))
    elif m.mode == CLOCK_HOST:
        _set_budget(m, charged(m) + HOST_BUDGET)
    else:
        _set_budget(m, m.hard if m.hard < m.soft else m.soft)


cdef void _set_budget(machine_t *m, uint64_t limit) noexcept nogil:
    m.left += <int64_t>(limit - m.limit)
    m.limit = limit


cdef void _fire(vcpu_t *v, uint64_t now) noexcept nogil:
    if v.singleshot and v.singleshot <= now:
        v.singleshot = 0
        raise_virq(v, VIRQ_TIMER)
    if v.periodic and v.periodic <= now:
        v.periodic += v.period * (1 + (now - v.periodic) // v.period)
        raise_virq(v, VIRQ_TIMER)
    if v.poll_deadline and v.poll_deadline <= now:
        v.poll_deadline = 0
        wake(v)


cdef void fire_timers(machine_t *m) noexcept nogil:
    cdef uint64_t now = ticks(m)
    cdef uint32_t i, j
    if now < m.next_timer:
        return
    for i in range(m.nr_domains):
        if not m.domains[i].dying:
            for j in range(m.domains[i].nr_vcpus):
                _fire(&m.domains[i].vcpus[j], now)
    rearm(m)


cdef vcpu_t *next_runnable(machine_t *m) noexcept nogil:
    """Round robin over every vCPU of every domain, from the one after the last that ran; NULL where none can."""
    cdef uint32_t total = m.nr_domains * VCPU_LIMIT, k, position
    cdef domain_t *d
    for k in range(1, total + 1):
        position = (m.turn + k) % total
        d = m.domains[position // VCPU_LIMIT]
        if position % VCPU_LIMIT >= d.nr_vcpus or d.dying or d.paused:
            continue
        if d.vcpus[position % VCPU_LIMIT].state == VCPU_RUNNABLE:
            m.turn = position
            return &d.vcpus[position % VCPU_LIMIT]
    return NULL


cdef vcpu_t *in_its_slice(machine_t *m) noexcept nogil:
    """The vCPU that ran when the engine came back, if its turn is not over: when that was is the host's business."""
    cdef domain_t *d
    if not m.in_slice or m.turn // VCPU_LIMIT >= m.nr_domains or ticks(m) >= m.slice_end:
        return NULL
    d = m.domains[m.turn // VCPU_LIMIT]
    if d.dying or d.paused or m.turn % VCPU_LIMIT >= d.nr_vcpus or d.vcpus[m.turn % VCPU_LIMIT].state != VCPU_RUNNABLE:
        return NULL
    return &d.vcpus[m.turn % VCPU_LIMIT]


cdef bint _somebody_else(machine_t *m) noexcept nogil:
    cdef uint32_t turn = m.turn
    cdef vcpu_t *v = next_runnable(m)
    cdef bint other = m.turn != turn
    m.turn = turn
    return v != NULL and other


cdef void _deadline(machine_t *m) noexcept nogil:
    """now >= hard: timers, the end of a time slice, the time that the caller asked for."""
    cdef uint64_t now = ticks(m)
    fire_timers(m)
    if now >= m.until:
        m.stop = STOP_UNTIL
    elif now >= m.slice_end:
        m.slice_end = now + QUANTUM_TICKS
        if _somebody_else(m):
            m.stop = STOP_RESCHEDULE
    set_limit(m)


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
        d.need_flush = 0
        flush_tlb(d)
    if d.machine.stop:
        leave_now(d)
    if env.eip != eip:
        restart_block(d)


cdef void block(machine_t *m, uint64_t address, uint32_t size) noexcept nogil:
    """A block is about to run that may not end before the limit. Nothing of it is charged yet."""
    cdef domain_t *d = m.running
    if m.armed and m.armed_at == address:       # this is the one-instruction block asked for below
        m.armed = 0
        m.blocks_stepped += 1
        if m.stepping:
            m.steps_left -= 1
        return
    m.armed = 0
    if ticks(m) >= m.hard:
        _deadline(m)
        _enter_guest_anew(d)
    look_at_host(m)
    if m.stop:
        leave_now(d)
    if m.stepping and m.steps_left == 0:
        m.stop = STOP_STEP
        leave_now(d)
    if m.stepping or (m.mode != CLOCK_HOST and charged(m) + size > m.hard):
        m.armed = 1
        m.armed_at = address
        one_instruction_next(d)
        restart_block(d)


cdef bint idle(machine_t *m) noexcept nogil:
    """No vCPU can run: move on to the next timer, or say why the engine comes back. True to go on."""
    cdef uint64_t now = ticks(m), to = m.next_timer if m.next_timer < m.until else m.until
    cdef uint64_t host
    if to == NEVER:
        m.wake_at = NEVER
        m.stop = STOP_IDLE
        return False
    if m.mode == CLOCK_VIRTUAL:
        if to > now:
            m.left -= <int64_t>(to - now)
    else:
        host = <uint64_t>(host_ns() - m.host_offset) * TICKS_PER_NS
        if m.mode == CLOCK_PACED and host > now and to > now:
            m.left -= <int64_t>((host if host < to else to) - now)
            now = ticks(m)
        if now < to:
            m.wake_at = to
            m.stop = STOP_WAIT
            return False
    if m.next_timer > m.until:
        m.stop = STOP_UNTIL
        return False
    fire_timers(m)
    return True
