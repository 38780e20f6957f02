# cython: language_level=3
from libc.stdint cimport int64_t, uint64_t
from hv.fastpath.state cimport vcpu_t

cdef int64_t hot_set_timer_op(vcpu_t *v, uint64_t *args) noexcept nogil
cdef int64_t hot_vcpu_op(vcpu_t *v, uint64_t *args) noexcept nogil
cdef int64_t hot_sched_op(vcpu_t *v, uint64_t *args) noexcept nogil
cdef int64_t hot_sched_op_compat(vcpu_t *v, uint64_t *args) noexcept nogil
