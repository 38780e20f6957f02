# cython: language_level=3
from hv.engine.guest_life cimport GuestLife


cdef class GuestRecords(GuestLife):
    pass
