# cython: language_level=3
"""The trace: what happens becomes binary records in a buffer, which Python empties when it is full.

Rules:
* While nobody listens, `machine_t.trace` is NULL, and its test is all that a place in the hot path costs.
* No record is lost: a full buffer is handed to Python at once, whole records only, before the next one is written.
* Tracing changes nothing that a guest could see: memory is looked at without setting accessed bits, and no time passes.
* Every record has an id, counted from 1, and the id of its cause. What is under way in hv (a call, a timer, an event)
  is the cause of what happens in it; the cause of a call is the handler that makes it, as far as the stack shows it.

A handler is known by the stack pointer of its frame: a call whose stack pointer lies above has left it, by whatever way,
and an iret that goes back to the stack pointer which the entry saved ends it.
"""
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memmove, memset, strlen
from hv.fastpath.now cimport ticks
from hv.fastpath.state cimport *
from hv.fastpath.trace_capture cimport capture
from hv.fastpath.trace_pages cimport mapped_at

cdef enum:
    BUFFER = 0x100000
    LARGEST = 8192           # of a record without a note
    MOST_NOTE = 0x40000
    HEADER = 32              # bytes before the words
    FRAME_REACH = 16384      # bytes below a handler's frame that count as its stack


# --- records ------------------------------------------------------------------------------------------------------

cdef int trace_attach(machine_t *m, void *sink, void *failed) except -1:
    """Start: `sink(bytes)` gets whole records; the caller keeps both objects alive."""
    cdef trace_t *t = <trace_t *>calloc(1, sizeof(trace_t))
    if t != NULL:
        t.buffer = <uint8_t *>malloc(BUFFER)
    if t == NULL or t.buffer == NULL:
        free(t)
        raise MemoryError
    t.size = BUFFER
    t.sink, t.failed = sink, failed
    _forget(m)
    m.trace = t
    _observe(m, OBSERVED_TRACE)
    return 0


cdef void _observe(machine_t *m, uint16_t traced) noexcept:
    """Every domain knows whether there is a trace: one test answers for it and for the debugger."""
    cdef uint32_t i
    for i in range(m.nr_domains):
        m.domains[i].observed = (m.domains[i].observed & OBSERVED_POINTS) | traced


cdef void _forget(machine_t *m) noexcept:
    """Ids of an earlier trace mean nothing now."""
    cdef uint32_t i, j
    for i in range(m.nr_domains):
        for j in range(m.domains[i].nr_vcpus):
            memset(&m.domains[i].vcpus[j].tracing, 0, sizeof(tracing_t))
        for j in range(m.domains[i].nr_ports):
            m.domains[i].ports[j].event = 0


cdef void trace_detach(machine_t *m) noexcept:
    cdef trace_t *t = m.trace
    if t != NULL:
        trace_flush(m)
        m.trace = NULL
        _observe(m, 0)
        free(t.buffer)
        free(t)


cdef void trace_flush(machine_t *m) noexcept:
    """Hand over what there is. What the sink does may write further records."""
    cdef trace_t *t = m.trace
    if t == NULL or t.used == 0:
        return
    try:
        data = PyBytes_FromStringAndSize(<char *>t.buffer, t.used)
        t.used = 0
        (<object>t.sink)(data)
    except BaseException as error:
        t.used = 0
        (<object>t.failed)(error)


cdef void _make_room(machine_t *m) noexcept nogil:
    with gil:
        trace_flush(m)


cdef trace_record_t *_begin(machine_t *m, int kind, uint16_t domid, uint16_t vcpu, uint64_t cause, int nr_words) noexcept nogil:
    """A new record, with room for its words and what is captured; _end makes it one."""
    cdef trace_t *t = m.trace
    cdef trace_record_t *r
    if t.size - t.used < LARGEST:
        _make_room(m)
    r = <trace_record_t *>(t.buffer + t.used)
    t.last_id += 1
    r.size = (HEADER >> 3) + nr_words
    r.kind = kind
    r.flags = 0
    r.domid = domid
    r.vcpu = vcpu
    r.id = t.last_id
    r.cause = cause
    r.ticks = ticks(m)
    return r


cdef inline uint64_t _end(machine_t *m, trace_record_t *r) noexcept nogil:
    m.trace.used += <uint64_t>r.size << 3
    return r.id


cdef inline trace_record_t *_of_vcpu(vcpu_t *v, int kind, uint64_t cause, int nr_words) noexcept nogil:
    return _begin(v.domain.machine, kind, v.domain.domid, v.id, cause, nr_words)


# --- hypercalls ---------------------------------------------------------------------------------------------------

cdef uint64_t _handler_of(vcpu_t *v, uint64_t rsp) noexcept nogil:
    """The entry whose handler runs with this stack pointer; those that it shows to be left are forgotten."""
    cdef tracing_t *t = &v.tracing
    cdef uint64_t frame
    while t.nr_handlers:
        frame = t.handlers[t.nr_handlers - 1].frame
        if rsp <= frame and frame - rsp < FRAME_REACH:
            return t.handlers[t.nr_handlers - 1].id
        if rsp <= frame or rsp - frame >= FRAME_REACH:  # another stack: perhaps it comes back
            return 0
        t.nr_handlers -= 1
    return 0


cdef uint64_t trace_call(vcpu_t *v, uint64_t number, const uint64_t *args, uint64_t rsp, uint64_t cost) noexcept nogil:
    """A hypercall begins, `cost` ticks ago: its id. What happens until trace_return is its effect."""
    cdef trace_t *t = v.domain.machine.trace
    cdef trace_record_t *r = _of_vcpu(v, TRACE_CALL, t.current if t.current else _handler_of(v, rsp), 7)
    if v.domain.machine.mode != CLOCK_HOST:
        r.ticks -= cost
    if v.domain.in_multicall:
        r.flags |= TRACE_INSIDE
    r.words[0] = number
    memcpy(&r.words[1], args, 6 * 8)
    capture(v, r, number, args, False)
    t.current = _end(v.domain.machine, r)
    return t.current


cdef void trace_return(vcpu_t *v, uint64_t call, uint64_t before, uint64_t number, const uint64_t *args, int64_t result, bint again) noexcept nogil:
    """It is over; `before` is what was under way when it began."""
    cdef trace_record_t *r = _of_vcpu(v, TRACE_RETURN, call, 2)
    r.words[0] = number
    r.words[1] = <uint64_t>result
    if again:
        r.flags |= TRACE_AGAIN
    elif result >= 0:
        capture(v, r, number, args, True)
    _end(v.domain.machine, r)
    if v.pause & PAUSE_BLOCKED:
        v.tracing.blocked_by = call
    v.domain.machine.trace.current = before


# --- events -------------------------------------------------------------------------------------------------------

cdef void trace_event(domain_t *d, uint32_t port) noexcept nogil:
    """The event of a bound port happens, now."""
    cdef machine_t *m = d.machine
    cdef port_t *p = &d.ports[port]
    cdef uint64_t before = m.trace.current
    cdef trace_record_t *r = _begin(m, TRACE_EVENT, d.domid, p.vcpu if d.domid else NOBODY, before, 4)
    if d.port_ops.is_pending(d, port):
        r.flags |= TRACE_MERGED
    if d.port_ops.is_masked(d, port):
        r.flags |= TRACE_MASKED
    r.words[0] = port
    r.words[1] = p.state
    r.words[2] = p.detail
    r.words[3] = p.remote_port
    if not r.flags & TRACE_MERGED or not p.event:
        p.event, p.event_ticks = r.id, r.ticks
    m.trace.current = _end(m, r)
    _set(d, port, False)
    m.trace.current = before


cdef int trace_handler(domain_t *d, entry_t *entry, uint32_t port) noexcept nogil:
    cdef machine_t *m = d.machine
    cdef uint64_t before = m.trace.current
    cdef int rc
    m.trace.current = d.ports[port].event
    rc = entry.call(entry, port)
    if m.trace != NULL:                                 # the handler may have ended the trace
        m.trace.current = before
    return rc


cdef void trace_unmask(domain_t *d, uint32_t port) noexcept nogil:
    _set(d, port, True)


cdef void _set(domain_t *d, uint32_t port, bint unmask) noexcept nogil:
    """Set a port pending, or unmask it, and see whether that asks for an upcall."""
    cdef vcpu_t *v = &d.vcpus[d.ports[port].vcpu]
    cdef bint before = d.domid == 0 or v.info.evtchn_upcall_pending
    if unmask:
        d.port_ops.unmask(d, port)
    else:
        d.port_ops.set_pending(d, port)
    if not before and v.info.evtchn_upcall_pending:
        v.tracing.event, v.tracing.event_ticks = d.ports[port].event, d.ports[port].event_ticks


# --- entries into the guest, and the way back ---------------------------------------------------------------------

cdef void trace_upcall(vcpu_t *v, uint64_t rip) noexcept nogil:
    cdef trace_record_t *r = _of_vcpu(v, TRACE_UPCALL, v.tracing.event, 3)
    r.flags |= TRACE_KERNEL if v.kernel_mode else 0
    r.words[0] = rip
    r.words[1] = v.event_callback
    r.words[2] = v.tracing.event_ticks if v.tracing.event else r.ticks
    _end(v.domain.machine, r)


cdef void trace_exception(vcpu_t *v, uint64_t rip, int vector, uint32_t error, uint64_t address, bint software) noexcept nogil:
    cdef trace_record_t *r = _of_vcpu(v, TRACE_EXCEPTION, v.domain.machine.trace.current, 5)
    r.flags |= (TRACE_KERNEL if v.kernel_mode else 0) | (TRACE_SOFTWARE if software else 0)
    r.words[0] = rip
    r.words[1] = v.traps[vector].address
    r.words[2] = vector
    r.words[3] = error
    r.words[4] = address
    _end(v.domain.machine, r)


cdef void trace_entry(vcpu_t *v, int kind, uint64_t rip, uint64_t handler) noexcept nogil:
    """A system call of user mode, or the failsafe callback."""
    cdef trace_record_t *r = _of_vcpu(v, kind, v.domain.machine.trace.current, 2)
    r.flags |= TRACE_KERNEL if v.kernel_mode else 0
    r.words[0] = rip
    r.words[1] = handler
    _end(v.domain.machine, r)


cdef void trace_entered(vcpu_t *v, uint64_t frame, uint64_t saved_rsp) noexcept nogil:
    """The frame of the entry that was recorded last is on the guest's stack: its handler begins."""
    cdef tracing_t *t = &v.tracing
    cdef entered_t *h
    if t.nr_handlers == HANDLERS:
        t.nr_handlers -= 1
        memmove(&t.handlers[0], &t.handlers[1], t.nr_handlers * sizeof(entered_t))
    h = &t.handlers[t.nr_handlers]
    t.nr_handlers += 1
    h.id = v.domain.machine.trace.last_id
    h.frame, h.saved_rsp = frame, saved_rsp


cdef uint64_t _ended_by(tracing_t *t, uint64_t rsp) noexcept nogil:
    """The entry that saved this stack pointer, the latest of them; it is forgotten, with those made in it."""
    cdef uint32_t i = t.nr_handlers
    while i:
        i -= 1
        if t.handlers[i].saved_rsp == rsp:
            t.nr_handlers = i
            return t.handlers[i].id
    return 0


cdef void trace_iret(vcpu_t *v, uint64_t rip, uint64_t rsp, bint to_kernel) noexcept nogil:
    cdef trace_record_t *r = _of_vcpu(v, TRACE_IRET, _ended_by(&v.tracing, rsp), 2)
    r.flags |= TRACE_KERNEL if to_kernel else 0
    r.words[0] = rip
    r.words[1] = rsp
    _end(v.domain.machine, r)


# --- time and life ------------------------------------------------------------------------------------------------

cdef uint64_t trace_timer(vcpu_t *v, int which, uint64_t deadline) noexcept nogil:
    """A timer is due: its id."""
    cdef trace_record_t *r = _of_vcpu(v, TRACE_TIMER, v.tracing.armed_by[which], 2)
    r.words[0] = which
    r.words[1] = deadline
    return _end(v.domain.machine, r)


cdef void trace_watchdog(domain_t *d, uint64_t deadline) noexcept nogil:
    cdef trace_record_t *r = _begin(d.machine, TRACE_TIMER, d.domid, NOBODY, 0, 2)
    r.words[0] = TIMER_WATCHDOG
    r.words[1] = deadline
    d.machine.trace.current = _end(d.machine, r)


cdef void trace_runstate(vcpu_t *v, int old, int new) noexcept nogil:
    cdef uint64_t cause = v.domain.machine.trace.current
    cdef trace_record_t *r
    if v.pause & PAUSE_BLOCKED:
        cause = v.tracing.blocked_by
    r = _of_vcpu(v, TRACE_RUNSTATE, cause, 2)
    r.words[0] = old
    r.words[1] = new
    _end(v.domain.machine, r)


cdef void trace_page_table(domain_t *d, int level, uint64_t mfn, uint64_t slot, uint64_t old, uint64_t new) noexcept nogil:
    """An entry of a page table in use has changed; `slot` is its machine address."""
    cdef vcpu_t *v = d.current
    cdef trace_record_t *r
    cdef uint64_t va
    if v == NULL:
        return
    va = mapped_at(v, level, mfn, slot)
    r = _of_vcpu(v, TRACE_PAGE_TABLE, d.machine.trace.current, 5)
    r.words[0] = slot
    r.words[1] = level
    r.words[2] = old
    r.words[3] = new
    r.words[4] = va
    _end(d.machine, r)


cdef void _text(trace_record_t *r, const char *text, uint64_t size) noexcept nogil:
    """Append a word with the length of a text, and the text."""
    cdef uint8_t *to = <uint8_t *>r + (<uint64_t>r.size << 3)
    cdef uint64_t padded = (size + 7) & ~<uint64_t>7
    (<uint64_t *>to)[0] = size
    memcpy(to + 8, text, size)
    memset(to + 8 + size, 0, padded - size)
    r.size += 1 + (padded >> 3)


cdef void trace_end(domain_t *d, int kind, uint64_t code, const char *reason) noexcept nogil:
    """A domain stops: TRACE_CRASH, TRACE_SHUTDOWN; or is taken down: TRACE_DESTROY."""
    cdef vcpu_t *v = d.current if kind != TRACE_DESTROY else NULL
    cdef trace_record_t *r = _begin(d.machine, kind, d.domid, v.id if v != NULL else NOBODY, d.machine.trace.current, 1)
    r.words[0] = code
    if kind == TRACE_CRASH:
        _text(r, reason, min(strlen(reason), <size_t>REASON_SIZE))
    _end(d.machine, r)


cdef void trace_grant(domain_t *d, bint ended, uint64_t mfn, const mapping_t *mapping, uint64_t address, uint32_t handle) noexcept nogil:
    """A domain has mapped a grant of another, or unmapped it."""
    cdef trace_record_t *r = _begin(d.machine, TRACE_GRANT, d.domid, d.current.id if d.current != NULL else NOBODY,
                                    d.machine.trace.current, 7)
    r.words[0] = ended
    r.words[1] = mapping.domid
    r.words[2] = mapping.ref
    r.words[3] = mfn
    r.words[4] = mapping.flags
    r.words[5] = address
    r.words[6] = handle
    _end(d.machine, r)


cdef uint64_t trace_note(machine_t *m, uint16_t domid, uint64_t cause, const char *text, uint64_t size) noexcept nogil:
    """What the host side did, in its own words: its id. More than MOST_NOTE bytes are cut."""
    cdef trace_record_t *r
    size = min(size, <uint64_t>MOST_NOTE)
    if m.trace.size - m.trace.used < size + LARGEST:
        _make_room(m)
    r = _begin(m, TRACE_NOTE, domid, NOBODY, cause if cause else m.trace.current, 0)
    _text(r, text, size)
    return _end(m, r)
