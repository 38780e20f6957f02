# cython: language_level=3
from hv.engine.guest_grants cimport GuestGrants


cdef class GuestLife(GuestGrants):
    pass
