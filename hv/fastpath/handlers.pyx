# cython: language_level=3
"""Handlers of domain 0's ports: Python callables, one call for each event or one for all of a scan, and Cython's own.

A handler in Cython derives from `Handler` and sets `call`, a C function, and `context`, what that finds in its entry; it
runs with the GIL held, and returns 0, or -1 with a Python exception set. `Counter` is one.

What is bound is kept alive by the `Bound` that `attach` returns. A callable is also held while it runs, so that it may
unbind itself.
"""
from libc.stdlib cimport free
from hv.fastpath.receiver cimport collect, detach
from hv.fastpath.state cimport entry_t

cdef extern from "Python.h" nogil:
    """
    #define hv_vectorcall(callable, arguments) PyObject_Vectorcall( \
        (PyObject *)(callable), (PyObject *const *)(arguments), 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
    """
    void *vectorcall "hv_vectorcall"(void *callable, void **arguments)      # with one; a slot before it is free to use
    void Py_INCREF(void *)
    void Py_DECREF(void *)
    void *PyList_New(Py_ssize_t size)
    void PyList_SET_ITEM(void *list, Py_ssize_t i, void *item)


cdef inline int _call_with(void *callable, void *argument) noexcept nogil:
    cdef void *arguments[2]
    cdef void *result
    arguments[1] = argument
    Py_INCREF(callable)
    result = vectorcall(callable, arguments + 1)
    Py_DECREF(callable)
    if result == NULL:
        return -1
    Py_DECREF(result)
    return 0


cdef class Handler:
    """Something that is bound to ports. Not of use by itself."""


cdef class Counter(Handler):
    """Counts its events, without Python: the least that a handler can do."""

    def __cinit__(self):
        self.call = _count
        self.context = &self.count


cdef int _count(entry_t *entry, uint32_t port) noexcept nogil:
    (<uint64_t *>entry.context)[0] += 1
    return 0


cdef class PythonHandler(Handler):
    """`callable(port)` for each event."""

    def __cinit__(self, callable):
        self._callable = callable
        self.call = _call
        self.context = <void *>callable


cdef int _call(entry_t *entry, uint32_t port) noexcept nogil:
    return _call_with(entry.context, entry.number)


cdef class Batch(Handler):
    """`callable(ports)` once for each scan that finds events, with the list of its ports, in their order."""

    def __cinit__(self, callable):
        self._callable = callable
        self.call = collect
        self.context = &self._batch
        self._batch.deliver = _deliver
        self._batch.context = <void *>callable

    cdef int join(self, domain_t *d) except -1:
        self._batch.domain = d
        return 0

    def __dealloc__(self):
        free(self._batch.ports)


cdef int _deliver(batch_t *batch) noexcept nogil:
    cdef uint32_t count = batch.count, i
    cdef void *ports = PyList_New(count)
    cdef entry_t *entries = batch.domain.receiver.entries
    cdef uint32_t *found = batch.ports
    cdef void *number
    cdef int rc
    if ports == NULL:
        return -1
    if count != batch.count:                    # the garbage collector ran code that received events
        Py_DECREF(ports)
        return _deliver(batch)
    for i in range(count):
        number = entries[found[i]].number
        Py_INCREF(number)
        PyList_SET_ITEM(ports, i, number)
    batch.count = 0
    rc = _call_with(batch.context, ports)
    Py_DECREF(ports)
    return rc


cdef class Bound:
    """A handler, and the number of the port that it is bound to."""


cdef Bound attach(domain_t *d, uint32_t port, Handler handler):
    """Give the port of domain 0 a handler in place of any other. The port is left masked."""
    cdef Bound bound = Bound()
    cdef entry_t *entry = &d.receiver.entries[port]
    bound.handler, bound.port = handler, port
    if entry.call != NULL:
        detach(d, port)
    if isinstance(handler, Batch):
        (<Batch>handler).join(d)
    entry.number = <void *>bound.port
    entry.context = handler.context
    entry.call = handler.call
    return bound
