# cython: language_level=3
"""What always holds between two hypercalls, whatever a guest asks for: for fuzzers and debugging.

Rules:
* Only what is cheap: it is asked after every call. References are recounted by tests, from outside (tests/recount.py).
* Nothing is repaired, and nothing but hv's own state is read.
"""
from libc.stdint cimport uint32_t, uint64_t
from xen_abi cimport (EVTCHNSTAT_closed, EVTCHNSTAT_interdomain, EVTCHNSTAT_ipi, EVTCHNSTAT_virq, RUNSTATE_offline,
                      RUNSTATE_running)
from hv.fastpath.state cimport (FRAME_VALIDATED, PAUSE_BLOCKED, PAUSE_DOWN, TYPE_L4, TYPE_SEGDESC, TYPE_WRITABLE, domain_t,
                                frame_t, port_t, vcpu_t)


cdef const char *broken_invariant(domain_t *d) noexcept nogil:
    cdef const char *reason = NULL
    cdef uint32_t i
    if d.in_multicall:
        return b"a multicall has not ended"
    if d.nr_vcpus < 64 and d.polling >> d.nr_vcpus:
        return b"a vCPU polls that does not exist"
    for i in range(d.nr_vcpus):
        reason = _vcpu(&d.vcpus[i])
        if reason != NULL:
            return reason
    for i in range(1, d.nr_ports):
        reason = _port(d, i)
        if reason != NULL:
            return reason
    return NULL


cdef bint _holds(domain_t *d, uint64_t mfn, int type) noexcept nogil:
    """Whether a frame that hv has taken as `type` is still that."""
    cdef frame_t *f = &d.machine.frames[mfn]
    return mfn < d.machine.nr_frames and f.owner == d.domid + 1 and f.type == type and f.type_count and f.flags & FRAME_VALIDATED


cdef const char *_vcpu(vcpu_t *v) noexcept nogil:
    cdef domain_t *d = v.domain
    cdef int i
    if v.pause & ~<uint32_t>(PAUSE_DOWN | PAUSE_BLOCKED):
        return b"a vCPU has an unknown reason to pause"
    if d.polling >> v.id & 1 and not v.pause & PAUSE_BLOCKED:
        return b"a vCPU polls and is not blocked"
    if v.runstate.state > RUNSTATE_offline or (v.runstate.state == RUNSTATE_running) != (d.machine.on_cpu == v):
        return b"a vCPU's run state is not where the CPU is"
    if v.initialised and not _holds(d, v.kernel_root, TYPE_L4):
        return b"a vCPU's kernel page table is none"
    if v.user_root and not _holds(d, v.user_root, TYPE_L4):
        return b"a vCPU's user page table is none"
    if v.iopl > 3 or v.ldt_entries > 8192 or v.gdt_entries > 14 * 512 or v.io_ports > 65536:
        return b"a vCPU's limits are out of range"
    for i in range(14):
        if v.gdt_frames[i] and not _holds(d, v.gdt_frames[i], TYPE_SEGDESC):
            return b"a frame of a GDT holds no descriptors"
    for i in range(16):
        if v.ldt_frames[i] and not _holds(d, v.ldt_frames[i], TYPE_SEGDESC):
            return b"a frame of an LDT holds no descriptors"
    if v.info_mfn and not _holds(d, v.info_mfn, TYPE_WRITABLE):
        return b"a registered vcpu_info is not the guest's writable page"
    for i in range(32):
        if v.virq_port[i] and (v.virq_port[i] >= d.nr_ports or d.ports[v.virq_port[i]].state != EVTCHNSTAT_virq
                               or d.ports[v.virq_port[i]].detail != i):
            return b"a VIRQ is bound to a port that knows nothing of it"
    return NULL


cdef const char *_port(domain_t *d, uint32_t port) noexcept nogil:
    cdef port_t *p = &d.ports[port]
    if p.state == EVTCHNSTAT_closed:
        if port < d.first_closed:
            return b"a closed port lies below the first one"
        return NULL
    if p.state > EVTCHNSTAT_ipi or p.vcpu >= d.nr_vcpus or port > d.max_port:
        return b"a port is out of range"
    if p.state == EVTCHNSTAT_interdomain:
        if p.remote == NULL or p.remote_port >= p.remote.nr_ports:
            return b"an interdomain port has no other end"
        if p.remote.ports[p.remote_port].remote != d or p.remote.ports[p.remote_port].remote_port != port:
            return b"an interdomain port's other end is another's"
    return NULL
