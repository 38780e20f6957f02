# cython: language_level=3
from hv.fastpath.state cimport port_ops_t

cdef port_ops_t ops_2l
