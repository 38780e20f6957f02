# cython: language_level=3
from libc.stdint cimport int64_t, uint64_t
from hv.fastpath.state cimport machine_t

cdef enum:
    TICKS_PER_NS = 4             # one tick is one byte of guest code; the guests' TSC counts them: 4 GHz

cdef extern from * nogil:
    """
    #define HV_NEVER 0xffffffffffffffffULL
    """
    const uint64_t NEVER "HV_NEVER"

cdef int64_t host_ns() noexcept nogil
cdef uint64_t ticks(machine_t *m) noexcept nogil
cdef void hold_time(machine_t *m) noexcept nogil
cdef void let_time_go_on(machine_t *m) noexcept nogil
cdef uint64_t system_time(machine_t *m) noexcept nogil
cdef uint64_t ticks_of(uint64_t ns) noexcept nogil
