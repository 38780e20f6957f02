# cython: language_level=3
from hv.fastpath.state cimport vcpu_t

cdef void on_exception(vcpu_t *v, int vector) noexcept nogil
