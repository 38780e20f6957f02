# cython: language_level=3
"""The end of a domain.

Rules:
* A crash or shutdown only marks the domain and asks the engine to come back; nothing is freed under a running guest.
* The first reason stays; that of a shutdown may be fixed before it happens.
"""
from libc.string cimport strncpy
from hv.fastpath.state cimport REASON_SIZE, STOP_DOMAIN
from hv.fastpath.trace cimport TRACE_CRASH, TRACE_SHUTDOWN, trace_end


cdef void crash(domain_t *d, const char *reason) noexcept nogil:
    if d.dying:
        return
    d.dying = 1
    d.crashed = 1
    strncpy(d.reason, reason, REASON_SIZE - 1)
    d.machine.stop = STOP_DOMAIN
    if d.machine.trace != NULL:
        trace_end(d, TRACE_CRASH, 0, d.reason)


cdef void shutdown(domain_t *d, int code) noexcept nogil:
    """`code` is a SHUTDOWN_* of Xen's sched.h."""
    if d.dying:
        return
    d.dying = 1
    fix_shutdown_code(d, code)
    d.machine.stop = STOP_DOMAIN
    if d.machine.trace != NULL:
        trace_end(d, TRACE_SHUTDOWN, d.shutdown_code, NULL)


cdef void fix_shutdown_code(domain_t *d, int code) noexcept nogil:
    """The domain will end with this code, whoever shuts it down; what has been said first counts."""
    if not d.shutdown_said:
        d.shutdown_said = 1
        d.shutdown_code = code
