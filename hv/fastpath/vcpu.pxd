# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from xen_abi cimport xen_vcpu_runstate_info
from hv.fastpath.state cimport domain_t, machine_t, vcpu_t

cdef bint runnable(const vcpu_t *v) noexcept nogil
cdef bint in_the_queue(const vcpu_t *v) noexcept nogil
cdef void wake(vcpu_t *v) noexcept nogil
cdef void sleep(vcpu_t *v) noexcept nogil
cdef void unblock(vcpu_t *v) noexcept nogil
cdef void check_pollers(domain_t *d, uint32_t port) noexcept nogil
cdef void mark_events_pending(vcpu_t *v) noexcept nogil
cdef void switch_cpu(machine_t *m, vcpu_t *to) noexcept nogil
cdef void runstate_now(const vcpu_t *v, xen_vcpu_runstate_info *info) noexcept nogil
cdef void update_time(vcpu_t *v, vcpu_t *writer, bint force) noexcept nogil
