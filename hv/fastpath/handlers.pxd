# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from hv.fastpath.state cimport batch_t, domain_t, handler_t


cdef class Handler:
    cdef handler_t call
    cdef void *context


cdef class Counter(Handler):
    cdef readonly uint64_t count


cdef class PythonHandler(Handler):
    cdef object _callable


cdef class Batch(Handler):
    cdef batch_t _batch
    cdef object _callable
    cdef int join(self, domain_t *d) except -1


cdef class Bound:
    cdef readonly Handler handler
    cdef readonly object port


cdef Bound attach(domain_t *d, uint32_t port, Handler handler)
