# cython: language_level=3
from libc.stdint cimport uint32_t
from hv.engine.guest_vcpus cimport GuestVcpus
from hv.fastpath.state cimport domain_t, port_t


cdef class GuestPorts(GuestVcpus):
    cdef port_t *_port(self, uint32_t port) except NULL
    cdef domain_t *_host(self) except NULL
