# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from hv.fastpath.state cimport domain_t, machine_t, vcpu_t

cdef enum:
    QUANTUM_TICKS = 4000000      # a turn: 1 ms
    DEFAULT_WEIGHT = 256

cdef void charge(machine_t *m) noexcept nogil
cdef vcpu_t *next_vcpu(machine_t *m, bint another) noexcept nogil
cdef vcpu_t *in_its_turn(machine_t *m) noexcept nogil
cdef bint turn_is_over(machine_t *m) noexcept nogil
cdef uint64_t turn_ticks(const vcpu_t *v) noexcept nogil
cdef void set_cap(domain_t *d, uint32_t percent) noexcept nogil
cdef void refill(domain_t *d, uint64_t now) noexcept nogil
