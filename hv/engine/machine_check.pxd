# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from hv.fastpath.state cimport vcpu_t

cdef bint is_machine_check(uint32_t msr) noexcept nogil
cdef uint64_t read_machine_check(vcpu_t *v, uint32_t msr) noexcept nogil
cdef bint write_machine_check(vcpu_t *v, uint32_t msr, uint64_t value) noexcept nogil
