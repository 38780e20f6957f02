# cython: language_level=3
"""Events that hv takes itself: domain 0's side of event channels, as a guest kernel would do it.

Rules:
* A handler is a C function; a Python callable is one that calls it (handlers.pyx). How the events are found is the
  ABI's business: `port_ops_t.scan` (scan_2l.pyx, scan_fifo.pyx).
* No event is lost. What was taken from the pending bits and can not be delivered, because a handler raised or because
  the port was masked meanwhile, is pending again.
* A port that is closed is forgotten by every scan that goes on; what it had taken for it goes with the port.
* Handlers may do everything: send, bind, close, and receive again. The inner scan has its own list.
* For each port: events sent = events delivered + 1 if one waits.

A batch is a handler that only notes the port; its ports are delivered together when the scan is at its end.
"""
from libc.stdlib cimport calloc, free, realloc
from xen_abi cimport EVTCHN_FIFO_NR_CHANNELS, xen_vcpu_info
from hv.fastpath.state cimport TAKEN_REMOVED, receiver_t, taken_t

cdef extern from "Python.h" nogil:
    void *PyErr_NoMemory()          # `receive` is called with the GIL


cdef int open_receiver(domain_t *d) noexcept:
    """0, or -1 without memory. The tables are touched as ports are used."""
    d.receiver = <receiver_t *>calloc(1, sizeof(receiver_t))
    if d.receiver == NULL:
        return -1
    d.receiver.entries = <entry_t *>calloc(EVTCHN_FIFO_NR_CHANNELS, sizeof(entry_t))
    return 0 if d.receiver.entries != NULL else -1


cdef void close_receiver(domain_t *d) noexcept:
    if d.receiver != NULL:
        free(d.receiver.entries)
        free(d.receiver)
        d.receiver = NULL


cdef int receive(domain_t *d) except -1 nogil:
    """Deliver everything that waits, and what handlers raise meanwhile. -1: a handler raised; the rest still waits."""
    cdef receiver_t *r = d.receiver
    cdef xen_vcpu_info *info = d.vcpus[0].info
    cdef taken_t taken
    cdef int rc = 0
    if not info.evtchn_upcall_pending:
        return 0
    taken.bits = 0
    taken.at = taken.count = 0
    taken.outer = r.taken
    r.taken = &taken
    while True:
        info.evtchn_upcall_pending = 0          # before the selector: what comes from now on asks for another round
        rc = d.port_ops.scan(d)
        if r.batches != NULL:
            rc = _deliver_batches(d, rc)
        if rc or not info.evtchn_upcall_pending:
            break
    r.taken = taken.outer
    if r.taken != NULL:
        info.evtchn_upcall_pending = 1          # the outer scan is to look again
    return rc


cdef void _put_back(domain_t *d, uint32_t port) noexcept nogil:
    """An event that counts as delivered was not: it waits again. Where another one came since, that waits for both."""
    if not d.port_ops.is_pending(d, port):
        d.port_ops.set_pending(d, port)
        d.ports[port].sent -= 1
        d.receiver.entries[port].delivered -= 1


cdef void forget(domain_t *d, uint32_t port) noexcept nogil:
    """No event of the port that a scan has taken is delivered any more."""
    cdef taken_t *taken = d.receiver.taken
    cdef uint32_t i
    while taken != NULL:
        if taken.word == port >> 6:
            taken.bits &= ~(<uint64_t>1 << (port & 63))
        for i in range(taken.at, taken.count):
            if taken.ports[i] == port:
                taken.ports[i] |= <uint32_t>TAKEN_REMOVED
        taken = taken.outer
    _leave_batch(d, port)
    d.receiver.entries[port].call = NULL
    d.port_ops.mask(d, port)


cdef void detach(domain_t *d, uint32_t port) noexcept nogil:
    """The port has no handler from now on: its events wait, masked, for the next one."""
    d.port_ops.mask(d, port)
    if _leave_batch(d, port):
        _put_back(d, port)
    d.receiver.entries[port].call = NULL


# --- batches ------------------------------------------------------------------------------------------------------

cdef int collect(entry_t *entry, uint32_t port) noexcept nogil:
    """The handler of a port in a batch."""
    cdef batch_t *batch = <batch_t *>entry.context
    cdef receiver_t *r = batch.domain.receiver
    if batch.count == batch.room and _grow(batch):
        return -1
    if batch.count == 0:
        batch.next = NULL
        if r.batches == NULL:
            r.batches = batch
        else:
            r.last_batch.next = batch
        r.last_batch = batch
    batch.ports[batch.count] = port
    batch.count += 1
    return 0


cdef int _grow(batch_t *batch) noexcept nogil:
    cdef uint32_t room = 2 * batch.room if batch.room else 64
    cdef uint32_t *ports = <uint32_t *>realloc(batch.ports, room * sizeof(uint32_t))
    if ports == NULL:
        PyErr_NoMemory()
        return -1
    batch.ports, batch.room = ports, room
    return 0


cdef int _deliver_batches(domain_t *d, int rc) noexcept nogil:
    """Once a handler has raised, what is left is put back."""
    cdef receiver_t *r = d.receiver
    cdef batch_t *batch
    while r.batches != NULL:
        batch = r.batches
        r.batches = batch.next
        if rc or d.vcpus[0].info.evtchn_upcall_pending:     # nothing can have been masked where no flag is set
            _withdraw(d, batch, rc != 0)
        if batch.count:
            rc = batch.deliver(batch)
    return rc


cdef void _withdraw(domain_t *d, batch_t *batch, bint everything) noexcept nogil:
    """Put back what has been masked since it was found, or everything."""
    cdef uint32_t i, kept = 0
    for i in range(batch.count):
        if everything or d.port_ops.is_masked(d, batch.ports[i]):
            _put_back(d, batch.ports[i])
        else:
            batch.ports[kept] = batch.ports[i]
            kept += 1
    batch.count = kept


cdef bint _leave_batch(domain_t *d, uint32_t port) noexcept nogil:
    """Take the port out of the batch that it waits in; whether it did."""
    cdef receiver_t *r = d.receiver
    cdef batch_t *batch
    cdef batch_t *before = NULL
    cdef uint32_t i, kept
    if r.entries[port].call != collect:
        return False
    batch = <batch_t *>r.entries[port].context
    i = kept = 0
    for i in range(batch.count):
        if batch.ports[i] != port:
            batch.ports[kept] = batch.ports[i]
            kept += 1
    if kept == batch.count:
        return False
    batch.count = kept
    if kept == 0:
        _unlink(r, batch)
    return True


cdef void _unlink(receiver_t *r, batch_t *batch) noexcept nogil:
    """An empty batch waits for nothing. One that is being delivered is not among them."""
    cdef batch_t **link = &r.batches
    cdef batch_t *before = NULL
    while link[0] != NULL and link[0] != batch:
        before = link[0]
        link = &before.next
    if link[0] == NULL:
        return
    link[0] = batch.next
    if r.last_batch == batch:
        r.last_batch = before
