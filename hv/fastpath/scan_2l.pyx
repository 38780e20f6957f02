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


cdef inline int _call(domain_t *d, receiver_t *r, entry_t *entries, uint64_t port, bint traced) noexcept nogil:
    r.last = <uint32_t>port
    entries[port].delivered += 1
    if unlikely(traced):
        return handle(d, &entries[port], <uint32_t>port)
    return entries[port].call(&entries[port], <uint32_t>port)


cdef inline int _one_word(domain_t *d, uint64_t word, uint64_t within) noexcept nogil:
    """Take the events of a word, and deliver them one by one."""
    cdef receiver_t *r = d.receiver
    cdef taken_t *taken = r.taken
    cdef entry_t *entries = r.entries
    cdef uint64_t *pending = &d.shared.evtchn_pending[word]
    cdef uint64_t *mask = &d.shared.evtchn_mask[word]
    cdef uint64_t bits = pending[0] & ~mask[0] & within
    cdef uint64_t all = bits, base = word << 6, port
    cdef bint traced = d.machine.trace != NULL
    if bits == 0:
        return 0
    clear(pending, bits)
    taken.word, taken.bits = <uint32_t>word, bits
    while bits:
        port = base | first(bits)
        bits = without_first(bits)
        if unlikely((pending[0] | mask[0]) & all) and not _still_wanted(d, <uint32_t>port):
            continue
        if unlikely(_call(d, r, entries, port, traced)):
            taken.bits &= bits
            return -1
        if unlikely(taken.bits != all):         # the handler closed a port
            bits &= taken.bits
            all = taken.bits
    taken.bits = 0
    return 0


cdef int scan_2l(domain_t *d) noexcept nogil:
    """0, or -1: a handler raised, and everything that is left waits for the next scan."""
    cdef uint64_t words = exchange(&d.vcpus[0].info.evtchn_pending_sel, 0)
    cdef uint32_t begin = (d.receiver.last + 1) & (NR_PORTS - 1)
    cdef int rc
    if words == 0:
        return 0
    if without_first(words) == 0 and first(words) != begin >> 6:
        rc = _one_word(d, first(words), <uint64_t>EVERY_BIT)
    else:
        rc = _round(d, words, begin)
    if unlikely(rc != 0):
        _give_back(d)
        set(&d.vcpus[0].info.evtchn_pending_sel, words)
        d.vcpus[0].info.evtchn_upcall_pending = 1
    return rc


cdef int _round(domain_t *d, uint64_t words, uint32_t begin) noexcept nogil:
    """From a port upwards, then from the lowest on, up to that port's whole word."""
    cdef uint32_t word = begin >> 6
    cdef uint64_t beginning = <uint64_t>1 << word
    cdef uint64_t above = <uint64_t>EVERY_BIT << word ^ beginning
    if words & beginning and _one_word(d, word, <uint64_t>EVERY_BIT << (begin & 63)):
        return -1
    if words & above and _words(d, words & above):
        return -1
    if words & ~above & ~beginning and _words(d, words & ~above & ~beginning):
        return -1
    return _one_word(d, word, <uint64_t>EVERY_BIT) if words & beginning else 0


cdef int _words(domain_t *d, uint64_t words) noexcept nogil:
    """The words from the lowest on."""
    cdef taken_t *taken = d.receiver.taken
    while words:
        words = _take_sparse(d, taken, words)
        if taken.count:
            if unlikely(_deliver(d, taken, &words)):
                return -1
        elif unlikely(_one_word(d, first(words), <uint64_t>EVERY_BIT)):
            return -1
        else:
            words = without_first(words)
    return 0


cdef uint64_t _take_sparse(domain_t *d, taken_t *taken, uint64_t words) noexcept nogil:
    """Take the events of words up to the first with more than five; which words are left. No branch for most ports."""
    cdef uint64_t *pending = d.shared.evtchn_pending
    cdef uint64_t *mask = d.shared.evtchn_mask
    cdef uint64_t bits, second, third, more, word
    cdef uint32_t count = 0, base
    while words:
        word = first(words)
        bits = pending[word] & ~mask[word]
        second = without_first(bits)
        third = without_first(second)
        more = without_first(third)
        if unlikely(more) and without_first(without_first(more)):
            break
        words = without_first(words)
        clear(&pending[word], bits)
        base = <uint32_t>word << 6
        taken.ports[count] = base | (first(bits) if bits else <uint32_t>TAKEN_NOTHING)
        taken.ports[count + 1] = base | (first(second) & 63)
        taken.ports[count + 2] = base | (first(third) & 63)
        count += 1 + (second != 0) + (third != 0)
        while unlikely(more):
            taken.ports[count] = base | first(more)
            count += 1
            more = without_first(more)
    taken.at, taken.count = 0, count
    return words


cdef int _deliver(domain_t *d, taken_t *taken, uint64_t *words) noexcept nogil:
    """The list; where it ends early, `words` gets back those that are left of it."""
    cdef receiver_t *r = d.receiver
    cdef entry_t *entries = r.entries
    cdef uint64_t *pendings = d.shared.evtchn_pending
    cdef uint64_t *masks = d.shared.evtchn_mask
    cdef uint32_t count = taken.count, i, port
    cdef bint traced = d.machine.trace != NULL
    cdef uint64_t pending, mask
    for i in range(count):
        port = taken.ports[i]
        pending = pendings[port >> 6 & 63]
        mask = masks[port >> 6 & 63]
        if unlikely((pending & ~mask) | (mask >> (port & 63) & 1) | (port >> 30)):
            if _arrived(taken, i) and pending & ~mask:
                words[0] |= _end_list(d, taken)
                return 0
            if port >> 30 or ((pending | mask) >> (port & 63) & 1 and not _still_wanted(d, port)):
                taken.at = i + 1
                continue
        taken.at = i + 1
        if unlikely(_call(d, r, entries, port, traced)):
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


cdef void _give_back(domain_t *d) noexcept nogil:
    """Everything that was taken and not delivered is pending again; its words' selector bits are the caller's."""
    cdef taken_t *taken = d.receiver.taken
    cdef uint64_t bits = taken.bits
    taken.bits = 0
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
    """Of a port about to be delivered, which may have become masked or pending: whether it is to be called now."""
    cdef uint64_t bit = <uint64_t>1 << (port & 63)
    if d.shared.evtchn_mask[port >> 6] & bit:
        _return(d, port)
        return False
    if d.shared.evtchn_pending[port >> 6] & bit:
        clear(&d.shared.evtchn_pending[port >> 6], bit)
        d.receiver.entries[port].delivered += 1
    return True
