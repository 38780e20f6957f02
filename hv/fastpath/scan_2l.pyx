# cython: language_level=3, overflowcheck=False
"""One look at the events of the 2-level ABI: find what is pending and not masked, and call the handlers.

Rules:
* Order and fairness are those of Linux's loop: a scan begins behind the port that was delivered last, goes round, and
  looks at the word in which it began once more at its end. What handlers send, mask and unmask meanwhile is met at the
  same moment as there.
* A word is read once, when the loop comes to it, and one locked operation takes all its events. They are not pending
  from then on, and stand in `taken_t` until they are delivered.
* Whatever a handler does that concerns a scan sets the upcall flag: an event that becomes visible, a port that is masked
  or closed, a scan inside of this one. As long as the flag is clear nothing has changed. Once it is set, each port is
  looked at before it is called: if it has been masked, its event is pending again; if another event came, it is merged.

Words with few ports are taken together, into a list, which is then delivered: the branches of a loop for each word would
be guessed wrong half of the time. Once the flag is set there are no lists, only words in Linux's order.

Behaviour: Linux 6.1, drivers/xen/events/events_2l.c.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from hv.fastpath.bits cimport any_bit, bits_from, clear, exchange, first, set, unlikely, without_first
from hv.fastpath.state cimport TAKEN_REMOVED, entry_t, receiver_t, taken_t
from hv.fastpath.trace cimport handle

cdef enum:
    NR_PORTS = 4096


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
    cdef uint8_t *flag = &d.vcpus[0].info.evtchn_upcall_pending
    cdef uint64_t *pending = &d.shared.evtchn_pending[word]
    cdef uint64_t bits = pending[0] & ~d.shared.evtchn_mask[word] & within
    cdef uint64_t base = word << 6, port
    cdef bint traced = d.machine.trace != NULL
    if bits == 0:
        return 0
    clear(pending, bits)
    taken.word, taken.bits = <uint32_t>word, bits
    while bits:
        port = base | first(bits)
        if unlikely(flag[0]):
            bits &= taken.bits                  # without what has been closed
            if not bits >> (port & 63) & 1:
                continue
            if not _still_wanted(d, <uint32_t>port):
                bits = without_first(bits)
                continue
        bits = without_first(bits)
        if unlikely(_call(d, r, entries, port, traced)):
            taken.bits &= bits
            return -1
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
        rc = _one_word(d, first(words), bits_from(0))
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
    cdef uint64_t above = bits_from(word) ^ beginning
    if words & beginning and _one_word(d, word, bits_from(begin & 63)):
        return -1
    if words & above and _words(d, words & above):
        return -1
    if words & ~above & ~beginning and _words(d, words & ~above & ~beginning):
        return -1
    return _one_word(d, word, bits_from(0)) if words & beginning else 0


cdef int _words(domain_t *d, uint64_t words) noexcept nogil:
    """The words from the lowest on."""
    cdef taken_t *taken = d.receiver.taken
    cdef uint8_t *flag = &d.vcpus[0].info.evtchn_upcall_pending
    cdef uint64_t listed
    while words:
        listed = words
        if not flag[0]:
            words = _take_sparse(d, taken, words)
        listed ^= words
        if taken.count and unlikely(_deliver(d, taken, &listed)):
            return -1
        if unlikely(flag[0]):
            words |= listed                     # what is left of the list
        if words:
            if unlikely(_one_word(d, first(words), bits_from(0))):
                return -1
            words = without_first(words)
    return 0


cdef inline uint64_t _take_sparse(domain_t *d, taken_t *taken, uint64_t words) noexcept nogil:
    """Take the events of words up to the first with more than five; which words are left. No branch for most ports."""
    cdef uint64_t *pending = d.shared.evtchn_pending
    cdef uint64_t *mask = d.shared.evtchn_mask
    cdef uint64_t bits, second, third, more, word, count = 0
    cdef uint32_t base
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
        taken.ports[count] = base | first(bits)
        taken.ports[count + 1] = base | first(second)
        taken.ports[count + 2] = base | first(third)
        count += any_bit(bits) + any_bit(second) + any_bit(third)
        while unlikely(more):
            taken.ports[count] = base | first(more)
            count += 1
            more = without_first(more)
    taken.at, taken.count = 0, <uint32_t>count
    return words


cdef inline int _deliver(domain_t *d, taken_t *taken, uint64_t *words) noexcept nogil:
    """The list of what was found in `words`. If the flag is set at its end, they are those that are to be looked at."""
    cdef receiver_t *r = d.receiver
    cdef entry_t *entries = r.entries
    cdef uint8_t *flag = &d.vcpus[0].info.evtchn_upcall_pending
    cdef uint64_t i, count = taken.count
    cdef uint32_t port = 0
    cdef bint traced = d.machine.trace != NULL
    for i in range(count):
        port = taken.ports[i]
        if unlikely(flag[0]):
            if i == 0 or (port ^ taken.ports[i - 1]) >> 6 & 63:    # Linux would read this word only now
                words[0] &= bits_from(port >> 6 & 63)
                _end_list(d, taken)
                return 0
            if port & <uint32_t>TAKEN_REMOVED or not _still_wanted(d, port):
                taken.at = <uint32_t>i + 1
                continue
        taken.at = <uint32_t>i + 1
        if unlikely(_call(d, r, entries, port, traced)):
            return -1
    words[0] &= bits_from(port >> 6 & 63)
    words[0] = without_first(words[0])
    taken.count = 0
    return 0


cdef void _end_list(domain_t *d, taken_t *taken) noexcept nogil:
    """What is left of the list is pending again."""
    cdef uint32_t i
    for i in range(taken.at, taken.count):
        if not taken.ports[i] & <uint32_t>TAKEN_REMOVED:
            _return(d, taken.ports[i])
    taken.at = taken.count = 0


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
