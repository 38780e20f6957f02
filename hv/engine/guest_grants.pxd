# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t
from hv.engine.guest_ports cimport GuestPorts


cdef class GuestGrants(GuestPorts):
    cdef int _copy_segments(self, uint32_t domid, segments, uint8_t *buffer, size_t size, bint to_guest) except? -99
