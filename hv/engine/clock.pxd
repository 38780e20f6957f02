# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from hv.fastpath.state cimport machine_t, vcpu_t

cdef enum:
    HYPERCALL_TICKS = 400        # what a hypercall costs in virtual time: 100 ns
    PART_TICKS = 40000           # what each part of a long one costs besides: 10 us, or a neighbour would wait for ages
    EXCEPTION_TICKS = 400        # what an exception costs: 100 ns
    FIRST_PERIOD = 10000000      # ns: the periodic timer that every PV vCPU is made with

cdef void rearm(machine_t *m) noexcept nogil
cdef void block(machine_t *m, uint64_t address, uint32_t size) noexcept nogil
cdef void forget_watch(vcpu_t *v) noexcept nogil
cdef void fire_timers(machine_t *m) noexcept nogil
cdef void look_at_host(machine_t *m) noexcept nogil
cdef void follow(machine_t *m) noexcept nogil
cdef bint idle(machine_t *m) noexcept nogil
cdef void switch_to(machine_t *m, vcpu_t *v) noexcept nogil
cdef void set_singleshot(vcpu_t *v, uint64_t ns) noexcept nogil
cdef void stop_singleshot(vcpu_t *v) noexcept nogil
cdef void set_periodic(vcpu_t *v, uint64_t ns) noexcept nogil
cdef void set_poll_timeout(vcpu_t *v, uint64_t ns) noexcept nogil
