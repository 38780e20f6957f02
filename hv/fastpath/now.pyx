# cython: language_level=3
"""What time it is: one counter of ticks for the whole machine, and the host's clock where that is the time.

Units: ticks of 1/4 ns; one byte of executed guest code is one tick. docs/time.md defines them for users.
"""
from hv.fastpath.state cimport CLOCK_HOST, charged

cdef extern from "time.h" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec *t)


cdef int64_t host_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef uint64_t _host_ticks(machine_t *m) noexcept nogil:
    return <uint64_t>(host_ns() - m.host_offset) * TICKS_PER_NS


cdef uint64_t ticks(machine_t *m) noexcept nogil:
    if m.mode == CLOCK_HOST:
        return m.held_at if m.held_at else _host_ticks(m)
    return charged(m)


cdef void hold_time(machine_t *m) noexcept nogil:
    """While hv chooses who runs next, the host's time stands still: a look at its clock costs as much as the choice."""
    if m.mode == CLOCK_HOST:
        m.held_at = _host_ticks(m)


cdef void let_time_go_on(machine_t *m) noexcept nogil:
    m.held_at = 0


cdef uint64_t system_time(machine_t *m) noexcept nogil:
    """ns since the machine started, as Xen's NOW()."""
    return ticks(m) // TICKS_PER_NS


cdef uint64_t ticks_of(uint64_t ns) noexcept nogil:
    """The deadline at a system time; what the counter will never reach is the last moment before never."""
    return ns * TICKS_PER_NS if ns < NEVER // TICKS_PER_NS else NEVER - 1
