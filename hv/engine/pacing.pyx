# cython: language_level=3
"""The paced clock: how the guests' time follows the host's while no vCPU can run.

Rules:
* Time that passes on the host while every vCPU waits passes for the guests too: a sleep is as long as it says.
* What guests have got behind by running (or ahead: code can be faster than 4 GB/s) is made up while they wait, by no
  more than 1/SLOWEST of the wait. Were it made up at once, the first sleep after a boot would be too short by seconds.
* Up to AT_ONCE are made up at once all the same: many short waits, each served a little late, would add up to more.
"""
from libc.stdint cimport int64_t, uint64_t
from hv.fastpath.now cimport TICKS_PER_NS, host_ns, system_time
from hv.fastpath.state cimport machine_t

cdef enum:
    SLOWEST = 200
    AT_ONCE = 10000000           # 10 ms


cpdef int64_t made_up(int64_t behind, int64_t passed) noexcept nogil:
    """How many of the ns that guests are behind they make up in a wait of `passed` ns of the host's."""
    cdef int64_t most = passed // SLOWEST
    return min(most, max(-most, behind))


cpdef int64_t left_out(int64_t behind) noexcept nogil:
    """How many of the ns that guests are behind as a wait begins are not made up at once."""
    return 0 if -AT_ONCE <= behind <= AT_ONCE else behind


cpdef int64_t wait_for(int64_t left, int64_t behind) noexcept nogil:
    """ns of the host's until `left` ns have passed for guests which are so far behind."""
    if behind >= 0:
        return max(left - behind, left - left // (SLOWEST + 1))
    return min(left - behind, left + left // (SLOWEST - 1) + 1)


cdef uint64_t follow_host(machine_t *m) noexcept nogil:
    """No vCPU can run, or none could since this was called last: the guests' time now, in ticks."""
    cdef int64_t host = host_ns(), off
    if m.idle_since:
        off = -made_up(m.behind, host - m.idle_since)
    else:
        off = left_out(host - m.host_offset - <int64_t>system_time(m))
    m.behind += off
    m.host_offset += off
    m.idle_since = host
    return <uint64_t>(host - m.host_offset) * TICKS_PER_NS
