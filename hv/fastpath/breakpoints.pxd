# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from hv.fastpath.state cimport vcpu_t

cdef enum:
    LONGEST_BLOCK = 4096         # bytes: Unicorn ends a block after a page, less 32

cdef int set_debug_register(vcpu_t *v, uint32_t index, uint64_t value) noexcept nogil     # 0 or a negative errno
cdef int get_debug_register(vcpu_t *v, uint32_t index, uint64_t *value) noexcept nogil    # 0 or -ENODEV
cdef uint32_t watches_ports(vcpu_t *v, uint32_t port, uint32_t size) noexcept nogil       # bits 0-3 of DR6
cdef void arm(vcpu_t *v) noexcept nogil                                          # after a change of dr[0-3] or dr[7]
cdef bint own_stops_ahead(const vcpu_t *v, uint64_t va) noexcept nogil           # a block from va on may reach one
cdef bint watches_page(vcpu_t *v, uint64_t va) noexcept nogil
cdef uint32_t stops_at(vcpu_t *v, uint64_t va) noexcept nogil                    # bits 0-3 of DR6
cdef uint32_t watches(vcpu_t *v, uint64_t va, uint64_t size, int access) noexcept nogil
