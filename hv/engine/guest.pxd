# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from hv.fastpath.state cimport domain_t, machine_t, vcpu_t


cdef class Guest:
    cdef domain_t *d                 # NULL when it is destroyed
    cdef readonly object engine
    cdef readonly uint32_t domid
    cdef public object handler       #: callable(vcpu, number, a0..a5) -> result
    cdef dict _port_handlers
    cdef bytes _template             # the CPU state of a new instance

    cdef void _make(self, machine_t *m, uint32_t domid, uint32_t vcpus, uint64_t max_pages, uint32_t max_port) except *
    cdef void _make_host(self) except *
    cdef void _make_guest(self, uint32_t vcpus) except *
    cdef domain_t *_live(self) except NULL
    cdef vcpu_t *_vcpu(self, uint32_t vcpu) except NULL
