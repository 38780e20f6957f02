# cython: language_level=3
from libc.stdint cimport uint64_t
from hv.fastpath.state cimport vcpu_t
from hv.fastpath.trace cimport trace_record_t

cdef void capture(vcpu_t *v, trace_record_t *r, uint64_t number, const uint64_t *args, bint leaving) noexcept nogil
