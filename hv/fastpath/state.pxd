# cython: language_level=3
"""The hot state: one home, plain C, shared by fastpath and engine.

Rules:
* Everything a guest's hypercall can touch without Python lives in these structures; Python sees it through views.
* Nothing here knows Unicorn: `uc`, `cpu` and `env` are opaque pointers that only hv.engine follows.
* Frame numbers (mfn) index `machine.frames`; whatever a guest gives is checked against `machine.nr_frames` first.
"""
from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from xen_abi cimport (EVTCHN_FIFO_MAX_QUEUES, xen_evtchn_fifo_control_block, xen_grant_entry_header, xen_shared_info,
                      xen_vcpu_info, xen_vcpu_runstate_info)

cdef enum:
    PAGE_SHIFT = 12
    PAGE_SIZE = 4096
    VCPU_LIMIT = 64          # vCPUs of a domain
    CONTEXT_SIZE = 5608      # bytes of CPU state that differ between vCPUs (see unicorn.pxd)
    REASON_SIZE = 200

# What a frame is used as. A type with references left can not change (see paging.pyx).
cdef enum:
    TYPE_NONE = 0
    TYPE_L1 = 1
    TYPE_L2 = 2
    TYPE_L3 = 3
    TYPE_L4 = 4
    TYPE_SEGDESC = 5
    TYPE_WRITABLE = 6

cdef enum:
    FRAME_VALIDATED = 1      # a page table whose entries all hold their references
    FRAME_PINNED = 2
    FRAME_XENHEAP = 4        # hv's page that the domain may map but never free
    FRAME_ALLOCATED = 8      # holds the domain's own reference
    FRAME_GRANTED = 16       # has been mapped by a grant: another domain's TLB may know it
    FRAME_KEPT = 32          # its owner has died; another domain's mappings hold it

ctypedef struct frame_t:
    uint32_t owner           # domid + 1; 0 is nobody (free, or hv's own)
    uint32_t count           # references of any kind
    uint32_t type_count      # references to it as `type`
    uint32_t code            # bit (domid % 32): that instance may hold translated code of it
    uint8_t type
    uint8_t flags
    int16_t linear           # of a table: its entries for others of its level; below 0: such entries of others for it
    uint32_t used_at         # the epoch in which a TLB was last given a writable entry for it, or the kernel's from it

# Why a vCPU can not run (vcpu_t.pause); Xen's VPF_*.
cdef enum:
    PAUSE_DOWN = 1           # not up: VCPUOP_up takes it away
    PAUSE_BLOCKED = 2        # sleeps in SCHEDOP_block or SCHEDOP_poll

# Why the engine came back (machine_t.stop)
cdef enum:
    STOP_NONE = 0
    STOP_RESCHEDULE = 1      # pick another vCPU
    STOP_UNTIL = 2           # the virtual time asked for is reached
    STOP_HOST = 3            # time to look at the host: signals, input, timeouts
    STOP_DOMAIN = 4          # a domain shut down or crashed
    STOP_PYTHON = 5          # a Python handler raised, or asked for a stop
    STOP_IDLE = 6            # every vCPU is blocked and no timer is armed
    STOP_WAIT = 7            # paced or host clock: nothing to do before `wake_at`
    STOP_STEP = 8            # the instructions asked for are done
    STOP_POINT = 9           # a breakpoint of the debugger is hit

cdef enum:
    CLOCK_VIRTUAL = 0
    CLOCK_PACED = 1
    CLOCK_HOST = 2

ctypedef struct trap_t:
    uint64_t address
    uint16_t cs
    uint8_t flags            # bits 0-1 DPL, bit 2 mask events
    uint8_t pad[5]

ctypedef struct port_t:
    uint8_t state            # EVTCHNSTAT_*
    uint8_t reserved         # made by hv (console, store), for those who look; the guest may close it like any other
    uint8_t priority         # FIFO: the queue of the next event
    uint8_t remembered       # FIFO: an event came while its word had no array page
    uint16_t vcpu            # whom it notifies
    uint16_t detail          # virq: which; pirq: which; unbound and interdomain: remote domid
    uint16_t last_vcpu       # FIFO: the queue that it was put on last
    uint16_t last_priority
    uint32_t remote_port
    uint64_t sent            # 0 -> 1 changes of pending
    uint64_t merged          # events that found it pending already
    domain_t *remote
    uint64_t event           # while a trace is attached: the id of its last event, and when that was
    uint64_t event_ticks

# How a domain's events reach it: one table for each ABI, chosen once (event_channel.h of Xen). A port that is given is
# one of the table, and bound, except for is_busy.
ctypedef struct port_ops_t:
    uint32_t nr_channels     # ports that the ABI can express, with port 0
    uint8_t priorities       # how many of them there are; 0: none
    void (*set_pending)(domain_t *d, uint32_t port) noexcept nogil
    void (*clear_pending)(domain_t *d, uint32_t port) noexcept nogil
    void (*unmask)(domain_t *d, uint32_t port) noexcept nogil
    bint (*is_pending)(domain_t *d, uint32_t port) noexcept nogil
    bint (*is_masked)(domain_t *d, uint32_t port) noexcept nogil
    bint (*is_busy)(domain_t *d, uint32_t port) noexcept nogil       # closed, but still on a queue
    void (*mask)(domain_t *d, uint32_t port) noexcept nogil          # of a domain with a receiver; sets the upcall flag
    int (*scan)(domain_t *d) noexcept nogil     # of a domain with a receiver: one look at everything, see there

# Domain 0's side: who takes the events of its ports (receiver.pyx)
ctypedef int (*handler_t)(entry_t *entry, uint32_t port) noexcept nogil     # 0, or -1: it raised a Python exception

ctypedef struct entry_t:
    handler_t call           # NULL: none, and the port is masked
    void *context            # the handler's own
    void *number             # the port as a Python int
    uint64_t delivered       # events, not calls: one that came while another was about to be delivered counts too

ctypedef struct batch_t:     # of ports whose events are delivered together, at the end of a scan
    int (*deliver)(batch_t *batch) noexcept nogil   # takes the ports, and says as a handler whether it raised
    void *context            # the handler's own
    domain_t *domain
    batch_t *next
    uint32_t *ports          # what the scan has found so far
    uint32_t count
    uint32_t room

cdef enum:
    SPARSE_PORTS = 322       # 64 * 5 + 2; no expressions: the checked build can not digest them in a .pxd
    TAKEN_REMOVED = 0x80000000  # in a list of taken ports: one that was closed since

ctypedef struct taken_t:     # of one who receives: what has been taken and is not delivered yet (2-level)
    taken_t *outer           # of the one that this one interrupts
    uint64_t bits            # of `word`, some of them delivered; what is closed goes out of it
    uint32_t word
    uint32_t at              # of the list: the next to be delivered
    uint32_t count
    uint32_t ports[SPARSE_PORTS]

ctypedef struct receiver_t:
    entry_t *entries         # one for each port that the ABIs can express
    taken_t *taken           # NULL: nobody receives at the moment
    batch_t *batches         # those with ports of this scan, in the order of their first ones
    batch_t *last_batch
    uint32_t last            # 2-level: the port that was delivered last; the next scan begins behind it
    uint32_t head[EVTCHN_FIFO_MAX_QUEUES]       # FIFO: the rest of each queue that was begun; 0: none

ctypedef struct fifo_vcpu_t:
    xen_evtchn_fifo_control_block *control  # in the guest's memory; NULL before init_control
    uint64_t control_mfn
    uint32_t tail[EVTCHN_FIFO_MAX_QUEUES]   # the last port put on each queue; 0: none

ctypedef struct fifo_t:
    uint32_t *words[128]     # the event array, by page, in the guest's memory
    uint64_t mfns[128]
    uint32_t nr_pages
    fifo_vcpu_t vcpus[VCPU_LIMIT]

# What a trace remembers of a vCPU, to name causes (hv/fastpath/trace.pyx).
cdef enum:
    TIMER_SINGLESHOT = 0
    TIMER_PERIODIC = 1
    TIMER_POLL = 2
    TIMER_WATCHDOG = 3
    HANDLERS = 16            # entries into the guest that have not come back; older ones are forgotten

ctypedef struct entered_t:   # an exception, an upcall or a system call
    uint64_t id              # of the record of its entry
    uint64_t frame           # rsp at its start
    uint64_t saved_rsp       # of what it interrupted

ctypedef struct tracing_t:
    uint64_t event           # the record that set its upcall flag, and when
    uint64_t event_ticks
    uint64_t blocked_by      # the call that it sleeps in
    uint64_t armed_by[3]     # the calls that armed its timers, by TIMER_*
    uint32_t nr_handlers
    entered_t handlers[HANDLERS]

cdef enum:
    PLACES = 64              # a power of two

ctypedef struct place_t:     # where a page table was found
    uint64_t table           # 0 is none
    uint64_t va              # the first address that it maps

ctypedef struct trace_t:     # of a machine; NULL while nobody listens
    uint8_t *buffer
    uint64_t size
    uint64_t used            # bytes of complete records
    uint64_t last_id         # of the latest record; the first one is 1
    uint64_t current         # the record whose effects are under way: the cause of the next; 0 is none
    void *sink               # Python callable(bytes) that takes the records
    void *failed             # Python callable(exception), for what `sink` raises
    place_t places[PLACES]   # by table % PLACES

ctypedef struct active_t:    # a grant that somebody uses; one for each entry of the table
    uint32_t pin             # four counters of 8 bits: PIN_*
    uint16_t domid           # who uses it
    uint16_t start           # the part that may be copied
    uint16_t length
    uint8_t is_sub_page      # of a part, or of another domain's grant: it can not be mapped
    uint8_t pad
    uint16_t source_domid    # whose grant it really is, and which: its own, but for a transitive one
    uint16_t pad2
    uint32_t source_ref
    uint64_t mfn

ctypedef struct mapping_t:   # a handle: a mapping of another domain's grant
    uint32_t ref             # of a free one: the next free one
    uint16_t flags           # GNTMAP_*; 0 is free
    uint16_t domid
    uint32_t vcpu            # into whose queue it goes back

ctypedef struct handles_t:   # a vCPU's free handles, a queue: the last one is never handed out
    uint32_t head
    uint32_t tail

ctypedef struct foreign_t:   # references that a domain holds on one frame of another domain
    uint64_t tag             # its mfn + 1; 0 is none
    uint32_t reads           # of page-table entries, or of hv's views for domain 0
    uint32_t writes
    uint32_t device_reads    # of device mappings, which no page table shows
    uint32_t device_writes

# How grants are written down: one table for each version, chosen by GNTTABOP_set_version. A ref is one of the table.
ctypedef struct grant_ops_t:
    uint32_t version
    uint32_t entry_shift     # log2 of its size
    xen_grant_entry_header *(*header)(grant_table_t *t, uint32_t ref) noexcept nogil
    uint16_t *(*status)(grant_table_t *t, uint32_t ref) noexcept nogil         # where reading and writing are noted
    uint64_t (*frame)(grant_table_t *t, uint32_t ref) noexcept nogil
    void (*set_frame)(grant_table_t *t, uint32_t ref, uint64_t mfn) noexcept nogil
    void (*part)(grant_table_t *t, uint32_t ref, active_t *a) noexcept nogil   # which part may be copied
    bint (*transitive)(grant_table_t *t, uint32_t ref, active_t *a) noexcept nogil     # and then, whose grant it is
    int (*set_status)(grant_table_t *t, uint32_t ref, const active_t *a, bint readonly, bint mapping,
                      uint32_t domid) noexcept nogil
    void (*swap)(grant_table_t *t, uint32_t a, uint32_t b) noexcept nogil

ctypedef struct grant_table_t:
    domain_t *domain
    const grant_ops_t *ops
    uint32_t max_version
    uint32_t max_frames
    uint32_t max_maptrack_frames
    uint32_t nr_frames
    uint32_t nr_status_frames
    uint64_t *mfns           # of the table's frames; hv's own, which the domain may map
    uint64_t *status_mfns    # version 2 keeps the status words apart
    active_t *active
    mapping_t *maptrack      # what this domain has mapped, by handle
    uint32_t nr_handles
    handles_t[VCPU_LIMIT] free      # handles, by vCPU
    foreign_t *foreign       # hash table of the frames that it holds
    uint32_t foreign_size    # a power of 2, or 0
    uint32_t foreign_used

ctypedef struct vcpu_t:
    domain_t *domain
    uint32_t id
    uint8_t pause            # PAUSE_*; see vcpu.pyx
    uint8_t kernel_mode      # guest kernel or guest user
    uint8_t initialised
    uint8_t failsafe_masks   # whether the callback's entry masks events
    uint8_t syscall_masks
    uint8_t syscall32_masks
    uint8_t sysenter_masks
    uint8_t nmi_pending      # VCPUOP_send_nmi; delivered on the way to the guest
    uint8_t nmi_masked       # from its delivery to the next iret
    uint8_t iopl             # 0..3, by PHYSDEVOP_set_iopl
    uint8_t ts               # CR0.TS as the guest set it
    uint8_t poll_all         # of a vCPU that polls: for any port, not only poll_port
    uint64_t kernel_root     # mfn of the L4 of guest kernel mode
    uint64_t user_root       # mfn of the L4 of guest user mode; 0 is none
    uint64_t kernel_sp
    uint64_t kernel_ss
    uint64_t event_callback
    uint64_t failsafe_callback
    uint64_t syscall_callback
    uint64_t syscall32_callback
    uint64_t sysenter_callback
    uint64_t fs_base
    uint64_t gs_base_user    # the inactive base in kernel mode
    uint64_t gs_base_kernel  # the inactive base in user mode
    uint64_t cr2
    uint64_t cr4             # as the guest sees it
    uint32_t tsc_aux         # what rdtscp puts into ecx
    uint64_t mcg_status      # an MSR that the guest may write
    uint64_t io_bitmap       # PHYSDEVOP_set_iobitmap: its address in the guest, and how many ports it has
    uint32_t io_ports
    uint64_t dr[8]
    uint64_t dr7_io          # the bits of DR7 that enable I/O breakpoints
    uint8_t breakpoints      # bits 0-3: DR0-DR3 that stop execution (see breakpoints.pyx)
    uint8_t watchpoints      # bits 0-3: those that watch data
    uint8_t watching         # an instruction that touches watched data is run again, alone
    uint8_t watch_hits       # what it touched: becomes its #DB
    uint64_t gdt_frames[14]
    uint32_t gdt_entries
    uint32_t ldt_entries
    uint64_t ldt_base
    uint64_t ldt_frames[16]  # of its pages that the CPU has read; each holds a reference as segment descriptors
    uint64_t singleshot      # deadlines in ticks; 0 is unarmed
    uint64_t periodic
    uint64_t period          # ns; 0 is none
    uint64_t periodic_last   # ns: when the last event of the periodic timer was due
    uint64_t poll_deadline
    uint32_t poll_port
    uint32_t virq_port[32]
    uint64_t info_mfn
    xen_vcpu_info *info      # in shared_info, or where the guest registered it
    xen_vcpu_info own_info   # of vCPUs that have no place in shared_info, until they register one
    xen_vcpu_runstate_info runstate
    uint64_t runstate_area   # guest addresses that are kept up to date; 0 is none
    uint64_t time_area
    uint64_t exceptions[32]  # how many of each were delivered
    uint64_t upcalls
    tracing_t tracing
    trap_t traps[256]
    uint8_t context[CONTEXT_SIZE]

# The latest of what happened to a domain, for crash reports. Written on the hottest paths: plain stores only.
cdef enum:
    HISTORY = 16             # records of each kind; a power of two
    ENTRY_UPCALL = 256       # in the place of a vector: the event callback

ctypedef struct call_record_t:
    uint64_t ticks           # base + length of the clock: 0 with the host's clock
    uint64_t number
    uint64_t args[4]         # after a preempted part: those it goes on with
    int64_t result
    uint32_t vcpu
    uint32_t in_multicall    # an element of the multicall that follows it

ctypedef struct entry_record_t:
    uint64_t ticks
    uint64_t rip             # where the guest was
    uint64_t address         # of a page fault
    uint32_t error
    uint32_t vcpu
    uint16_t vector          # or ENTRY_UPCALL
    uint8_t software         # `int n`
    uint8_t kernel_mode      # whom it interrupted

# The debugger's breakpoints (points.pyx). The kinds are bits: a row may have several.
cdef enum:
    POINT_ADDRESS = 1        # an instruction is about to run
    POINT_CALL = 2           # a hypercall is about to be made
    POINT_RETURN = 4         # it has its result
    POINT_EVENT = 8          # a port became pending
    POINT_UPCALL = 16        # the event callback is entered while a port is pending
    POINT_VECTOR = 32        # an exception enters the guest
    POINT_READ = 64
    POINT_WRITE = 128
    OBSERVED_TRACE = 256     # not of a row: a trace is attached to the machine
    OBSERVED_POINTS = 255
    HIT_WORDS = 8

ctypedef struct point_t:
    uint32_t id              # the debugger's name for it
    uint32_t kinds
    uint64_t first           # addresses, hypercall numbers, ports or vectors: a range
    uint64_t last

ctypedef struct hit_t:
    uint32_t id
    uint32_t kind
    uint32_t domid
    uint32_t vcpu
    uint64_t words[HIT_WORDS]    # by kind: see points.pyx

# What a step of the debugger ends at, besides the number of instructions.
cdef enum:
    STEP_COUNT = 0
    STEP_RETURN = 1          # behind a return to a caller of where it began
    STEP_BEYOND = 2          # the same, or at a higher address of the same frame

ctypedef struct step_t:
    uint32_t kind
    uint32_t domid           # of the vCPU whose instructions count
    uint32_t vcpu
    uint8_t anybody          # every vCPU's count
    uint8_t kernel_mode      # where it began: mode, stack pointer, address
    uint8_t returning        # what the last instruction was: RETURN_*
    uint8_t pad
    uint64_t sp
    uint64_t pc

ctypedef struct event_record_t:
    uint64_t ticks
    uint32_t port
    uint32_t vcpu            # whom the port notified then

cdef enum:
    SEEN_PAGES = 64
    USER_PAGES = 48

cdef enum:                   # how much of the TLB has to go (see tlb.pyx)
    FLUSH_NOTHING = 0
    FLUSH_USER = 1           # what belongs to one address space
    FLUSH_ALL = 2

ctypedef struct seen_t:      # a translation that a copy from or to the guest has walked for
    uint64_t tag             # its virtual page number + 1; 0 is none
    uint64_t mfn
    uint64_t prot

ctypedef struct domain_t:
    machine_t *machine
    uint32_t domid
    uint32_t nr_vcpus
    vcpu_t *vcpus
    vcpu_t *current          # whose context is in `env`; NULL before the first
    void *uc
    void *cpu
    void *env
    void *python             # the GuestDomain object
    uint8_t inside           # between uc_emu_start and its return: rflags are lazy
    uint8_t need_flush       # FLUSH_*: of the TLB, before the guest goes on
    seen_t seen[SEEN_PAGES]  # a TLB for hv's own copies, of the vCPU that runs; dropped with the CPU's
    uint8_t kernel_changed   # an entry that may be in the TLB, and is no process's, has changed: flush where Xen loads CR3
    uint8_t cpu_filled       # the TLB holds what the CPU itself has read; it belongs to one mode
    uint32_t flushed_at      # the epoch of the last complete flush
    uint32_t nr_user_pages   # in the list; more than USER_PAGES: too many
    uint64_t user_pages[USER_PAGES]     # what the TLB holds of one address space only
    uint8_t dying            # 1: shut down or crashed, do not run
    uint8_t crashed
    uint8_t shutdown_code
    uint8_t shutdown_said    # SCHEDOP_shutdown_code has fixed the code of a later shutdown
    uint8_t in_multicall
    uint8_t paused           # by the API: not scheduled
    uint8_t pad
    uint16_t observed        # POINT_* of the debugger's breakpoints, OBSERVED_TRACE; 0, the fast answer: nobody looks
    uint32_t weight          # its share of the CPU
    uint64_t used            # of the CPU, by its weight: scheduler.pyx
    uint32_t turn            # its vCPU that had the last turn
    uint32_t cap             # % of the CPU that it may have; 0 is no limit
    int64_t budget           # what is left of that in this period, in ticks
    uint64_t refill_at       # when the next period begins, in ticks; 0: the budget is full
    uint64_t vm_assist
    uint64_t nr_pages
    uint64_t max_pages
    uint64_t shared_mfn
    xen_shared_info *shared
    const port_ops_t *port_ops
    fifo_t *fifo             # NULL with the 2-level ABI
    port_t *ports            # room for every port up to max_port
    uint32_t nr_ports        # valid ones: they come in buckets of 64
    uint32_t max_port        # highest port the domain may use
    uint32_t first_closed    # no port below is closed
    uint64_t polling         # vCPUs that are blocked in SCHEDOP_poll: an event of their port, or of any, wakes them
    uint64_t hypercall_count[64]
    uint64_t watchdog[2]     # deadlines in ticks; 0 is not in use
    receiver_t *receiver     # domain 0 only: hv takes its events itself
    grant_table_t *grants
    uint8_t granted_in_tlb   # since its last flush a granted frame may have come into the TLB
    domain_t *next_zombie
    uint64_t held            # of a zombie: references that other domains hold on its frames
    char reason[REASON_SIZE]
    uint64_t crash_cr2
    uint8_t crash_has_cr2
    uint64_t nr_calls        # hypercalls ever recorded: the next goes to nr_calls % HISTORY
    uint64_t nr_entries
    call_record_t calls[HISTORY]
    entry_record_t entries[HISTORY]
    uint64_t nr_events
    event_record_t events[HISTORY]
    point_t *points
    uint32_t nr_points

ctypedef struct budget_t:        # generated code counts here
    int64_t left             # ticks; a block that ends behind them is looked at closer
    void *block              # the block that is charged whole and may turn out shorter; NULL is none

ctypedef struct machine_t:
    uint8_t *ram
    uint64_t nr_frames
    frame_t *frames
    uint64_t *m2p            # inside ram: the guests' read-only machine-to-physical table
    uint64_t m2p_mfn
    uint64_t m2p_frames
    uint64_t gdt_mfn         # the page with the flat selectors, last of every GDT
    uint64_t next_frame      # of the never used ones, before the reversal within chunks
    uint64_t free_head       # chain of freed frames through the M2P
    # clock, in ticks of 1/4 ns: what has been charged is limit - left
    budget_t *budget         # in the CPU state of the domain while guest code runs, else `own_budget`
    budget_t own_budget
    uint64_t limit
    uint64_t hard            # next deadline that must be met at its instruction
    uint64_t soft            # next deadline where any block boundary will do
    uint64_t armed_at
    uint8_t armed
    uint8_t stepping
    uint8_t mode
    uint8_t stop
    uint8_t fetch_fault
    uint8_t noncanonical     # the #GP is about an address: #SS for the stack
    uint64_t return_address  # into generated code, while a wrapped instruction runs
    uint8_t int_length       # bytes of the `int n` that runs
    uint8_t pad[3]
    uint64_t retry_at        # a block that straddles pages was cut to one instruction here
    uint64_t steps_left
    uint64_t slice_end
    uint64_t until
    uint64_t next_timer
    uint64_t wake_at
    int64_t host_offset      # host ns that belong to tick 0
    uint64_t held_at         # the host clock's ticks while no guest code runs; 0: look at the clock
    int64_t idle_since       # paced clock: host ns when it was moved last while no vCPU can run; 0 where one can
    int64_t behind           # paced clock: ns that are still to be made up
    int64_t host_poll        # host ns of the next look at the host
    uint8_t running_now      # inside Engine.run
    uint8_t in_slice         # the vCPU at `turn` has not used up its time slice
    uint32_t nr_domains
    domain_t **domains       # index is an arbitrary slot; domain 0 first
    uint32_t capacity
    xen_vcpu_info *host      # domain 0's: whether an event waits for hv itself
    xen_vcpu_info nobody     # the same while there is no domain 0
    domain_t *zombies        # destroyed, but frames of theirs are still mapped by others
    vcpu_t *on_cpu           # whose run state is running; NULL: the machine idles
    uint32_t turn            # the slot of the domain that had the last turn
    uint64_t used            # of whoever had the last turn: nobody is far behind it
    uint64_t charged_at      # up to where on_cpu has paid for the CPU, in ticks
    uint64_t blocks_stepped
    uint32_t epoch           # counts complete TLB flushes of all domains; stays at its end
    uint64_t tlb_flushes     # complete ones
    uint64_t tlb_fills
    domain_t *running
    # the debugger
    step_t step
    hit_t *hits              # since the last stop, in the order in which they happened
    uint32_t nr_hits
    uint32_t hit_room
    hit_t lost_hit
    vcpu_t *stopped          # where the last stop was: its breakpoints have had their turn
    uint64_t stopped_at
    uint64_t stopped_ticks
    uint8_t stopped_by_call  # that of its hypercall too
    vcpu_t *part_of          # a call of it is made in parts, at this rip
    uint64_t part_at
    uint8_t undelivered      # the last stop left a pending upcall that was not due: it still is not
    trace_t *trace           # NULL: nobody listens


cdef inline uint64_t charged(machine_t *m) noexcept nogil:
    """The guests' progress in ticks: the virtual time (the host's clock has another, clock.ticks)."""
    return m.limit - <uint64_t>m.budget.left if m.budget.left >= 0 else m.limit + <uint64_t>-m.budget.left     # one subtraction to the compiler


cdef inline void forget_seen(domain_t *d) noexcept nogil:
    cdef int i
    for i in range(SEEN_PAGES):
        d.seen[i].tag = 0


cdef inline void request_flush(domain_t *d) noexcept nogil:
    """No translation of before may be used: by hv from now on, by the guest when it goes on."""
    d.need_flush = FLUSH_ALL
    forget_seen(d)


cdef inline bint is_polling(const vcpu_t *v) noexcept nogil:
    return v.domain.polling >> v.id & 1
