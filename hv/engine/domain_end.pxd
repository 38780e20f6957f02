# cython: language_level=3
from hv.fastpath.state cimport domain_t, machine_t

cdef void keep_held(machine_t *m, domain_t *d) noexcept       # before free_memory: what others hold stays
cdef void free_memory(machine_t *m, domain_t *d) noexcept
cdef void free_domain(domain_t *d) noexcept                   # with frames that others hold it becomes a zombie
cdef void reap(machine_t *m) noexcept                         # zombies whose frames nobody holds any more
cdef void free_zombies(machine_t *m) noexcept                 # all of them, with the machine
