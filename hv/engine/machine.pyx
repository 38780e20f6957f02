# cython: language_level=3
"""The engine as Python sees it: machine memory, domains, vCPUs, and the run loop.

Rules:
* `Engine.run` is the only way into guest code; it comes back with a reason and never with a guest half-stopped.
* The first exception of a Python handler stops the run and is raised by `run`.
* Frames are handed out and taken back only through hv.fastpath; views of guest memory are bounds-checked slices.
"""
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset
from xen_abi cimport *
from hv.engine.clock cimport (DEFAULT_WEIGHT, FIRST_PERIOD, block, fire_timers, idle, next_runnable, in_its_slice, rearm, slice_ticks,
                              switch_to)
from hv.engine.cpu cimport (close_instance, enter, flush_tlb, flush_wanted, forget_code, get_flags, handlers, load_context, open_instance,
                            save_context, set_flags)
from hv.engine.cpuid cimport guest_cpuid
from hv.engine.emulate cimport guest_cr4
from hv.engine.exceptions cimport on_exception
from hv.engine.hypercall cimport PREEMPTED, on_syscall
from hv.engine.traps cimport deliver_events, flat_segments, load_ldt, reload_segments, set_flat_segments
from hv.engine.unicorn cimport *
from hv.fastpath.breakpoints cimport arm, set_debug_register
from hv.fastpath.domain cimport crash, fix_shutdown_code, shutdown
from hv.fastpath.evtchn cimport (PORTS_A_BUCKET, close_port, free_port, is_usable, raise_virq, send, set_pending,
                                 set_priority, unmask)
from hv.fastpath.evtchn_2l cimport ops_2l
from hv.fastpath.evtchn_fifo cimport expand_array, init_control, leave_fifo
from hv.fastpath.frames cimport (forget_frame, free_frame, give_extent, give_frame, give_xenheap_frame, release_page,
                                 take_frame)
from hv.fastpath.grant_copy cimport host_copy
from hv.fastpath.grant_table cimport free_table, grow, new_table, nr_entries, set_version
from hv.fastpath.grants cimport find_domain, host_map, host_unmap, release_foreign, release_mappings
from hv.fastpath.handlers cimport Handler, PythonHandler, attach
from hv.fastpath.invariants cimport broken_invariant
from hv.fastpath.memory cimport (HV_END, ACCESS_LOOK, WALK_OK, active_root, canonical, copy_from_guest, copy_to_guest,
                                 frame_pointer, frame_written, owns, walk, walk_t)
from hv.fastpath.now cimport TICKS_PER_NS, host_ns, system_time, ticks, ticks_of
from hv.fastpath.points cimport forget_points, note_nothing
from hv.fastpath.paging cimport get_page_and_type, pin, put_page_and_type, write_descriptor
from hv.fastpath.receiver cimport close_receiver, detach, open_receiver, receive
from hv.fastpath.state cimport *
from hv.fastpath.trace cimport TRACE_DESTROY, trace_attach, trace_detach, trace_end, trace_flush, trace_note
from hv.fastpath.vcpu cimport runstate_now, sleep, unblock, update_time, wake

from hv.engine.cpu import self_check, version as unicorn_version
from hv.errors import EngineError

cdef extern from "sys/mman.h" nogil:
    void *c_mmap "mmap"(void *, size_t, int, int, int, long)
    int c_munmap "munmap"(void *, size_t)
    int madvise(void *, size_t, int)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE, MADV_DONTNEED

STOPS = ("none", "reschedule", "until", "host", "domain", "python", "idle", "wait", "step", "point")
CLOCKS = ("virtual", "paced", "host")
RUNSTATES = ("running", "runnable", "blocked", "offline")
STEPS = ("count", "return", "beyond")
POINTS = ("address", "call", "return", "event", "upcall", "vector", "read", "write")
FRAME_TYPES = ("none", "l1", "l2", "l3", "l4", "segdesc", "writable")
REGISTERS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")
cdef enum:
    FIRST_FRAME = 256            # the first MiB is I/O memory on a PC: nobody's
    SMALLEST = 512               # frames: hv's own, and nearly nothing else

cdef extern from * nogil:
    """
    #define HV_NEVER 0xffffffffffffffffULL
    /* A hint only: machine memory must not lie between the libraries and Unicorn's translated code, because calls from
     * that code to helpers are direct only within 2 GiB. */
    #define FAR_AWAY 0x200000000000ULL
    """
    const uint64_t HV_NEVER
    const uintptr_t FAR_AWAY


MAKE_AGAIN = PREEMPTED      #: a handler's result: the guest makes the call again with the same arguments


class GuestFault(Exception):
    """A guest's virtual address is not mapped as the access needs it; hypercalls answer -EFAULT."""


cdef uint64_t _tsc(vcpu_t *v) noexcept nogil:
    """RDTSC does not end a block: the time in its middle is computed, the charge for the whole of it stays."""
    cdef machine_t *m = v.domain.machine
    cdef hv_block *block
    if m.mode == CLOCK_HOST:
        return ticks(m)
    block = <hv_block *>m.block
    return charged(m) - (block.size - ((<hv_env *>v.domain.env).eip + block.cs_base - block.pc))


cdef class Ram:
    """Machine memory as a buffer: reserved address space that the host backs with pages as they are touched."""

    cdef uint8_t *base
    cdef size_t size

    def __cinit__(self, size_t size):
        self.base = <uint8_t *>c_mmap(<void *>FAR_AWAY, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if <uintptr_t>self.base == <uintptr_t>-1:
            self.base = NULL
            raise EngineError(f"cannot reserve {size >> 20} MiB of address space for the machine: is there an ulimit -v?")
        self.size = size

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.base, self.size, 0, flags)

    def __dealloc__(self):
        if self.base != NULL:
            c_munmap(self.base, self.size)


cdef class Engine:
    """One machine: memory, clock, domains. `memory` is the most that all domains together may have, in bytes."""

    cdef machine_t m
    cdef Ram _ram
    cdef object _error
    cdef object _trace_sink
    cdef size_t _frame_bytes
    cdef dict _domains
    cdef readonly object ram     #: memoryview of machine memory

    def __cinit__(self, uint64_t memory=32 << 30, str clock="virtual"):
        cdef uint64_t frames = memory >> PAGE_SHIFT
        memset(&self.m, 0, sizeof(self.m))
        self._domains = {}
        if frames < SMALLEST:
            raise EngineError(f"a machine needs at least {SMALLEST >> 8}M of memory: give it more")
        self._ram = Ram(frames << PAGE_SHIFT)
        self.ram = memoryview(self._ram)
        self._frame_bytes = frames * sizeof(frame_t)
        self.m.frames = <frame_t *>c_mmap(<void *>FAR_AWAY, self._frame_bytes, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if <uintptr_t>self.m.frames == <uintptr_t>-1:
            self.m.frames = NULL
            raise EngineError("cannot reserve memory for the frame table")
        self.m.ram = self._ram.base
        self.m.nr_frames = frames
        self.m.mode = CLOCKS.index(clock)
        self._lay_out()

    def __init__(self, memory=32 << 30, clock="virtual"):
        self_check()

    cdef void _lay_out(self) noexcept:
        """hv's own frames: the M2P, then the page with the flat selectors; domains' frames come behind them."""
        cdef machine_t *m = &self.m
        cdef uint64_t *gdt
        m.m2p_mfn = FIRST_FRAME
        m.m2p_frames = (m.nr_frames * 8 + PAGE_SIZE - 1) >> PAGE_SHIFT
        m.m2p = <uint64_t *>(m.ram + (m.m2p_mfn << PAGE_SHIFT))
        m.gdt_mfn = m.m2p_mfn + m.m2p_frames
        m.next_frame = (m.gdt_mfn + 512) & ~<uint64_t>511
        gdt = <uint64_t *>(m.ram + (m.gdt_mfn << PAGE_SHIFT))
        gdt[0xe023 >> 3 & 511] = 0x00cffb000000ffff      # 32-bit code, DPL 3
        gdt[0xe02b >> 3 & 511] = 0x00cff3000000ffff      # data, DPL 3
        gdt[0xe033 >> 3 & 511] = 0x00affb000000ffff      # 64-bit code, DPL 3
        m.slice_end = m.until = m.next_timer = HV_NEVER
        m.host = &m.nobody
        m.steps_left = HV_NEVER
        m.step.anybody = 1
        m.host_offset = host_ns()
        rearm(m)

    def __dealloc__(self):
        cdef uint32_t i
        self._trace_sink = None
        if self.m.trace != NULL:
            self.m.trace.used = 0
            trace_detach(&self.m)
        for i in range(self.m.nr_domains):
            _free_domain(self.m.domains[i])
        _free_zombies(&self.m)
        free(self.m.domains)
        free(self.m.hits)
        if self.m.frames != NULL:
            c_munmap(self.m.frames, self._frame_bytes)

    # --- domains

    def create_domain(self, uint32_t domid, uint32_t vcpus=1, uint64_t max_pages=0, uint32_t max_port=1023, *,
                      uint32_t max_grant_frames=64, uint32_t max_maptrack_frames=1024, uint32_t max_grant_version=2):
        """A domain without memory or code; domid 0 is hv's own side and never runs."""
        _reap(&self.m)
        if domid in self._domains:
            raise EngineError(f"domain {domid} exists already")
        if not 0 < max_port < EVTCHN_FIFO_NR_CHANNELS:
            raise EngineError(f"a domain has at most {EVTCHN_FIFO_NR_CHANNELS - 1} event channels, not {max_port}")
        if not 1 <= vcpus <= VCPU_LIMIT:
            raise EngineError(f"a domain has 1 to {VCPU_LIMIT} vCPUs, not {vcpus}")
        if not 1 <= max_grant_frames <= 4096 or not 1 <= max_grant_version <= 2 or max_maptrack_frames > 65536:
            raise EngineError("a grant table has 1 to 4096 frames, at most 65536 frames of handles, and version 1 or 2")
        domain = GuestDomain(self, domid, vcpus, max_pages, max_port)
        (<GuestDomain>domain).d.grants = new_table((<GuestDomain>domain).d, max_grant_version, max_grant_frames, max_maptrack_frames)
        if (<GuestDomain>domain).d.grants == NULL:
            self.destroy_domain(domain)
            raise MemoryError("the machine has no memory left")
        return domain

    def destroy_domain(self, GuestDomain domain):
        """Remove a domain; its frames are cleared and free again, but for those that others still map: these follow when
        they are unmapped."""
        cdef uint32_t i
        cdef domain_t *d = domain.d
        if d == NULL:
            return
        if d.inside or (d.receiver != NULL and d.receiver.taken != NULL):
            raise EngineError("a domain cannot be destroyed while it runs")
        if d.receiver != NULL:
            self.m.host = &self.m.nobody
        if self.m.on_cpu != NULL and self.m.on_cpu.domain == d:
            self.m.on_cpu = NULL
        if self.m.running == d:
            self.m.running = NULL
        if self.m.stopped != NULL and self.m.stopped.domain == d:
            self.m.stopped = NULL
        if self.m.part_of != NULL and self.m.part_of.domain == d:
            self.m.part_of = NULL
        if self.m.trace != NULL:
            trace_end(d, TRACE_DESTROY, 0, NULL)
        for i in range(self.m.nr_domains):
            if self.m.domains[i] == d:
                self.m.domains[i] = self.m.domains[self.m.nr_domains - 1]
                self.m.nr_domains -= 1
                break
        if d.grants != NULL:
            release_mappings(d)
            release_foreign(d)
            _keep_held(&self.m, d)
        _free_memory(&self.m, d)
        _free_domain(d)
        _reap(&self.m)
        domain.d = NULL
        del self._domains[domain.domid]
        self.m.turn = 0
        self.m.in_slice = 0
        rearm(&self.m)

    cdef void _add(self, GuestDomain domain) except *:
        cdef domain_t **grown
        if self.m.nr_domains == self.m.capacity:
            grown = <domain_t **>realloc(self.m.domains, (self.m.capacity + 16) * sizeof(domain_t *))
            if grown == NULL:
                raise MemoryError
            self.m.domains = grown
            self.m.capacity += 16
        self.m.domains[self.m.nr_domains] = domain.d
        if self.m.trace != NULL:
            domain.d.observed |= OBSERVED_TRACE
        self.m.nr_domains += 1
        self._domains[domain.domid] = domain

    # --- running

    def run(self, until_ns=None):
        """Run guests until something needs Python: one of STOPS. `until_ns` is virtual time."""
        cdef uint64_t limit = min(until_ns * TICKS_PER_NS, HV_NEVER - 1) if until_ns is not None else HV_NEVER
        cdef machine_t *m = &self.m
        if m.running_now:
            raise EngineError("this machine runs already: a handler must not run it again")
        _reap(m)
        m.until = limit
        m.host_poll = host_ns() + 10000000
        m.stop = STOP_NONE
        rearm(m)
        m.running_now = 1
        with nogil:
            _run(m)
        m.running_now = 0
        trace_flush(m)
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return STOPS[m.stop]

    def raised(self, error):
        """A Python handler failed: stop, and let `run` raise the first one."""
        if self._error is None:
            self._error = error
        self.m.stop = STOP_PYTHON

    def stop(self):
        """Come back from `run` as soon as the handler that calls this has returned."""
        if not self.m.stop:
            self.m.stop = STOP_PYTHON

    def set_stepping(self, bint on, steps=None):
        """Run block by block of one instruction; after `steps` of them, of whatever vCPU, `run` returns "step"."""
        self.m.stepping = on
        self.m.steps_left = steps if steps is not None else HV_NEVER
        memset(&self.m.step, 0, sizeof(step_t))
        self.m.step.anybody = 1
        rearm(&self.m)

    def step_vcpu(self, GuestDomain domain, uint32_t vcpu, steps=None, str kind="count"):
        """Run one vCPU by single instructions until `run` returns "step": after `steps` of them, if that is not None,
        or by `kind` (of STEPS) behind the "return" to a caller of the function that it is in, or "beyond": then, or in the
        same function at a higher address. The others run freely meanwhile. Until set_stepping(False)."""
        cdef vcpu_t *v = domain._vcpu(vcpu)
        cdef hv_env *env = _env(v)
        self.set_stepping(True, steps)
        self.m.step.kind = STEPS.index(kind)
        self.m.step.anybody = 0
        self.m.step.domid, self.m.step.vcpu = domain.domid, vcpu
        self.m.step.kernel_mode = v.kernel_mode
        self.m.step.sp, self.m.step.pc = env.regs[RSP], env.eip

    @property
    def step_is_done(self):
        """Whether all instructions of a counted step have run: "point" may have been the better reason to return."""
        return bool(self.m.stepping and self.m.steps_left == 0)

    def take_hits(self):
        """What has hit the domains' points since the last call, in its order: (id, kind of POINTS, domid, vcpu, words)."""
        cdef uint32_t i
        cdef hit_t *h
        hits = []
        for i in range(self.m.nr_hits):
            h = &self.m.hits[i]
            hits.append((h.id, POINTS[(<object>h.kind).bit_length() - 1], h.domid, h.vcpu, tuple(h.words)))
        self.m.nr_hits = 0
        return hits

    def stop_soon(self):
        """Let `run` return "point" at the next instruction boundary."""
        note_nothing(&self.m)

    @property
    def running(self):
        """(domid, vcpu) of who ran last, and is not gone; None before the first."""
        if self.m.running == NULL or self.m.running.current == NULL:
            return None
        return self.m.running.domid, self.m.running.current.id

    @property
    def clock(self):
        return CLOCKS[self.m.mode]

    @property
    def now_ns(self):
        """System time: ns of virtual (or host) time since the machine was made."""
        return system_time(&self.m)

    @property
    def ticks(self):
        """The clock itself, in 1/4 ns; also the guests' TSC."""
        return ticks(&self.m)

    @property
    def wake_in_ns(self):
        """After "wait": host ns until the next timer; None where none is armed."""
        if self.m.wake_at == HV_NEVER:
            return None
        return max(0, <int64_t>(self.m.wake_at // TICKS_PER_NS) - (host_ns() - self.m.host_offset))

    @property
    def host_age_ns(self):
        """ns of the host's clock since the machine was made: what system time is, or with the paced clock catches up to."""
        return host_ns() - self.m.host_offset

    # --- trace (hv/fastpath/trace.pyx)

    def attach_trace(self, sink):
        """Record what happens from now on; `sink(bytes)` gets whole records when the buffer is full and when `run` ends."""
        if self.m.trace != NULL:
            raise EngineError("a trace is attached already")
        self._trace_sink = (sink, self.raised)
        trace_attach(&self.m, <void *>self._trace_sink[0], <void *>self._trace_sink[1])

    def detach_trace(self):
        trace_detach(&self.m)
        self._trace_sink = None

    def flush_trace(self):
        """Give the sink what there is now."""
        trace_flush(&self.m)

    def note(self, uint16_t domid, bytes text, uint64_t cause=0):
        """Record what the host side did (hv/trace/notes.py has the form): the record's id, 0 without a trace.

        `cause` is the id of another record; 0 stands for what is under way.
        """
        return trace_note(&self.m, domid, cause, text, len(text)) if self.m.trace != NULL else 0

    def set_cause(self, uint64_t cause):
        """What happens from now on is the effect of that record: the one that it was before."""
        cdef uint64_t before = 0
        if self.m.trace != NULL:
            before, self.m.trace.current = self.m.trace.current, cause
        return before

    # --- memory

    @property
    def nr_frames(self):
        return self.m.nr_frames

    @property
    def m2p_mfn(self):
        """The first frame of the machine-to-physical table, which is in frames side by side."""
        return self.m.m2p_mfn

    def page(self, uint64_t mfn):
        """memoryview of one machine frame."""
        if mfn >= self.m.nr_frames:
            raise IndexError(f"no machine frame {mfn:#x}")
        return self.ram[mfn << PAGE_SHIFT:(mfn + 1) << PAGE_SHIFT]

    def written(self, uint64_t mfn):
        """The host side wrote this frame: drop translated code of it."""
        frame_written(&self.m, mfn)

    def frame(self, uint64_t mfn):
        """(owner domid or None, type, type references, references, pinned) of a frame."""
        cdef frame_t *f
        if mfn >= self.m.nr_frames:
            raise IndexError(f"no machine frame {mfn:#x}")
        f = &self.m.frames[mfn]
        return (f.owner - 1 if f.owner else None, FRAME_TYPES[f.type], f.type_count, f.count, f.flags & FRAME_PINNED != 0)

    def frame_flags(self, uint64_t mfn):
        """(its entries are validated, pinned, hv's own page, holds its domain's own reference) of a frame."""
        cdef uint8_t flags = self.m.frames[mfn].flags if mfn < self.m.nr_frames else 0
        return (flags & FRAME_VALIDATED != 0, flags & FRAME_PINNED != 0, flags & FRAME_XENHEAP != 0,
                flags & FRAME_ALLOCATED != 0)

    @property
    def frames_in_use(self):
        """The range of frames that domains may have been given."""
        return range(self.m.gdt_mfn + 1, min(self.m.next_frame + 512, self.m.nr_frames))

    @property
    def counters(self):
        """Figures about the engine itself, for tests and benchmarks."""
        return {"blocks_stepped": self.m.blocks_stepped, "tlb_flushes": self.m.tlb_flushes, "tlb_fills": self.m.tlb_fills}


cdef hv_env *_env(vcpu_t *v) noexcept nogil:
    """Its registers, in the CPU or put aside."""
    return <hv_env *>v.domain.env if v.domain.current == v else <hv_env *>v.context


cdef void _run(machine_t *m) noexcept nogil:
    cdef vcpu_t *v
    cdef bint fresh
    while m.stop == STOP_NONE or m.stop == STOP_RESCHEDULE:
        if m.stop == STOP_RESCHEDULE:
            m.in_slice = 0
        m.stop = STOP_NONE
        fire_timers(m)
        if m.stop:                              # a watchdog has ended its domain
            return
        if m.nr_hits:                           # of a call that blocks, or of a timer
            m.stop = STOP_POINT
            return
        v = in_its_slice(m)
        fresh = v == NULL
        if fresh:
            v = next_runnable(m)
            m.in_slice = v != NULL
            m.slice_end = ticks(m) + slice_ticks(v)
        switch_to(m, v)
        if v == NULL:
            if idle(m) and host_ns() >= m.host_poll:      # a chain of timers without a guest to run must not stall hv
                m.stop = STOP_HOST
            continue
        if ticks(m) >= m.until:
            m.stop = STOP_UNTIL
            return
        _resume(m, v, fresh)
        m.undelivered = _is_due(v)


cdef bint _is_due(vcpu_t *v) noexcept nogil:
    return v.info.evtchn_upcall_pending and not v.info.evtchn_upcall_mask


cdef void _resume(machine_t *m, vcpu_t *v, bint fresh) noexcept nogil:
    """Give the CPU to one vCPU until it blocks, its slice ends, or the engine has to come back.

    In the middle of a slice, what was pending and not masked when the engine came back stays so: the guest has made it
    so by itself, and hears of it at its next way through the hypervisor, wherever the host made it stop.
    """
    cdef domain_t *d = v.domain
    cdef bint switched = d.current != v or m.running != d
    cdef int rc
    if d.current != v:
        if d.current != NULL:
            save_context(d.current)
        load_context(v)
    m.running = d
    m.armed = 0
    m.block = NULL
    rearm(m)
    if switched:
        reload_segments(v)
    if switched or fresh or not m.undelivered:
        deliver_events(v)
    if d.need_flush:
        flush_wanted(d)
    if not m.stop:
        rc = enter(d)
        if rc and not d.dying:
            crash(d, b"the CPU emulator could not go on")


cdef void _keep_held(machine_t *m, domain_t *d) noexcept:
    """Frames of a dying domain that others map outlive it, with just these references; and so does its grant table."""
    cdef uint32_t i, k, n
    cdef foreign_t *f
    cdef frame_t *frame
    d.held = 0
    for i in range(m.nr_domains):
        for k in range(m.domains[i].grants.foreign_size):
            f = &m.domains[i].grants.foreign[k]
            if f.tag == 0 or m.frames[f.tag - 1].owner != d.domid + 1:
                continue
            frame = &m.frames[f.tag - 1]
            if not frame.flags & FRAME_KEPT:
                frame.count = frame.type_count = 0
                frame.flags = FRAME_KEPT | FRAME_GRANTED
            n = f.writes + f.device_writes
            frame.type_count += n
            n += f.reads + f.device_reads
            frame.count += n
            d.held += n
            if frame.type_count:
                frame.type = TYPE_WRITABLE
                frame.flags |= FRAME_VALIDATED
    if d.held:
        for i in range(d.grants.nr_frames):
            _keep(&m.frames[d.grants.mfns[i]])
        for i in range(d.grants.nr_status_frames):
            _keep(&m.frames[d.grants.status_mfns[i]])


cdef void _keep(frame_t *frame) noexcept:
    if not frame.flags & FRAME_KEPT:
        frame.count = 0
    frame.count += 1
    frame.flags |= FRAME_KEPT


cdef void _reap(machine_t *m) noexcept:
    """Let go of destroyed domains whose frames nobody holds any more."""
    cdef domain_t **link = &m.zombies
    cdef domain_t *d
    while link[0] != NULL:
        d = link[0]
        if d.held:
            link = &d.next_zombie
            continue
        link[0] = d.next_zombie
        _drop_table(m, d)
        free(d)


cdef void _drop_table(machine_t *m, domain_t *d) noexcept:
    """What of a zombie is left in the end: the frames of its grant table."""
    cdef uint32_t i
    for i in range(d.grants.nr_frames):
        free_frame(m, d.grants.mfns[i])
    for i in range(d.grants.nr_status_frames):
        free_frame(m, d.grants.status_mfns[i])
    free_table(d.grants)


cdef void _free_zombies(machine_t *m) noexcept:
    cdef domain_t *d
    while m.zombies != NULL:
        d = m.zombies
        m.zombies = d.next_zombie
        free_table(d.grants)
        free(d)


cdef void _free_memory(machine_t *m, domain_t *d) noexcept:
    """Every frame of the domain, in runs: the host takes the pages back, which also clears them."""
    cdef uint64_t mfn = m.gdt_mfn + 1, first
    cdef uint64_t end = m.next_frame + 512 if m.next_frame + 512 < m.nr_frames else m.nr_frames
    while mfn < end:
        if m.frames[mfn].owner != d.domid + 1 or m.frames[mfn].flags & FRAME_KEPT:
            mfn += 1
            continue
        first = mfn
        while mfn < end and m.frames[mfn].owner == d.domid + 1 and not m.frames[mfn].flags & FRAME_KEPT:
            forget_frame(m, mfn)
            mfn += 1
        madvise(frame_pointer(m, first), (mfn - first) << PAGE_SHIFT, MADV_DONTNEED)


cdef bint _context_is_sane(const xen_vcpu_guest_context *c) noexcept nogil:
    cdef uint32_t i
    if not (canonical(c.user_regs.rip) and canonical(c.user_regs.rsp) and canonical(c.kernel_sp)
            and canonical(c.fs_base) and canonical(c.gs_base_kernel) and canonical(c.gs_base_user)
            and canonical(c.event_callback_eip) and canonical(c.syscall_callback_eip)
            and canonical(c.failsafe_callback_eip)):
        return False
    for i in range(256):
        if not canonical(c.trap_ctxt[i].address):
            return False
    if (c.ldt_base >> 47 and c.ldt_base < HV_END) or c.ldt_base & (PAGE_SIZE - 1) or c.ldt_ents > 8192 or c.gdt_ents > 14 * 512:
        return False
    return c.flags & VGCF_in_kernel != 0 or c.ctrlreg[1] != 0


cdef void _free_domain(domain_t *d) noexcept:
    """A domain whose frames others hold stays as a zombie: a name, and a grant table."""
    close_instance(d)
    forget_points(d)
    free(d.fifo)
    free(d.ports)
    if d.receiver != NULL:
        free(d.shared)                  # a guest's is in machine memory
    close_receiver(d)
    free(d.vcpus)
    d.fifo, d.ports, d.vcpus = NULL, NULL, NULL
    d.nr_ports = d.nr_vcpus = 0
    if d.held:
        d.next_zombie = d.machine.zombies
        d.machine.zombies = d
    else:
        free_table(d.grants)
        free(d)


cdef class GuestDomain:
    """One domain's hot state: vCPUs, ports, memory. The Python side sets `handler` to serve cold hypercalls."""

    cdef domain_t *d
    cdef readonly Engine engine
    cdef readonly uint32_t domid
    cdef public object handler       #: callable(vcpu, number, a0..a5) -> result
    cdef dict _port_handlers
    cdef bytes _template

    def __cinit__(self, Engine engine, uint32_t domid, uint32_t vcpus, uint64_t max_pages, uint32_t max_port):
        cdef domain_t *d = <domain_t *>calloc(1, sizeof(domain_t))
        if d == NULL:
            raise MemoryError
        self.engine, self.domid, self.d = engine, domid, d
        self._port_handlers = {}
        d.machine = &engine.m
        d.domid = domid
        d.python = <void *>self
        d.max_pages = max_pages
        d.max_port = max_port
        d.weight = DEFAULT_WEIGHT
        d.nr_ports = PORTS_A_BUCKET
        d.first_closed = 1
        d.port_ops = &ops_2l
        d.ports = <port_t *>calloc((max_port | (PORTS_A_BUCKET - 1)) + 1, sizeof(port_t))     # touched as they are used
        d.vcpus = <vcpu_t *>calloc(vcpus, sizeof(vcpu_t))
        if d.ports == NULL or d.vcpus == NULL:
            raise MemoryError
        if domid == 0:
            self._make_host()
        else:
            self._make_guest(vcpus)
        engine._add(self)

    cdef void _make_host(self) except *:
        """Domain 0: one vCPU, which never runs, but is told of events; every port masked until it has a handler."""
        cdef domain_t *d = self.d
        d.shared = <xen_shared_info *>calloc(1, sizeof(xen_shared_info))
        if open_receiver(d) or d.shared == NULL:
            raise MemoryError
        memset(d.shared.evtchn_mask, 0xff, sizeof(d.shared.evtchn_mask))
        d.nr_vcpus = 1
        d.vcpus[0].domain = d
        d.vcpus[0].pause = PAUSE_DOWN
        d.vcpus[0].info = &d.shared.vcpu_info[0]
        d.machine.host = d.vcpus[0].info

    cdef void _make_guest(self, uint32_t vcpus) except *:
        cdef domain_t *d = self.d
        cdef uint32_t i
        cdef int rc = open_instance(d, self.engine.m.nr_frames << PAGE_SHIFT)
        if rc:
            raise EngineError(f"Unicorn cannot make an instance (error {rc}): is there enough memory?")
        self._template = (<char *>d.env)[:CONTEXT_SIZE]
        d.shared_mfn = give_xenheap_frame(d)
        if d.shared_mfn == 0:
            raise MemoryError("the machine has no memory left")
        d.shared = <xen_shared_info *>frame_pointer(d.machine, d.shared_mfn)
        d.nr_vcpus = vcpus
        for i in range(vcpus):
            d.vcpus[i].domain = d
            d.vcpus[i].id = i
            d.vcpus[i].cr4 = guest_cr4(0)
            d.vcpus[i].dr[6] = 0xffff0ff0
            d.vcpus[i].dr[7] = 0x400
            d.vcpus[i].info = &d.shared.vcpu_info[i] if i < 32 else &d.vcpus[i].own_info
            d.vcpus[i].info.evtchn_upcall_mask = 1
            d.vcpus[i].pause = PAUSE_DOWN
            d.vcpus[i].runstate.state = RUNSTATE_offline
            d.vcpus[i].period = FIRST_PERIOD
            d.vcpus[i].runstate.state_entry_time = system_time(d.machine)

    cdef domain_t *_live(self) except NULL:
        if self.d == NULL:
            raise EngineError(f"domain {self.domid} has been destroyed")
        return self.d

    cdef vcpu_t *_vcpu(self, uint32_t vcpu) except NULL:
        if vcpu >= self._live().nr_vcpus or self.d.receiver != NULL:
            raise IndexError(f"domain {self.domid} has no vCPU {vcpu}")
        return &self.d.vcpus[vcpu]

    # --- memory

    def populate(self, uint64_t pfn):
        """A new frame at guest frame `pfn`: its mfn. MemoryError where the machine is full."""
        cdef uint64_t mfn = give_frame(self._live(), pfn)
        if mfn == 0:
            raise MemoryError("the machine has no memory left")
        return mfn

    def populate_range(self, uint64_t first, uint64_t count):
        """`count` new frames from guest frame `first` on: a bytes object of their mfns (8 bytes each)."""
        cdef uint64_t i
        mfns = bytearray(count * 8)
        cdef uint64_t *out = <uint64_t *><uint8_t *>mfns
        for i in range(count):
            out[i] = give_frame(self._live(), first + i)
            if out[i] == 0:
                raise MemoryError("the machine has no memory left")
        return bytes(mfns)

    def populate_extent(self, uint64_t pfn, uint32_t order):
        """2**order contiguous machine frames at guest frame `pfn`: the first mfn, or None where there are none."""
        return give_extent(self._live(), pfn, order) or None

    def xenheap_page(self):
        """A frame of hv's own that this domain may map; its mfn."""
        cdef uint64_t mfn = give_xenheap_frame(self._live())
        if mfn == 0:
            raise MemoryError("the machine has no memory left")
        return mfn

    def release(self, uint64_t mfn):
        """Give a frame back: 0 or -EINVAL."""
        return release_page(self._live(), mfn)

    def is_exchangeable(self, uint64_t mfn):
        """Whether XENMEM_exchange may take a frame: nothing maps or uses it, and it was not given back."""
        return (owns(self._live(), mfn) and self.d.machine.frames[mfn].flags & FRAME_ALLOCATED != 0
                and self.d.machine.frames[mfn].count == 1)

    def owns(self, uint64_t mfn):
        return owns(self._live(), mfn)

    def pfn_of(self, uint64_t mfn):
        if not owns(self._live(), mfn):
            raise KeyError(mfn)
        return self.d.machine.m2p[mfn]

    def set_pfn_of(self, uint64_t mfn, uint64_t pfn):
        if not owns(self._live(), mfn):
            raise KeyError(mfn)
        self.d.machine.m2p[mfn] = pfn

    def pin_root(self, uint64_t mfn):
        """Validate and pin an L4 table, as the domain builder does; 0 or a negative errno."""
        return pin(self._live(), mfn, TYPE_L4)

    def get_type(self, uint64_t mfn, str kind):
        """Take a page and type reference: 0 or -EINVAL. `kind` is one of FRAME_TYPES."""
        return get_page_and_type(self._live(), mfn, FRAME_TYPES.index(kind))

    def put_type(self, uint64_t mfn):
        put_page_and_type(self._live(), mfn)

    def read(self, uint64_t va, uint64_t size, uint32_t vcpu=0):
        """Bytes at a virtual address, read as a hypercall reads them; GuestFault where one is not readable."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        if size > 1 << 30:
            raise GuestFault(va)
        data = bytearray(size)
        if size and copy_from_guest(v, <uint8_t *>data, va, size):
            raise GuestFault(va)
        return bytes(data)

    def write(self, uint64_t va, const uint8_t[::1] data, uint32_t vcpu=0):
        """Write at a virtual address with the guest kernel's rights; GuestFault where that is not possible."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        if data.shape[0] and copy_to_guest(v, va, &data[0], data.shape[0]):
            raise GuestFault(va)

    def peek(self, uint64_t va, uint64_t size, uint32_t vcpu=0, *, bint kernel=True):
        """As many of `size` bytes from an address on as are mapped for its kernel, or for its user mode; changes nothing."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef uint64_t chunk, root = v.kernel_root if kernel else v.user_root
        cdef walk_t w
        cdef bytearray data = bytearray()
        while size and walk(v, root, va, ACCESS_LOOK, True, &w) == WALK_OK:
            chunk = min(size, PAGE_SIZE - (va & (PAGE_SIZE - 1)))
            data += (<char *>frame_pointer(v.domain.machine, w.mfn) + (va & (PAGE_SIZE - 1)))[:chunk]
            if va > HV_NEVER - chunk:               # the last page of all
                break
            va += chunk
            size -= chunk
        return bytes(data)

    def walk(self, uint64_t va, uint32_t vcpu=0):
        """The page walk of an address: ([(level, machine address, entry)], mfn or None); changes nothing."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef walk_t w
        cdef int rc, level
        memset(&w, 0, sizeof(w))
        rc = walk(v, active_root(v) or v.kernel_root, va, ACCESS_LOOK, True, &w)
        last = 1 if rc == WALK_OK else max(1, <int>w.level)
        steps = [(level, w.slots[level], w.entries[level]) for level in range(4, last - 1, -1) if w.slots[level]]
        return steps, w.mfn if rc == WALK_OK else None

    # --- vCPUs

    def start_vcpu(self, uint32_t vcpu, *, uint64_t rip, uint64_t rsp, uint64_t rsi, uint64_t root, uint64_t flags=0x200):
        """Bring a vCPU up in guest kernel mode at `rip` with the L4 frame `root`; 0 or a negative errno."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef hv_env *env = <hv_env *>self.d.env
        cdef bytes keep
        cdef int rc = get_page_and_type(self.d, root, TYPE_L4)
        if rc:
            return rc
        if self.d.current != NULL:
            save_context(self.d.current)
        memcpy(env, <char *>self._template, CONTEXT_SIZE)
        v.kernel_root = root
        v.kernel_mode = 1
        v.kernel_ss = 0xe02b
        v.initialised = 1
        env.gdt.base = 0xffff820000000000 + (<uint64_t>vcpu << 17)
        env.gdt.limit = 0xffff
        load_ldt(v, env)
        env.eip = rip
        env.regs[RSP] = rsp
        env.regs[RSI] = rsi
        env.eflags = flags | 2
        for segment in (SEG_ES, SEG_DS, SEG_FS, SEG_GS):
            memset(&env.segs[<int>segment], 0, sizeof(hv_segment))
        self.d.current = v
        set_flat_segments(v)
        save_context(v)
        v.pause = 0
        wake(v)
        flush_tlb(self.d)
        return 0

    def has_vcpu_info(self, uint32_t vcpu):
        """Whether it has one in memory of the guest: those behind the 32nd must register theirs."""
        return self._vcpu(vcpu).info != &self.d.vcpus[vcpu].own_info

    def initialise_vcpu(self, uint32_t vcpu, const uint8_t[::1] context):
        """VCPUOP_initialise with the bytes of a vcpu_guest_context: 0 or a negative errno."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        if context.shape[0] != sizeof(xen_vcpu_guest_context):
            raise ValueError("a vcpu_guest_context has another size")
        if v.initialised:
            return -XEN_EEXIST
        return self._load_guest_context(v, <const xen_vcpu_guest_context *>&context[0])

    cdef int _load_guest_context(self, vcpu_t *v, const xen_vcpu_guest_context *c) except? -1:
        """Xen 4.17's arch_set_info_guest for a vCPU that has never run."""
        cdef domain_t *d = self.d
        cdef int rc, i
        if not _context_is_sane(c):
            return -XEN_EINVAL
        rc = self.set_gdt(v.id, [c.gdt_frames[i] for i in range((c.gdt_ents + 511) // 512)], c.gdt_ents)
        if rc:
            return rc
        rc = get_page_and_type(d, c.ctrlreg[3] >> PAGE_SHIFT, TYPE_L4)
        if rc == 0 and c.ctrlreg[1]:
            rc = get_page_and_type(d, c.ctrlreg[1] >> PAGE_SHIFT, TYPE_L4)
            if rc:
                put_page_and_type(d, c.ctrlreg[3] >> PAGE_SHIFT)
        if rc:
            self.set_gdt(v.id, [], 0)
            return rc
        v.kernel_root = c.ctrlreg[3] >> PAGE_SHIFT
        v.user_root = c.ctrlreg[1] >> PAGE_SHIFT
        v.kernel_mode = 1 if c.flags & VGCF_in_kernel else 0
        v.kernel_ss, v.kernel_sp = c.kernel_ss, c.kernel_sp
        v.ldt_base, v.ldt_entries = c.ldt_base if c.ldt_ents else 0, c.ldt_ents
        v.iopl = c.user_regs.rflags >> 12 & 3
        v.cr4 = guest_cr4(c.ctrlreg[4])
        v.event_callback, v.failsafe_callback = c.event_callback_eip, c.failsafe_callback_eip
        v.syscall_callback = c.syscall_callback_eip
        v.syscall_masks = c.flags & VGCF_syscall_disables_events != 0
        v.failsafe_masks = c.flags & VGCF_failsafe_disables_events != 0
        v.gs_base_user, v.gs_base_kernel = c.gs_base_user, c.gs_base_kernel
        for i in range(256):
            v.traps[i].flags, v.traps[i].cs = c.trap_ctxt[i].flags, c.trap_ctxt[i].cs
            v.traps[i].address = c.trap_ctxt[i].address
        for i in range(8):
            if i != 4 and i != 5:
                set_debug_register(v, i, c.debugreg[i])
        arm(v)
        self._fill_context(v, c)
        v.initialised = 1
        if c.flags & VGCF_online:                   # no longer down, but not woken either: it will never run
            v.pause &= ~<uint32_t>PAUSE_DOWN
        else:
            v.pause |= PAUSE_DOWN
        return 0

    cdef void _fill_context(self, vcpu_t *v, const xen_vcpu_guest_context *c) noexcept:
        """The CPU state that the vCPU starts with; segments other than CS and SS start as null selectors."""
        cdef hv_env *env = <hv_env *>v.context
        cdef const xen_cpu_user_regs *r = &c.user_regs
        memcpy(env, <char *>self._template, CONTEXT_SIZE)
        env.regs[:] = [r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
                       r.r14, r.r15]
        env.eip = r.rip
        env.eflags = (r.rflags & ~<uint64_t>FLAG_IOPL) | FLAG_IF | 2
        env.gdt.base = 0xffff820000000000 + (<uint64_t>v.id << 17)
        env.gdt.limit = 0xffff
        load_ldt(v, env)
        for segment in (SEG_ES, SEG_DS, SEG_FS, SEG_GS):
            memset(&env.segs[<int>segment], 0, sizeof(hv_segment))
        env.segs[SEG_FS].base = c.fs_base
        env.segs[SEG_GS].base = c.gs_base_kernel if v.kernel_mode else c.gs_base_user
        flat_segments(env, v.kernel_mode)
        if c.ctrlreg[0] & 8:
            v.ts = 1
            env.cr[0] |= 8

    def vcpu_up(self, uint32_t vcpu):
        """VCPUOP_up: 0, or -EINVAL before it was initialised."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        if not v.initialised:
            return -XEN_EINVAL
        if v.pause & PAUSE_DOWN:
            v.pause &= ~<uint32_t>PAUSE_DOWN
            wake(v)
        return 0

    def vcpu_down(self, uint32_t vcpu):
        """VCPUOP_down; the last vCPU that goes down powers the domain off."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef uint32_t i
        for i in range(self.d.nr_vcpus):
            if i != vcpu and not self.d.vcpus[i].pause & PAUSE_DOWN:
                v.pause |= PAUSE_DOWN
                sleep(v)
                self.d.machine.stop = self.d.machine.stop or STOP_RESCHEDULE
                return 0
        shutdown(self.d, SHUTDOWN_poweroff)
        return 0

    def register_vcpu_info(self, uint32_t vcpu, uint32_t caller, uint64_t mfn, uint32_t offset):
        """Move a vCPU's vcpu_info into a frame of the guest: 0, -EINVAL, -ENXIO. Everything is marked pending, as on Xen."""
        cdef int rc = self._move_vcpu_info(self._vcpu(vcpu), caller, mfn, offset)
        update_time(self._vcpu(vcpu), self._vcpu(caller), True)      # whether it has moved or not
        return rc

    cdef int _move_vcpu_info(self, vcpu_t *v, uint32_t caller, uint64_t mfn, uint32_t offset) except? -1:
        cdef xen_vcpu_info *info
        if offset > PAGE_SIZE - sizeof(xen_vcpu_info) or offset & 7:
            return -XEN_ENXIO
        if v.info_mfn or (v.id != caller and not v.pause & PAUSE_DOWN):
            return -XEN_EINVAL
        if get_page_and_type(self.d, mfn, TYPE_WRITABLE):
            return -XEN_EINVAL
        info = <xen_vcpu_info *>(frame_pointer(self.d.machine, mfn) + offset)
        if v.info == &v.own_info:                   # on Xen a dummy, whose contents mean nothing
            memset(info, 0, sizeof(xen_vcpu_info))
            info.evtchn_upcall_mask = 1
        else:
            memcpy(info, v.info, sizeof(xen_vcpu_info))
        v.info = info
        v.info_mfn = mfn
        info.evtchn_pending_sel = <uint64_t>-1
        if not info.evtchn_upcall_pending:
            info.evtchn_upcall_pending = 1
            unblock(v)
        return 0

    def register_runstate_area(self, uint32_t vcpu, uint32_t caller, uint64_t va):
        """Keep a vCPU's run state up to date at an address; 0 ends that. Written at once as the caller sees memory."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef xen_vcpu_runstate_info info
        memcpy(&info, &v.runstate, sizeof(info))
        v.runstate_area = va
        if vcpu != caller:
            runstate_now(v, &info)
        copy_to_guest(self._vcpu(caller), va, &info, sizeof(info))

    def register_time_area(self, uint32_t vcpu, uint32_t caller, uint64_t va):
        """Keep a copy of a vCPU's clock at an address; 0 ends that."""
        self._vcpu(vcpu).time_area = va
        update_time(self._vcpu(vcpu), self._vcpu(caller), True)

    def registers(self, uint32_t vcpu=0):
        """General registers, rip, rflags, segments and modes of a vCPU as a dict."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef bint live = self.d.current == v
        cdef hv_env *env = <hv_env *>self.d.env if live else <hv_env *>v.context
        result = {name: env.regs[i] for i, name in enumerate(REGISTERS)}
        result["rip"] = env.eip
        result["rflags"] = get_flags(self.d) if live else env.eflags
        for i, name in enumerate(("es", "cs", "ss", "ds", "fs", "gs")):
            result[name] = env.segs[<int>i].selector & 0xffff
        result["fs_base"] = env.segs[SEG_FS].base
        result["gs_base"] = env.segs[SEG_GS].base
        result["cr2"] = v.cr2
        result["cr3"] = active_root(v) << PAGE_SHIFT
        result["kernel_mode"] = bool(v.kernel_mode)
        return result

    def set_register(self, uint32_t vcpu, str name, uint64_t value):
        """Change one of REGISTERS, rip, rflags, fs_base or gs_base, as the guest itself could: KeyError for another,
        ValueError for an address that is not canonical."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef hv_env *env = _env(v)
        if name in REGISTERS:
            env.regs[<int>REGISTERS.index(name)] = value
        elif name == "rflags":              # outside of a run they are complete
            env.eflags = (value & 0x3f7fd7 & ~<uint64_t>(FLAG_IOPL | FLAG_VM)) | FLAG_IF | 2
        elif name not in ("rip", "fs_base", "gs_base"):
            raise KeyError(name)
        elif not canonical(value):
            raise ValueError(f"{value:#x} is not a canonical address")
        elif name == "rip":
            env.eip = value
        else:
            env.segs[SEG_FS if name == "fs_base" else SEG_GS].base = value

    def find_pfn(self, uint64_t pfn):
        """The machine frame that the M2P says is guest frame `pfn`; None where there is none."""
        cdef domain_t *d = self._live()
        cdef uint64_t mfn
        for mfn in range(d.machine.gdt_mfn + 1, min(d.machine.next_frame + 512, d.machine.nr_frames)):
            if d.machine.frames[mfn].owner == d.domid + 1 and d.machine.m2p[mfn] == pfn:
                return mfn
        return None

    def wake(self, uint32_t vcpu):
        """Let a vCPU that blocks or polls go on and look for itself, without an event."""
        unblock(self._vcpu(vcpu))

    def vcpu_state(self, uint32_t vcpu):
        """What keeps it from running ("down", "polling", "blocked"), or "runnable"."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        if v.pause & PAUSE_DOWN:
            return "down"
        if v.pause & PAUSE_BLOCKED:
            return "polling" if is_polling(v) else "blocked"
        return "runnable"

    def runstate(self, uint32_t vcpu):
        """(state, ns of system time when it was entered, ns spent in each of RUNSTATES up to now)."""
        cdef xen_vcpu_runstate_info info
        runstate_now(self._vcpu(vcpu), &info)
        return RUNSTATES[info.state], info.state_entry_time, tuple(info.time)

    def entry_points(self, uint32_t vcpu=0):
        """Where Xen enters the guest: {"event", "failsafe", "syscall": address, or 0; "traps": {vector: address}}."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        return {"event": v.event_callback, "failsafe": v.failsafe_callback, "syscall": v.syscall_callback,
                "traps": {i: v.traps[i].address for i in range(256) if v.traps[i].address}}

    def upcall_state(self, uint32_t vcpu=0):
        """(evtchn_upcall_pending, evtchn_upcall_mask, evtchn_pending_sel) of its vcpu_info."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        return v.info.evtchn_upcall_pending, v.info.evtchn_upcall_mask, v.info.evtchn_pending_sel

    def vcpu_counters(self, uint32_t vcpu=0):
        """How many upcalls and exceptions (by vector) were delivered to it."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        return {"upcalls": v.upcalls, "exceptions": {i: v.exceptions[i] for i in range(32) if v.exceptions[i]}}

    def set_trap(self, uint32_t vcpu, uint8_t vector, uint8_t flags, uint16_t cs, uint64_t address):
        cdef trap_t *t = &self._vcpu(vcpu).traps[vector]
        t.flags, t.cs, t.address = flags, cs, address

    def clear_traps(self, uint32_t vcpu):
        memset(self._vcpu(vcpu).traps, 0, sizeof(self.d.vcpus[0].traps))

    def set_callback(self, uint32_t vcpu, str kind, uint64_t address, bint mask_events=False):
        """Register an entry point; `kind` is event, failsafe, syscall, syscall32 or sysenter."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        if kind == "event":
            v.event_callback = address
        elif kind == "failsafe":
            v.failsafe_callback, v.failsafe_masks = address, mask_events
        elif kind == "syscall":
            v.syscall_callback, v.syscall_masks = address, mask_events
        elif kind == "syscall32":
            v.syscall32_callback, v.syscall32_masks = address, mask_events
        elif kind == "sysenter":
            v.sysenter_callback, v.sysenter_masks = address, mask_events
        else:
            raise KeyError(kind)

    def set_gdt(self, uint32_t vcpu, frames, uint32_t entries):
        """Replace the guest's part of the GDT: 0, or -EINVAL for a frame that can not hold descriptors."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef uint64_t mfn
        taken = []
        for mfn in frames:
            if get_page_and_type(self.d, mfn, TYPE_SEGDESC):
                for mfn in taken:
                    put_page_and_type(self.d, mfn)
                return -XEN_EINVAL
            taken.append(mfn)
        for i in range(14):
            if v.gdt_frames[<int>i]:
                put_page_and_type(self.d, v.gdt_frames[<int>i])
            v.gdt_frames[<int>i] = taken[i] if i < len(taken) else 0
        v.gdt_entries = entries
        request_flush(self.d)
        return 0

    def update_descriptor(self, uint64_t address, uint64_t value):
        """Write one descriptor at a machine address: 0 or -EINVAL."""
        return write_descriptor(self._live(), address, value)

    def set_iopl(self, uint32_t vcpu, uint8_t iopl):
        self._vcpu(vcpu).iopl = iopl & 3

    def set_io_bitmap(self, uint32_t vcpu, uint64_t va, uint32_t ports):
        """The address of a bitmap of so many ports: a 0 lets the guest, its user mode too, use one."""
        self._vcpu(vcpu).io_bitmap = va
        self._vcpu(vcpu).io_ports = ports

    @property
    def vm_assist(self):
        return self._live().vm_assist

    @vm_assist.setter
    def vm_assist(self, uint64_t value):
        self._live().vm_assist = value

    # --- life

    def set_watchdog(self, int index, uint64_t seconds):
        """Let watchdog 0 or 1 end the domain in so many seconds."""
        self._live().watchdog[index & 1] = ticks_of(system_time(self.d.machine) + seconds * 1000000000) or 1
        rearm(self.d.machine)

    def stop_watchdog(self, int index):
        self._live().watchdog[index & 1] = 0
        rearm(self.d.machine)

    def watchdog_in_use(self, int index):
        return self._live().watchdog[index & 1] != 0

    def shut_down(self, int code):
        """SCHEDOP_shutdown with one of Xen's SHUTDOWN_* codes."""
        shutdown(self._live(), code)

    def resume(self, uint64_t result):
        """After a shutdown: the vCPU that asked for it goes on, with `result` from its hypercall."""
        cdef domain_t *d = self._live()
        if not d.dying or d.crashed or d.current == NULL:
            raise EngineError("this domain has not shut down")
        d.dying = d.shutdown_said = d.shutdown_code = 0
        (<hv_env *>d.env).regs[RAX] = result

    def fix_shutdown_code(self, int code):
        """The domain will end with this code, whoever shuts it down; the first code counts."""
        fix_shutdown_code(self._live(), code)

    def crash(self, str reason):
        """End the domain because of something it did."""
        crash(self._live(), reason.encode())

    @property
    def ended(self):
        return bool(self._live().dying)

    @property
    def crashed(self):
        return bool(self._live().crashed)

    @property
    def shutdown_code(self):
        return self._live().shutdown_code

    @property
    def reason(self):
        return self._live().reason.decode(errors="replace")

    @property
    def crash_address(self):
        """The address whose page walk explains the crash, or None."""
        return self._live().crash_cr2 if self._live().crash_has_cr2 else None

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

    @property
    def current_vcpu(self):
        return self._live().current.id if self._live().current != NULL else 0

    @property
    def nr_vcpus(self):
        cdef domain_t *d = self._live()
        return d.nr_vcpus if d.receiver == NULL else 0

    @property
    def shared_mfn(self):
        return self._live().shared_mfn

    @property
    def nr_pages(self):
        return self._live().nr_pages

    @property
    def max_pages(self):
        return self._live().max_pages

    @max_pages.setter
    def max_pages(self, uint64_t value):
        self._live().max_pages = value

    @property
    def max_port(self):
        return self._live().max_port

    @property
    def weight(self):
        """Its share of the processor: how long its turns are, in 1/256 of the usual."""
        return self._live().weight

    @weight.setter
    def weight(self, uint32_t value):
        self._live().weight = value

    @property
    def paused(self):
        return bool(self._live().paused)

    @paused.setter
    def paused(self, bint value):
        cdef uint32_t i
        self._live().paused = value
        for i in range(self.d.nr_vcpus):
            if value:
                sleep(&self.d.vcpus[i])
            else:
                wake(&self.d.vcpus[i])

    def broken_invariant(self):
        """What of hv's own state contradicts itself, in words; None is as it should be. Cheap: for fuzzers."""
        cdef const char *reason = broken_invariant(self._live())
        return reason.decode() if reason != NULL else None

    def held_frames(self):
        """Frames that hv itself refers to, as (mfn, type): page tables in use, descriptor tables, event memory."""
        cdef domain_t *d = self._live()
        cdef uint32_t i, k
        held = []
        for i in range(d.nr_vcpus):
            v = &d.vcpus[i]
            held += [(mfn, "l4") for mfn in (v.kernel_root, v.user_root) if mfn]
            held += [(v.gdt_frames[k], "segdesc") for k in range(14) if v.gdt_frames[k]]
            held += [(v.ldt_frames[k], "segdesc") for k in range(16) if v.ldt_frames[k]]
            held += [(v.info_mfn, "writable")] if v.info_mfn else []
            if d.fifo != NULL and d.fifo.vcpus[i].control != NULL:
                held.append((d.fifo.vcpus[i].control_mfn, "writable"))
        if d.fifo != NULL:
            held += [(d.fifo.mfns[k], "writable") for k in range(d.fifo.nr_pages)]
        return held

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

    def dispatch(self, uint32_t vcpu, uint64_t number, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                 uint64_t a5):
        return self.handler(vcpu, number, a0, a1, a2, a3, a4, a5)

    # --- grants

    def grants(self):
        """The table: (version, the highest allowed, its frames, its status frames, the most frames)."""
        cdef grant_table_t *t = self._live().grants
        return (t.ops.version, t.max_version, [t.mfns[i] for i in range(t.nr_frames)],
                [t.status_mfns[i] for i in range(t.nr_status_frames)], t.max_frames)

    def grow_grants(self, uint32_t frames):
        """Have at least so many frames of grants, at most as many as allowed: 0 or -ENOMEM."""
        return grow(self._live().grants, min(frames, self.d.grants.max_frames))

    def set_grant_version(self, uint32_t version):
        """GNTTABOP_set_version: 0 or a negative errno."""
        return set_version(self._live().grants, version)

    def seed_grant(self, uint32_t ref, uint16_t domid, uint64_t mfn):
        """Write a grant of a page to a domain into a reserved entry, as a toolstack does for console and store."""
        cdef grant_table_t *t = self._live().grants
        if ref >= GNTTAB_NR_RESERVED_ENTRIES:
            raise IndexError(f"grant {ref} is the guest's")
        t.ops.header(t, ref).flags = GTF_permit_access
        t.ops.header(t, ref).domid = domid
        t.ops.set_frame(t, ref, mfn)

    def granted(self):
        """Entries that are not empty or in use: (ref, flags, domid, frame, status, uses) of each. `uses` is None, or (domid,
        mfn, host writers, host readers, device writers, device readers, start, length)."""
        cdef grant_table_t *t = self._live().grants
        cdef active_t *a
        cdef uint32_t ref
        rows = []
        for ref in range(nr_entries(t)):
            a = &t.active[ref]
            if a.pin or t.ops.header(t, ref).flags & GTF_type_mask:
                uses = (a.domid, a.mfn, a.pin & 255, a.pin >> 8 & 255, a.pin >> 16 & 255, a.pin >> 24, a.start,
                        a.length) if a.pin else None
                rows.append((ref, t.ops.header(t, ref).flags, t.ops.header(t, ref).domid, t.ops.frame(t, ref),
                             t.ops.status(t, ref)[0], uses))
        return rows

    def mapped_grants(self):
        """What this domain has mapped: (handle, domid, ref, GNTMAP_* flags) of each."""
        cdef grant_table_t *t = self._live().grants
        return [(i, t.maptrack[i].domid, t.maptrack[i].ref, t.maptrack[i].flags)
                for i in range(t.nr_handles) if t.maptrack[i].flags]

    def foreign_frames(self):
        """Frames of others that it holds: {mfn: (reads, writes, device reads, device writes)}."""
        cdef grant_table_t *t = self._live().grants
        return {t.foreign[i].tag - 1: (t.foreign[i].reads, t.foreign[i].writes, t.foreign[i].device_reads,
                                       t.foreign[i].device_writes)
                for i in range(t.foreign_size) if t.foreign[i].tag}

    def release_grants(self):
        """The domain is dying: it ends its use of all grants of others."""
        release_mappings(self._live())

    def map_grant(self, uint32_t domid, uint32_t ref, bint readonly=False):
        """Domain 0 only: map a grant for hv itself. (GNTST_* status, handle, mfn)."""
        cdef uint32_t handle = 0
        cdef uint64_t mfn = 0
        status = host_map(self._host(), domid, ref, readonly, &handle, &mfn)
        return status, handle, mfn

    def unmap_grant(self, uint32_t handle):
        """Domain 0 only: the end of a mapping. A GNTST_* status."""
        return host_unmap(self._host(), handle)

    def read_grants(self, uint32_t domid, segments, uint8_t[::1] into):
        """Domain 0 only: copy parts of granted pages, one behind the other, to memory of the host. `segments` are
        (ref, offset, length), which must fit into it. The first GNTST_* status that is not okay, else GNTST_okay."""
        return self._copy_segments(domid, segments, &into[0] if into.shape[0] else NULL, into.shape[0], False)

    def write_grants(self, uint32_t domid, segments, const uint8_t[::1] data):
        """Domain 0 only: the other direction."""
        return self._copy_segments(domid, segments, <uint8_t *>&data[0] if data.shape[0] else NULL, data.shape[0], True)

    cdef int _copy_segments(self, uint32_t domid, segments, uint8_t *buffer, size_t size, bint to_guest) except? -99:
        cdef domain_t *host = self._host()
        cdef uint32_t ref, offset, length
        cdef size_t done = 0
        cdef int status = GNTST_okay
        for ref, offset, length in segments:
            if length > size - done:
                raise ValueError("the segments are longer than the buffer")
            status = host_copy(host, domid, ref, offset, length, buffer + done, to_guest)
            if status != GNTST_okay:
                break
            done += length
        return status

    # --- event ports

    cdef port_t *_port(self, uint32_t port) except NULL:
        if port >= self._live().nr_ports:
            raise IndexError(f"no event channel {port}")
        return &self.d.ports[port]

    @property
    def nr_ports(self):
        """How many ports are valid, with port 0."""
        return self._live().nr_ports

    @property
    def fifo(self):
        """Whether the guest has changed to the FIFO ABI."""
        return self._live().fifo != NULL

    def port(self, uint32_t port):
        """(state, vcpu, virq or pirq or remote domid, remote port, reserved, sent) of a port."""
        cdef port_t *p = self._port(port)
        return p.state, p.vcpu, p.detail, p.remote_port, bool(p.reserved), p.sent

    def port_events(self, uint32_t port):
        """(pending, masked, priority, sent, merged) of a port; None for the priority where the ABI has none."""
        cdef port_t *p = self._port(port)
        cdef bint usable = is_usable(self.d, port)
        return (usable and self.d.port_ops.is_pending(self.d, port), not usable or self.d.port_ops.is_masked(self.d, port),
                p.priority if self.d.port_ops.priorities else None, p.sent, p.merged)

    def free_port(self):
        """The lowest free port, with its counters at 0; -ENOSPC where the domain has no more."""
        return free_port(self._live())

    def set_port(self, uint32_t port, uint8_t state, uint16_t vcpu=0, uint16_t detail=0, uint32_t remote_port=0,
                 GuestDomain remote=None, bint reserved=False):
        """Set a port's state; `detail` is the number of a VIRQ or a PIRQ, or the remote domid."""
        cdef port_t *p = self._port(port)
        if port == 0:
            raise IndexError("event channel 0 is reserved")
        p.state, p.vcpu, p.detail, p.remote_port, p.reserved = state, vcpu, detail, remote_port, reserved
        p.remote = remote.d if remote is not None else NULL

    def close_port(self, uint32_t port):
        """Free a port that is in use."""
        self._port(port)
        if is_usable(self.d, port):
            close_port(self.d, port)
            self._port_handlers.pop(port, None)

    def set_virq_port(self, uint32_t vcpu, uint32_t virq, uint32_t port):
        self._vcpu(vcpu).virq_port[virq & 31] = port

    def virq_port(self, uint32_t vcpu, uint32_t virq):
        return self._vcpu(vcpu).virq_port[virq & 31]

    def raise_virq(self, uint32_t vcpu, uint32_t virq):
        """Raise a virtual interrupt; nobody bound it: nothing happens."""
        raise_virq(self._vcpu(vcpu), virq & 31)

    def raise_port(self, uint32_t port):
        """Set a port in use pending."""
        self._port(port)
        set_pending(self.d, port)

    def send(self, uint32_t port):
        """EVTCHNOP_send by this domain: 0 or -EINVAL."""
        return send(self._live(), port)

    def unmask(self, uint32_t port):
        """EVTCHNOP_unmask by this domain: 0 or -EINVAL."""
        return unmask(self._live(), port)

    def set_priority(self, uint32_t port, uint32_t priority):
        """EVTCHNOP_set_priority: 0 or a negative errno."""
        return set_priority(self._live(), port, priority)

    def init_control(self, uint32_t vcpu, uint64_t mfn, uint32_t offset):
        """EVTCHNOP_init_control: 0 or a negative errno."""
        return init_control(self._live(), vcpu, mfn, offset)

    def expand_array(self, uint64_t mfn):
        """EVTCHNOP_expand_array: 0 or a negative errno."""
        return expand_array(self._live(), mfn)

    def leave_fifo(self):
        """Back to the 2-level ABI; all ports are closed before."""
        if self._live().receiver != NULL and self.d.receiver.taken != NULL:
            raise EngineError("domain 0 can not change its ABI while its handlers run")
        leave_fifo(self.d)

    # --- domain 0's handlers

    cdef domain_t *_host(self) except NULL:
        if self._live().receiver == NULL:
            raise EngineError(f"domain {self.domid} is a guest: only domain 0 has handlers")
        return self.d

    def bind_handler(self, uint32_t port, handler):
        """`handler(port)` runs for every event of the port; a `Handler` of hv.fastpath.handlers is called by itself."""
        if not is_usable(self._host(), port):
            raise IndexError(f"domain {self.domid} has no event channel {port}")
        if not isinstance(handler, Handler):
            handler = PythonHandler(handler)
        self._port_handlers[port] = attach(self.d, port, handler)
        unmask(self.d, port)

    def unbind_handler(self, uint32_t port):
        """Its events wait from now on."""
        if is_usable(self._host(), port):
            detach(self.d, port)
        self._port_handlers.pop(port, None)

    def mask(self, uint32_t port):
        """Events of the port wait until it is unmasked."""
        self._host()
        self._port(port)
        self.d.port_ops.mask(self.d, port)

    def delivered(self, uint32_t port):
        """How many of the port's events its handlers have had since it was made."""
        self._host()
        self._port(port)
        return self.d.receiver.entries[port].delivered

    def drain(self):
        """Run the handlers of all pending ports; what they raise is raised, and what is left waits."""
        receive(self._host())


handlers.syscall = on_syscall
handlers.exception = on_exception
handlers.block = block
handlers.cpuid = guest_cpuid
handlers.tsc = _tsc
