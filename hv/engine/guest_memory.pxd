# cython: language_level=3
from hv.engine.guest cimport Guest


cdef class GuestMemory(Guest):
    pass
