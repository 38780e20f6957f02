# cython: language_level=3
from xen_abi cimport xen_vcpu_guest_context
from libc.stdint cimport uint32_t, uint64_t
from hv.engine.guest_registers cimport GuestRegisters
from hv.fastpath.state cimport vcpu_t


cdef class GuestVcpus(GuestRegisters):
    cdef int _load_guest_context(self, vcpu_t *v, const xen_vcpu_guest_context *c) except? -1
    cdef void _fill_context(self, vcpu_t *v, const xen_vcpu_guest_context *c) noexcept
    cdef int _move_vcpu_info(self, vcpu_t *v, uint32_t caller, uint64_t mfn, uint32_t offset) except? -1
