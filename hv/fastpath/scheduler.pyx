# cython: language_level=3
"""Who has the CPU next: shares by weight, and caps.

Rules:
* `domain_t.used` is what a domain has had of the CPU, divided by its weight. Who has used least is next; of equals the one
  behind the last that ran. A domain's vCPUs take turns within its share: many of them bring no more of it.
* A turn is 1 ms; within it nobody has to go for another's sake (Xen's default rate limit is the same).
* Who has slept comes back with at most CREDIT in its favour: it is served soon, but can not save up for a long run.
* A domain with a cap has a budget of that part of every 10 ms; when it has spent it, its vCPUs wait for the next.
* Charges are made where the CPU changes hands or a turn ends, never where the host looks: so all runs are alike.

What weights and caps mean: xl.cfg(5); the period and the credit of who has slept are much as those of Xen's credit2.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from hv.fastpath.now cimport ticks
from hv.fastpath.state cimport domain_t, machine_t, vcpu_t
from hv.fastpath.vcpu cimport in_the_queue

cdef enum:
    SCALE = 12                   # bits: `used` is in ticks * 2**SCALE / weight
    PERIOD_TICKS = 40000000      # of caps: 10 ms
    CREDIT = 128000000           # 2 ms at the usual weight, in the units of `used`


cdef void charge(machine_t *m) noexcept nogil:
    """Whoever has the CPU pays for the time since the last charge."""
    cdef vcpu_t *v = m.on_cpu
    cdef uint64_t now = ticks(m), spent = now - m.charged_at
    if v != NULL:
        v.domain.used += (spent << SCALE) // v.domain.weight
        if v.domain.cap:
            v.domain.budget -= <int64_t>spent
            if not v.domain.refill_at:
                v.domain.refill_at = m.charged_at + PERIOD_TICKS
    m.charged_at = now


cdef vcpu_t *_next_of(domain_t *d, const vcpu_t *but) noexcept nogil:
    """A domain's own vCPUs take turns; NULL where none wants the CPU."""
    cdef uint32_t i = d.turn, k
    if d.cap and d.budget <= 0:
        return NULL
    for k in range(d.nr_vcpus):
        i = i + 1 if i + 1 < d.nr_vcpus else 0
        if in_the_queue(&d.vcpus[i]) and &d.vcpus[i] != but:
            return &d.vcpus[i]
    return NULL


cdef vcpu_t *_least(machine_t *m, const vcpu_t *but) noexcept nogil:
    """Of the domains that want the CPU the one that has used least: its next vCPU. NULL for nobody."""
    cdef uint32_t slot = m.turn if m.turn < m.nr_domains else 0, k
    cdef vcpu_t *least = NULL
    cdef vcpu_t *v
    for k in range(m.nr_domains):
        slot = slot + 1 if slot + 1 < m.nr_domains else 0
        v = _next_of(m.domains[slot], but)
        if v == NULL:
            continue
        if v.domain.used + CREDIT < m.used:
            v.domain.used = m.used - CREDIT
        if least == NULL or v.domain.used < least.domain.used:
            least = v
    if least != NULL and least.domain.used > m.used:
        m.used = least.domain.used
    return least


cdef vcpu_t *next_vcpu(machine_t *m, bint another) noexcept nogil:
    """Whose turn is next, which begins now; with `another` the last one's only where nobody else wants the CPU."""
    cdef vcpu_t *v
    charge(m)
    v = _least(m, m.on_cpu if another else NULL)
    if v == NULL and another:
        v = _least(m, NULL)
    if v != NULL:
        v.domain.turn = v.id
        while m.domains[m.turn % m.nr_domains] != v.domain:
            m.turn = (m.turn + 1) % m.nr_domains
    return v


cdef vcpu_t *in_its_turn(machine_t *m) noexcept nogil:
    """The vCPU that ran when the engine came back, if its turn is not over: when that was is the host's business."""
    cdef vcpu_t *v = m.on_cpu
    return v if m.in_slice and v != NULL and ticks(m) < m.slice_end and in_the_queue(v) else NULL


cdef bint turn_is_over(machine_t *m) noexcept nogil:
    """A turn's time has passed: whether the CPU goes to somebody else, or to nobody."""
    charge(m)
    return _least(m, NULL) != m.on_cpu


cdef uint64_t turn_ticks(const vcpu_t *v) noexcept nogil:
    """How long a turn may be."""
    if v != NULL and v.domain.cap and v.domain.budget < QUANTUM_TICKS:
        return <uint64_t>v.domain.budget if v.domain.budget > 0 else 0
    return QUANTUM_TICKS


# --- caps ---------------------------------------------------------------------------------------------------------

cdef int64_t _whole(const domain_t *d) noexcept nogil:
    return <int64_t>d.cap * (PERIOD_TICKS // 100)


cdef void set_cap(domain_t *d, uint32_t percent) noexcept nogil:
    """So much of the processor at most; 0 for no limit."""
    d.cap = percent
    d.budget = _whole(d)
    d.refill_at = 0


cdef void refill(domain_t *d, uint64_t now) noexcept nogil:
    """A new period, or several: what was overdrawn is paid from them. A full budget needs no next one."""
    while d.refill_at and d.refill_at <= now:
        d.budget = min(d.budget + _whole(d), _whole(d))
        d.refill_at = 0 if d.budget == _whole(d) else d.refill_at + PERIOD_TICKS
