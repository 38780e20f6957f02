# cython: language_level=3
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from hv.fastpath.state cimport domain_t, entry_t, machine_t, mapping_t, vcpu_t

# What a record is about. Its words are told beside each; hv/trace/records.py reads them.
cdef enum:
    TRACE_CALL = 1           # number, six registers; then the memory they point at
    TRACE_RETURN = 2         # number, result; then the memory written. Its cause is the call
    TRACE_EVENT = 3          # port, its state, detail, remote port; the vCPU is the one to be notified
    TRACE_UPCALL = 4         # rip interrupted, handler, when the event was that it is about (ticks)
    TRACE_EXCEPTION = 5      # rip, handler, vector, error code, address
    TRACE_SYSCALL = 6        # rip, handler: a system call of guest user mode
    TRACE_FAILSAFE = 7       # rip, handler
    TRACE_IRET = 8           # rip and rsp that it goes to. Its cause is the entry it ends
    TRACE_TIMER = 9          # which (TIMER_*), deadline in ticks
    TRACE_RUNSTATE = 10      # the old and the new one (RUNSTATE_*)
    TRACE_PAGE_TABLE = 11    # machine address, level, old entry, new one, address it maps (or UNKNOWN_ADDRESS)
    TRACE_CRASH = 12         # then the reason
    TRACE_SHUTDOWN = 13      # SHUTDOWN_*
    TRACE_DESTROY = 14
    TRACE_GRANT = 16         # begun or ended, granter, reference, frame, GNTMAP_*, host address, handle; domid maps it
    TRACE_NOTE = 15          # of the host side: length of its data, then source, NUL, what, NUL, data

cdef enum:                   # flags
    TRACE_INSIDE = 1         # an element of a multicall
    TRACE_SOFTWARE = 2       # an exception by `int n`
    TRACE_KERNEL = 4         # an entry: it interrupted guest kernel mode. An iret: it goes there
    TRACE_MERGED = 8         # an event: its port was pending already
    TRACE_MASKED = 16        # an event: its port was masked
    TRACE_AGAIN = 32         # a return: the call is made again for the rest

cdef enum:
    NOBODY = 0xffff          # in the place of a vCPU

ctypedef struct trace_record_t:
    uint16_t size            # with everything, in units of 8 bytes
    uint8_t kind
    uint8_t flags
    uint16_t domid
    uint16_t vcpu            # or NOBODY
    uint64_t id
    uint64_t cause           # 0: none that hv knows
    uint64_t ticks
    uint64_t words[8]        # as many as the kind has

ctypedef struct trace_chunk_t:       # a copy of guest memory, behind the words; its bytes follow, up to a multiple of 8
    uint8_t register_        # that points there
    uint8_t nested           # by a pointer in what the register points at
    uint16_t got             # bytes: fewer than there are where the rest is not readable, or too much
    uint32_t whole           # bytes that there are
    uint64_t address

cdef int trace_attach(machine_t *m, void *sink, void *failed) except -1
cdef void trace_detach(machine_t *m) noexcept
cdef void trace_flush(machine_t *m) noexcept
cdef uint64_t trace_call(vcpu_t *v, uint64_t number, const uint64_t *args, uint64_t rsp, uint64_t cost) noexcept nogil
cdef void trace_return(vcpu_t *v, uint64_t call, uint64_t before, uint64_t number, const uint64_t *args, int64_t result, bint again) noexcept nogil
cdef void trace_event(domain_t *d, uint32_t port) noexcept nogil
cdef void trace_unmask(domain_t *d, uint32_t port) noexcept nogil
cdef void trace_upcall(vcpu_t *v, uint64_t rip) noexcept nogil
cdef void trace_exception(vcpu_t *v, uint64_t rip, int vector, uint32_t error, uint64_t address, bint software) noexcept nogil
cdef void trace_entry(vcpu_t *v, int kind, uint64_t rip, uint64_t handler) noexcept nogil
cdef void trace_entered(vcpu_t *v, uint64_t frame, uint64_t saved_rsp) noexcept nogil
cdef void trace_iret(vcpu_t *v, uint64_t rip, uint64_t rsp, bint to_kernel) noexcept nogil
cdef uint64_t trace_timer(vcpu_t *v, int which, uint64_t deadline) noexcept nogil
cdef void trace_watchdog(domain_t *d, uint64_t deadline) noexcept nogil
cdef void trace_runstate(vcpu_t *v, int old, int new) noexcept nogil
cdef void trace_page_table(domain_t *d, int level, uint64_t mfn, uint64_t slot, uint64_t old, uint64_t new) noexcept nogil
cdef void trace_end(domain_t *d, int kind, uint64_t code, const char *reason) noexcept nogil
cdef void trace_grant(domain_t *d, bint ended, uint64_t mfn, const mapping_t *mapping, uint64_t address, uint32_t handle) noexcept nogil
cdef uint64_t trace_note(machine_t *m, uint16_t domid, uint64_t cause, const char *text, uint64_t size) noexcept nogil
cdef int trace_handler(domain_t *d, entry_t *entry, uint32_t port) noexcept nogil


cdef inline int handle(domain_t *d, entry_t *entry, uint32_t port) noexcept nogil:
    """Run the handler of a port of domain 0: what it does is the effect of the port's event."""
    if d.machine.trace == NULL:
        return entry.call(entry, port)
    return trace_handler(d, entry, port)
