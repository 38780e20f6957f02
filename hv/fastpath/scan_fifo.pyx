# cython: language_level=3, overflowcheck=False
"""One look at the queues of the FIFO ABI: take the events off, the highest priority first, and call the handlers.

Rules:
* Order is that of Linux's loop: after each event the queues that became ready meanwhile are looked at, so that one of a
  higher priority goes first.
* An event is taken off its queue, and is no longer pending, by one locked operation. A masked one is taken off and stays
  pending: unmasking it puts it on a queue again.
* `receiver_t.head` is where a queue goes on, and is right whenever a handler is called: an inner scan goes on from there,
  and what a raising handler leaves behind is still in its queues.

The memory is hv's own (domain 0's); nothing here guards against a hostile writer of it.
Specification: event_channel.h; behaviour: Linux 6.1, drivers/xen/events/events_fifo.c.
"""
from libc.stdint cimport uint32_t
from xen_abi cimport EVTCHN_FIFO_LINK_MASK, xen_evtchn_fifo_control_block
from hv.fastpath.bits cimport exchange32, first, replace32, set32, unlikely
from hv.fastpath.state cimport entry_t, receiver_t
from hv.fastpath.trace cimport handle

cdef enum:
    PENDING = 0x80000000        # as in evtchn_fifo.pyx
    MASKED = 0x40000000
    LINKED = 0x20000000
    WORDS_A_PAGE = 1024


cdef int scan_fifo(domain_t *d) noexcept nogil:
    """0, or -1: a handler raised, and everything that is left waits for the next scan."""
    cdef xen_evtchn_fifo_control_block *control = d.fifo.vcpus[0].control
    cdef uint32_t ready = exchange32(&control.ready, 0)
    cdef uint32_t priority
    while ready:
        priority = first(ready)
        if unlikely(_take_one(d, control, priority, &ready)):
            set32(&control.ready, ready)
            d.vcpus[0].info.evtchn_upcall_pending = 1
            return -1
        if control.ready:
            ready |= exchange32(&control.ready, 0)
    return 0


cdef int _take_one(domain_t *d, xen_evtchn_fifo_control_block *control, uint32_t priority, uint32_t *ready) noexcept nogil:
    """The first event of a queue; its bit of `ready` goes with the last one."""
    cdef receiver_t *r = d.receiver
    cdef uint32_t port = r.head[priority] if r.head[priority] else control.head[priority]
    cdef uint32_t *word = d.fifo.words[port // WORDS_A_PAGE] + port % WORDS_A_PAGE
    cdef uint32_t before = word[0], after
    cdef bint wanted
    cdef entry_t *entry
    while True:
        after = before & ~<uint32_t>(LINKED | EVTCHN_FIFO_LINK_MASK)
        wanted = before & <uint32_t>(PENDING | MASKED) == <uint32_t>PENDING
        if wanted:
            after &= ~<uint32_t>PENDING
        if replace32(word, &before, after):
            break
    r.head[priority] = before & EVTCHN_FIFO_LINK_MASK
    if r.head[priority] == 0:
        ready[0] &= ~(<uint32_t>1 << priority)
    if not wanted:
        return 0
    entry = &r.entries[port]
    entry.delivered += 1
    return handle(d, entry, port)
