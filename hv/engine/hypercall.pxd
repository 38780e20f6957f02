# cython: language_level=3
from libc.stdint cimport int64_t, uint64_t
from hv.fastpath.state cimport machine_t, vcpu_t

cdef extern from * nogil:
    """
    #define COLD      ((int64_t)0x8000000000000000)     /* not served in C: ask Python */
    #define PREEMPTED ((int64_t)0x8000000000000001)     /* make the call again with the changed arguments */
    """
    const int64_t COLD, PREEMPTED

cdef enum:
    BATCH = 4096             # elements of one call, before it is made again with the rest

# A hot handler may change its arguments and return PREEMPTED: the call is then made again with them.
ctypedef int64_t (*hot_t)(vcpu_t *v, uint64_t *args) noexcept nogil

cdef void on_syscall(vcpu_t *v) noexcept nogil
cdef void back_to_guest(vcpu_t *v) noexcept nogil
cdef void drain_host_events(machine_t *m) noexcept nogil
