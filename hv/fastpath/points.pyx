# cython: language_level=3, overflowcheck=False
"""The debugger's breakpoints: which there are, and what has hit them. The guest's own are in breakpoints.pyx.

Rules:
* A domain has a table of rows; the kinds in it are bits of `observed`, which is 0 in a domain that nobody looks at.
* A hit is noted where it happens; the machine stops at the next instruction boundary, where stopping changes nothing.
* Conditions are Python's business: it looks at the hits, and goes on where none of them holds.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset
from xen_abi cimport __HYPERVISOR_multicall, xen_multicall_entry
from hv.fastpath.breakpoints cimport LONGEST_BLOCK
from hv.fastpath.memory cimport ACCESS_FETCH, ACCESS_WRITE, copy_from_guest
from hv.fastpath.state cimport *

cdef enum:
    MOST_ELEMENTS = 4096         # of a multicall, as many as one part of it makes


cdef void stop_soon(machine_t *m) noexcept nogil:
    """No budget: the next block is looked at closer."""
    m.limit -= <uint64_t>m.budget.left
    m.budget.left = 0


cdef void forget_points(domain_t *d) noexcept nogil:
    free(d.points)
    d.points = NULL
    d.nr_points = 0
    d.observed &= ~<uint32_t>OBSERVED_POINTS


cdef hit_t *_note(machine_t *m, const point_t *p, uint32_t kind, uint32_t domid, uint32_t vcpu) noexcept nogil:
    """A new hit, with nothing in it; one for which there is no memory goes where nobody looks."""
    cdef hit_t *hit
    cdef hit_t *grown
    if m.nr_hits == m.hit_room:
        grown = <hit_t *>realloc(m.hits, (2 * m.hit_room + 16) * sizeof(hit_t))
        if grown == NULL:
            return &m.lost_hit
        m.hits = grown
        m.hit_room = 2 * m.hit_room + 16
    hit = &m.hits[m.nr_hits]
    m.nr_hits += 1
    memset(hit, 0, sizeof(hit_t))
    hit.id, hit.kind, hit.domid, hit.vcpu = p.id, kind, domid, vcpu
    stop_soon(m)
    return hit


cdef void note_nothing(machine_t *m) noexcept nogil:
    """A hit of nobody's: the machine stops for what its host side has noted itself."""
    cdef point_t nobody
    memset(&nobody, 0, sizeof(nobody))
    _note(m, &nobody, POINT_ADDRESS, 0, 0)


# --- addresses ----------------------------------------------------------------------------------------------------

cdef bint stops_ahead(const domain_t *d, uint64_t va) noexcept nogil:
    cdef uint32_t i
    for i in range(d.nr_points):
        if d.points[i].kinds & POINT_ADDRESS and d.points[i].first - va < LONGEST_BLOCK:
            return True
    return False


cdef bint note_address(vcpu_t *v, uint64_t va) noexcept nogil:
    """Whether the instruction at `va`, which is about to run, has a breakpoint; noted."""
    cdef domain_t *d = v.domain
    cdef uint32_t i
    cdef bint found = False
    for i in range(d.nr_points):
        if d.points[i].kinds & POINT_ADDRESS and d.points[i].first == va:
            _note(d.machine, &d.points[i], POINT_ADDRESS, d.domid, v.id).words[0] = va
            found = True
    return found


# --- data ---------------------------------------------------------------------------------------------------------

cdef bint points_in_page(const domain_t *d, uint64_t va) noexcept nogil:
    cdef uint64_t start = va & ~<uint64_t>(PAGE_SIZE - 1)
    cdef uint32_t i
    for i in range(d.nr_points):
        if (d.points[i].kinds & (POINT_READ | POINT_WRITE) and d.points[i].first <= start + (PAGE_SIZE - 1)
                and d.points[i].last >= start):
            return True
    return False


cdef bint note_access(vcpu_t *v, uint64_t va, uint64_t size, int access, uint64_t rip, bint look) noexcept nogil:
    """Whether the guest's access touches a watched range; noted, unless this is only a look."""
    cdef domain_t *d = v.domain
    cdef uint32_t i, wanted = POINT_WRITE if access == ACCESS_WRITE else POINT_READ
    cdef hit_t *hit
    cdef bint found = False
    if access == ACCESS_FETCH:
        return False
    for i in range(d.nr_points):
        if not d.points[i].kinds & wanted or va > d.points[i].last or va + (size - 1) < d.points[i].first:
            continue
        found = True
        if look:
            continue
        hit = &d.machine.hits[d.machine.nr_hits - 1] if d.machine.nr_hits else NULL
        if hit == NULL or hit.id != d.points[i].id or hit.vcpu != v.id or hit.words[2] != rip:
            hit = _note(d.machine, &d.points[i], wanted, d.domid, v.id)
            hit.words[0], hit.words[1], hit.words[2] = va, size, rip
        elif wanted == POINT_WRITE:             # it reads first, and then writes: one access
            hit.kind = wanted
    return found


# --- hypercalls ---------------------------------------------------------------------------------------------------

cdef bint note_call(vcpu_t *v, uint64_t number, uint64_t element, const uint64_t *args) noexcept nogil:
    """Whether a hypercall that is about to be made, or an element of a multicall, has a breakpoint; noted."""
    cdef domain_t *d = v.domain
    cdef hit_t *hit
    cdef xen_multicall_entry entry
    cdef uint32_t i, j
    cdef bint found = False
    for i in range(d.nr_points):
        if d.points[i].kinds & POINT_CALL and d.points[i].first <= number <= d.points[i].last:
            hit = _note(d.machine, &d.points[i], POINT_CALL, d.domid, v.id)
            hit.words[0], hit.words[1] = number, element
            for j in range(6):
                hit.words[2 + j] = args[j]
            found = True
    if number != __HYPERVISOR_multicall or element:
        return found
    for i in range(min(<uint32_t>args[1], <uint32_t>MOST_ELEMENTS)):
        if copy_from_guest(v, &entry, args[0] + i * sizeof(entry), sizeof(entry)):
            break
        found |= note_call(v, entry.op, i + 1, <const uint64_t *>entry.args)
    return found


cdef void note_return(vcpu_t *v, uint64_t number, const uint64_t *args, int64_t result) noexcept nogil:
    """A hypercall has its result."""
    cdef domain_t *d = v.domain
    cdef hit_t *hit
    cdef uint32_t i, j
    for i in range(d.nr_points):
        if d.points[i].kinds & POINT_RETURN and d.points[i].first <= number <= d.points[i].last:
            hit = _note(d.machine, &d.points[i], POINT_RETURN, d.domid, v.id)
            hit.words[0], hit.words[1] = number, <uint64_t>result
            for j in range(6):
                hit.words[2 + j] = args[j]


# --- events and exceptions ----------------------------------------------------------------------------------------

cdef void note_event(domain_t *d, uint32_t port) noexcept nogil:
    """A port became pending."""
    cdef uint32_t i
    for i in range(d.nr_points):
        if d.points[i].kinds & POINT_EVENT and d.points[i].first <= port <= d.points[i].last:
            _note(d.machine, &d.points[i], POINT_EVENT, d.domid, d.ports[port].vcpu).words[0] = port


cdef bint _concerns(domain_t *d, const point_t *p, uint32_t vector) noexcept nogil:
    """An entry by ENTRY_UPCALL concerns a port that is pending and not masked, or with first == 0 anybody."""
    if vector != ENTRY_UPCALL:
        return p.kinds & POINT_VECTOR and p.first <= vector <= p.last
    if not p.kinds & POINT_UPCALL:
        return False
    return p.first == 0 or (p.first < d.nr_ports and d.ports[p.first].state != 0
                            and d.port_ops.is_pending(d, <uint32_t>p.first)
                            and not d.port_ops.is_masked(d, <uint32_t>p.first))


cdef void note_entry(vcpu_t *v, uint32_t vector, uint32_t error, uint64_t address, bint software, uint64_t rip) noexcept nogil:
    """An exception, `int n` or upcall (ENTRY_UPCALL) is about to enter the guest, which was at `rip`."""
    cdef domain_t *d = v.domain
    cdef hit_t *hit
    cdef uint32_t i
    for i in range(d.nr_points):
        if _concerns(d, &d.points[i], vector):
            hit = _note(d.machine, &d.points[i], POINT_UPCALL if vector == ENTRY_UPCALL else POINT_VECTOR, d.domid, v.id)
            hit.words[0], hit.words[1], hit.words[2] = vector, error, address
            hit.words[3], hit.words[4] = software, rip
