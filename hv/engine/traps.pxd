# cython: language_level=3
from libc.stdint cimport int64_t, uint32_t, uint64_t
from hv.engine.unicorn cimport hv_env
from hv.fastpath.state cimport vcpu_t

cdef void inject(vcpu_t *v, int vector, uint32_t error) noexcept nogil
cdef void inject_interrupt(vcpu_t *v, int vector) noexcept nogil
cdef void syscall_entry(vcpu_t *v) noexcept nogil
cdef void deliver_events(vcpu_t *v) noexcept nogil
cdef int64_t iret(vcpu_t *v) noexcept nogil
cdef void reload_segments(vcpu_t *v) noexcept nogil              # at a context switch
cdef void set_flat_segments(vcpu_t *v) noexcept nogil
cdef void flat_segments(hv_env *env, bint kernel_mode) noexcept nogil
cdef void load_ldt(vcpu_t *v, hv_env *env) noexcept nogil
cdef int load_segment(vcpu_t *v, int segment, uint32_t selector) noexcept nogil
cdef uint64_t segment_base(vcpu_t *v, uint32_t selector) noexcept nogil
