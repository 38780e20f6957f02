# cython: language_level=3
from hv.engine.guest_memory cimport GuestMemory
from hv.engine.unicorn cimport hv_env
from hv.fastpath.state cimport vcpu_t

cdef hv_env *env_of(vcpu_t *v) noexcept nogil


cdef class GuestRegisters(GuestMemory):
    pass
