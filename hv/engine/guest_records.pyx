# cython: language_level=3
"""A domain as crash reports, the debugger and fuzzers look at it."""
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc
from hv.engine.cpu cimport forget_code
from hv.engine.guest_life cimport GuestLife
from hv.engine.hypercall cimport PREEMPTED
from hv.fastpath.invariants cimport broken_invariant
from hv.fastpath.now cimport TICKS_PER_NS
from hv.fastpath.points cimport forget_points
from hv.fastpath.state cimport *

from hv.errors import EngineError


cdef class GuestRecords(GuestLife):
    """What has happened in it lately, and the debugger's breakpoints."""

    def last_calls(self):
        """The latest hypercalls, oldest first: (ns, vcpu, number, four registers, result, in a multicall) of each.

        An iret is not among them. A call that is made again in parts is there once for each part, with None for the
        result of all but the last.
        """
        cdef domain_t *d = self._live()
        cdef uint64_t i, kept = min(d.nr_calls, <uint64_t>HISTORY)
        cdef call_record_t *r
        calls = []
        for i in range(d.nr_calls - kept, d.nr_calls):
            r = &d.calls[i & (HISTORY - 1)]
            calls.append((r.ticks // TICKS_PER_NS, r.vcpu, r.number, (r.args[0], r.args[1], r.args[2], r.args[3]),
                          r.result if r.result != PREEMPTED else None, bool(r.in_multicall)))
        return calls

    def last_entries(self):
        """The latest exceptions and upcalls, oldest first: (ns, vcpu, vector or None for an upcall, error code, address
        of a page fault, rip, made by `int n`, in guest kernel mode) of each."""
        cdef domain_t *d = self._live()
        cdef uint64_t i, kept = min(d.nr_entries, <uint64_t>HISTORY)
        cdef entry_record_t *r
        entries = []
        for i in range(d.nr_entries - kept, d.nr_entries):
            r = &d.entries[i & (HISTORY - 1)]
            entries.append((r.ticks // TICKS_PER_NS, r.vcpu, r.vector if r.vector != ENTRY_UPCALL else None, r.error,
                            r.address, r.rip, bool(r.software), bool(r.kernel_mode)))
        return entries

    def last_events(self):
        """The latest events of its ports, oldest first: (ns, vcpu that the port notified, port) of each."""
        cdef domain_t *d = self._live()
        cdef uint64_t i, kept = min(d.nr_events, <uint64_t>HISTORY)
        cdef event_record_t *r
        events = []
        for i in range(d.nr_events - kept, d.nr_events):
            r = &d.events[i & (HISTORY - 1)]
            events.append((r.ticks // TICKS_PER_NS, r.vcpu, r.port))
        return events

    def broken_invariant(self):
        """What of hv's own state contradicts itself, in words; None is as it should be. Cheap: for fuzzers."""
        cdef const char *reason = broken_invariant(self._live())
        return reason.decode() if reason != NULL else None

    @property
    def hypercall_counts(self):
        """How often each hypercall number was made."""
        cdef domain_t *d = self._live()
        return {i: d.hypercall_count[i] for i in range(64) if d.hypercall_count[i]}

    def set_points(self, rows):
        """The debugger's breakpoints, all of them: (id, kinds, first, last) of each, `kinds` as bits of POINTS.

        They are ranges of addresses, hypercall numbers, ports (an upcall's 0: any) or vectors. Not while guests run.
        """
        cdef domain_t *d = self._live()
        cdef uint16_t before = d.observed
        cdef uint32_t i = 0
        cdef point_t *p
        if d.inside:
            raise EngineError("breakpoints can be changed only while the machine stands still")
        rows = list(rows)
        forget_points(d)
        p = <point_t *>calloc(len(rows) or 1, sizeof(point_t))
        if p == NULL:
            raise MemoryError
        for i, (number, kinds, first, last) in enumerate(rows):
            p[i].id, p[i].kinds, p[i].first, p[i].last = number, kinds, first, last
            d.observed |= p[i].kinds
        d.points, d.nr_points = p, len(rows)
        if (before | d.observed) & POINT_ADDRESS:
            forget_code(d)
        if (before | d.observed) & (POINT_READ | POINT_WRITE):
            request_flush(d)
