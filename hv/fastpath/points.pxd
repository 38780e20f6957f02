# cython: language_level=3
from libc.stdint cimport int64_t, uint32_t, uint64_t
from hv.fastpath.state cimport domain_t, machine_t, vcpu_t

cdef bint stops_ahead(const domain_t *d, uint64_t va) noexcept nogil         # a block from va on may reach one
cdef bint points_in_page(const domain_t *d, uint64_t va) noexcept nogil      # a watched range touches the page
cdef bint note_address(vcpu_t *v, uint64_t va) noexcept nogil
cdef bint note_access(vcpu_t *v, uint64_t va, uint64_t size, int access, uint64_t rip, bint look) noexcept nogil
cdef bint note_call(vcpu_t *v, uint64_t number, uint64_t element, const uint64_t *args) noexcept nogil
cdef void note_return(vcpu_t *v, uint64_t number, const uint64_t *args, int64_t result) noexcept nogil
cdef void note_event(domain_t *d, uint32_t port) noexcept nogil
cdef void note_entry(vcpu_t *v, uint32_t vector, uint32_t error, uint64_t address, bint software, uint64_t rip) noexcept nogil
cdef void note_nothing(machine_t *m) noexcept nogil
cdef void stop_soon(machine_t *m) noexcept nogil                             # at the next instruction boundary
cdef void forget_points(domain_t *d) noexcept nogil
