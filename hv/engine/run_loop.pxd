# cython: language_level=3
from hv.fastpath.state cimport machine_t

cdef void run_guests(machine_t *m) noexcept nogil             # until m.stop says why not any longer
