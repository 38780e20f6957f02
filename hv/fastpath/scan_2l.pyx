# cython: language_level=3
"""One look at the events of the 2-level ABI: find what is pending and not masked, and call the handlers.

Rules:
* Order and fairness are those of Linux's loop: a scan begins behind the port that was delivered last, goes round, and
  looks at the word in which it began once more at its end. What handlers send, mask and unmask meanwhile is met at the
  same moment as there.
* A word is read once, when the loop comes to it, and one locked operation takes all its events. They are not pending
  from then on, and stand in `taken_t` until they are delivered.
* Before each call: if the port has been masked, its event is pending again; if another event came, it is merged.

Words with few ports are taken together, into a list, which is then delivered: the branches of a loop for each word would
be guessed wrong half of the time. A word of the list that has changed before its turn (`_arrived`) ends the list: what is
left of it is pending again, and is found once more.

Behaviour: Linux 6.1, drivers/xen/events/events_2l.c.
"""
from libc.stdint cimport uint32_t, uint64_t
from hv.fastpath.bits cimport clear, exchange, first, set, unlikely, without_first
from hv.fastpath.state cimport TAKEN_NOTHING, TAKEN_REMOVED, entry_t, receiver_t, taken_t
from hv.fastpath.trace cimport handle

cdef enum:
    NR_PORTS = 4096
    EVERY_BIT = -1


cdef int scan_2l(domain_t *d) noexcept nogil:
    """0, or -1: a handler raised, and everything that is left waits for the next scan."""
    cdef receiver_t *r = d.receiver
    cdef uint64_t words = exchange(&d.vcpus[0].info.evtchn_pending_sel, 0)
    cdef uint32_t word = r.next >> 6
    cdef uint64_t beginning = <uint64_t>1 << word
    cdef uint64_t above = <uint64_t>EVERY_BIT << word ^ beginning
    cdef taken_t taken
    cdef int rc = 0
    taken.bits = 0
    taken.at = taken.count = 0
    taken.outer = r.taken
    r.taken = &taken
    if words & beginning:
        rc = _one_word(d, &taken, word, <uint64_t>EVERY_BIT << (r.next & 63))
    if rc == 0 and words & above:
        rc = _words(d, &taken, words & above)
    if rc == 0 and words & ~above & ~beginning:
        rc = _words(d, &taken, words & ~above & ~beginning)
    if rc == 0 and words & beginning:
        rc = _one_word(d, &taken, word, <uint64_t>EVERY_BIT)
    r.taken = taken.outer
    if unlikely(rc != 0):
        _give_back(d, &taken)
        set(&d.vcpus[0].info.evtchn_pending_sel, words)
        d.vcpus[0].info.evtchn_upcall_pending = 1
    return rc


cdef int _one_word(domain_t *d, taken_t *taken, uint32_t word, uint64_t within) noexcept nogil:
    """Take the events of a word, and deliver them one by one."""
    cdef uint64_t *pending = &d.shared.evtchn_pending[word]
    cdef uint64_t *mask = &d.shared.evtchn_mask[word]
    cdef uint64_t bits = pending[0] & ~mask[0] & within
    cdef uint32_t port
    if bits == 0:
        return 0
    clear(pending, bits)
    taken.word = word
    while bits:
        port = word << 6 | first(bits)
        taken.bits = without_first(bits)
        if unlikely((pending[0] | mask[0]) >> (port & 63) & 1) and not _still_wanted(d, port):
            bits = taken.bits
            continue
        if unlikely(_call(d, port)):
            return -1
        bits = taken.bits
    return 0


cdef inline int _call(domain_t *d, uint32_t port) noexcept nogil:
    cdef entry_t *entry = &d.receiver.entries[port]
    d.receiver.next = (port + 1) & (NR_PORTS - 1)
    entry.delivered += 1
    return handle(d, entry, port)


cdef int _words(domain_t *d, taken_t *taken, uint64_t words) noexcept nogil:
    """The words from the lowest on."""
    while words:
        words = _take_sparse(d, taken, words)
        if taken.count:
            if unlikely(_deliver(d, taken, &words)):
                return -1
        elif unlikely(_one_word(d, taken, first(words), <uint64_t>EVERY_BIT)):
            return -1
        else:
            words = without_first(words)
    return 0


cdef uint64_t _take_sparse(domain_t *d, taken_t *taken, uint64_t words) noexcept nogil:
    """Take the events of words up to the first with more than three; which words are left. No branch for each port."""
    cdef uint64_t bits, second, third
    cdef uint32_t word, count = 0
    while words:
        word = first(words)
        bits = d.shared.evtchn_pending[word] & ~d.shared.evtchn_mask[word]
        second = without_first(bits)
        third = without_first(second)
        if without_first(third):
            break
        words = without_first(words)
        clear(&d.shared.evtchn_pending[word], bits)
        word <<= 6
        taken.ports[count] = word | (first(bits) if bits else <uint32_t>TAKEN_NOTHING)
        taken.ports[count + 1] = word | (first(second) & 63)
        taken.ports[count + 2] = word | (first(third) & 63)
        count += 1 + (second != 0) + (third != 0)
    taken.at, taken.count = 0, count
    return words


cdef int _deliver(domain_t *d, taken_t *taken, uint64_t *words) noexcept nogil:
    """The list; where it ends early, `words` gets back those that are left of it."""
    cdef uint32_t i = 0, port
    cdef uint64_t pending, mask
    while i < taken.count:
        port = taken.ports[i]
        pending = d.shared.evtchn_pending[port >> 6 & 63]
        mask = d.shared.evtchn_mask[port >> 6 & 63]
        if unlikely((pending & ~mask) | (mask >> (port & 63) & 1) | (port >> 30)):
            if _arrived(taken, i) and pending & ~mask:
                words[0] |= _end_list(d, taken)
                return 0
            if port >> 30 or ((pending | mask) >> (port & 63) & 1 and not _still_wanted(d, port)):
                i += 1
                taken.at = i
                continue
        i += 1
        taken.at = i
        if unlikely(_call(d, port)):
            return -1
    taken.count = 0
    return 0


cdef bint _arrived(const taken_t *taken, uint32_t i) noexcept nogil:
    """Whether the list comes to another word here."""
    return i == 0 or (taken.ports[i] ^ taken.ports[i - 1]) >> 6 & 63


cdef uint64_t _end_list(domain_t *d, taken_t *taken) noexcept nogil:
    """What is left of the list is pending again; which words it is in."""
    cdef uint64_t words = 0
    cdef uint32_t i, port
    for i in range(taken.at, taken.count):
        port = taken.ports[i]
        words |= <uint64_t>1 << (port >> 6 & 63)
        if not port >> 30:
            _return(d, port)
    taken.at = taken.count = 0
    return words


cdef void _give_back(domain_t *d, taken_t *taken) noexcept nogil:
    """Everything that was taken and not delivered is pending again; its words' selector bits are the caller's."""
    cdef uint64_t bits = taken.bits
    while bits:
        _return(d, taken.word << 6 | first(bits))
        bits = without_first(bits)
    _end_list(d, taken)


cdef void _return(domain_t *d, uint32_t port) noexcept nogil:
    """Where another event has come meanwhile, that stands for both."""
    cdef uint64_t bit = <uint64_t>1 << (port & 63)
    if d.shared.evtchn_pending[port >> 6] & bit:
        d.receiver.entries[port].delivered += 1
    else:
        set(&d.shared.evtchn_pending[port >> 6], bit)


cdef bint _still_wanted(domain_t *d, uint32_t port) noexcept nogil:
    """Of a port about to be delivered that has become masked or pending: whether it is to be called now."""
    cdef uint64_t bit = <uint64_t>1 << (port & 63)
    if d.shared.evtchn_mask[port >> 6] & bit:
        _return(d, port)
        return False
    if d.shared.evtchn_pending[port >> 6] & bit:
        clear(&d.shared.evtchn_pending[port >> 6], bit)
        d.receiver.entries[port].delivered += 1
    return True
