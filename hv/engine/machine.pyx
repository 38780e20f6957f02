# cython: language_level=3
"""The engine as Python sees it: machine memory and domains.

Rules:
* `Engine.run` is the only way into guest code; it comes back with a reason and never with a guest half-stopped.
* The first exception of a Python handler stops the run and is raised by `run`.
* Frames are handed out and taken back only through hv.fastpath; views of guest memory are bounds-checked slices.
"""
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset
from xen_abi cimport *
from hv.engine.clock cimport rearm
from hv.engine.domain_end cimport free_domain, free_memory, free_zombies, keep_held, reap
from hv.engine.guest_records cimport GuestRecords
from hv.engine.guest_registers cimport env_of
from hv.engine.hypercall cimport PREEMPTED
from hv.engine.pacing cimport wait_for
from hv.engine.run_loop cimport run_guests
from hv.engine.unicorn cimport *
from hv.fastpath.grant_table cimport new_table
from hv.fastpath.grants cimport release_foreign, release_mappings
from hv.fastpath.memory cimport frame_written
from hv.fastpath.now cimport NEVER, TICKS_PER_NS, host_ns, system_time, ticks
from hv.fastpath.points cimport note_nothing
from hv.fastpath.state cimport *
from hv.fastpath.trace cimport TRACE_DESTROY, trace_attach, trace_detach, trace_end, trace_flush, trace_note

from hv.engine.cpu import self_check
from hv.engine.guest_memory import FRAME_TYPES, GuestFault
from hv.engine.guest_registers import REGISTERS
from hv.engine.guest_vcpus import RUNSTATES
from hv.errors import EngineError

cdef extern from "sys/mman.h" nogil:
    void *c_mmap "mmap"(void *, size_t, int, int, int, long)
    int c_munmap "munmap"(void *, size_t)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE

STOPS = ("none", "reschedule", "until", "host", "domain", "python", "idle", "wait", "step", "point")
CLOCKS = ("virtual", "paced", "host")
STEPS = ("count", "return", "beyond")
POINTS = ("address", "call", "return", "event", "upcall", "vector", "read", "write")

cdef enum:
    FIRST_FRAME = 256            # the first MiB is I/O memory on a PC: nobody's
    SMALLEST = 512               # frames: hv's own, and nearly nothing else

cdef extern from * nogil:
    """
    /* A hint only: machine memory must not lie between the libraries and Unicorn's translated code, because calls from
     * that code to helpers are direct only within 2 GiB. */
    #define FAR_AWAY 0x200000000000ULL
    """
    const uintptr_t FAR_AWAY


MAKE_AGAIN = PREEMPTED      #: a handler's result: the guest makes the call again with the same arguments


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
        self.m.budget = &self.m.own_budget
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
        m.slice_end = m.until = m.next_timer = NEVER
        m.host = &m.nobody
        m.steps_left = NEVER
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
            free_domain(self.m.domains[i])
        free_zombies(&self.m)
        free(self.m.domains)
        free(self.m.hits)
        if self.m.frames != NULL:
            c_munmap(self.m.frames, self._frame_bytes)

    # --- domains

    def create_domain(self, uint32_t domid, uint32_t vcpus=1, uint64_t max_pages=0, uint32_t max_port=1023, *,
                      uint32_t max_grant_frames=64, uint32_t max_maptrack_frames=1024, uint32_t max_grant_version=2):
        """A domain without memory or code; domid 0 is hv's own side and never runs."""
        reap(&self.m)
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
            keep_held(&self.m, d)
        free_memory(&self.m, d)
        free_domain(d)
        reap(&self.m)
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
        cdef uint64_t limit = min(until_ns * TICKS_PER_NS, NEVER - 1) if until_ns is not None else NEVER
        cdef machine_t *m = &self.m
        if m.running_now:
            raise EngineError("this machine runs already: a handler must not run it again")
        reap(m)
        m.until = limit
        m.host_poll = host_ns() + 10000000
        m.stop = STOP_NONE
        rearm(m)
        m.running_now = 1
        with nogil:
            run_guests(m)
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

    def come_back_by(self, uint64_t ns):
        """A handler wants `run` to come back at that time at the latest; nothing happens outside of a run."""
        if self.m.running_now and ns < self.m.until // TICKS_PER_NS:
            self.m.until = ns * TICKS_PER_NS
            rearm(&self.m)

    def set_stepping(self, bint on, steps=None):
        """Run block by block of one instruction; after `steps` of them, of whatever vCPU, `run` returns "step"."""
        self.m.stepping = on
        self.m.steps_left = steps if steps is not None else NEVER
        memset(&self.m.step, 0, sizeof(step_t))
        self.m.step.anybody = 1
        rearm(&self.m)

    def step_vcpu(self, GuestDomain domain, uint32_t vcpu, steps=None, str kind="count"):
        """Run one vCPU by single instructions until `run` returns "step": after `steps` of them, if that is not None,
        or by `kind` (of STEPS) behind the "return" to a caller of the function that it is in, or "beyond": then, or in the
        same function at a higher address. The others run freely meanwhile. Until set_stepping(False)."""
        cdef vcpu_t *v = domain._vcpu(vcpu)
        cdef hv_env *env = env_of(v)
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
        if self.m.wake_at == NEVER:
            return None
        left = <int64_t>(self.m.wake_at // TICKS_PER_NS) - (host_ns() - self.m.host_offset)
        return max(0, wait_for(left, self.m.behind) if left > 0 else 0)

    @property
    def host_age_ns(self):
        """ns of the host's clock since the machine was made: what system time is; with the paced clock while all wait."""
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


cdef class GuestDomain(GuestRecords):
    """One domain's hot state: vCPUs, ports, memory. The Python side sets `handler` to serve cold hypercalls."""

    def __cinit__(self, Engine engine, uint32_t domid, uint32_t vcpus, uint64_t max_pages, uint32_t max_port):
        self.engine = engine
        self._make(&engine.m, domid, vcpus, max_pages, max_port)
        engine._add(self)
