# cython: language_level=3
"""The CPU: one Unicorn instance a domain, the functions wrapped at link time, the private-layout self-check.

Rules:
* Only this module is linked with libunicorn; everything else goes through its handful of functions.
* A wrapped function finds its domain in a thread-local set by enter(); only the self-check runs without one.
* No callback holds the GIL when it leaves by a long jump.

Theory: a guest instruction that concerns the hypervisor ends in one of Unicorn's C helpers. `ld --wrap` puts the
functions below in their place, which costs nothing beside a hook. Page tables are walked by hv.fastpath.memory at
every TLB fill, so no mapping enters the TLB that hv has not checked.

The TLB policy (stores to pages that are executable take a slow path): a frame is data until its first fetch; data
fills of a data frame lose EXEC and so get fast stores; the first fetch makes it a code frame and flushes the TLB;
data fills of a code frame keep the slow, coherent path through every alias.

Rings: on Xen both modes of a PV64 guest are ring 3. Here its kernel runs at CPL 1 (the guest can not see it), because
Unicorn keeps a TLB for ring 3 and another for lower rings: a switch between the modes needs no flush. Instructions that
look at the CPL, or read descriptors, are wrapped (rings.pxi) and find 3, with a third TLB for what the CPU itself reads.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset
from hv.engine.stepping cimport uncount_step
from hv.engine.unicorn cimport *
from hv.fastpath.breakpoints cimport arm, own_stops_ahead, watches, watches_page
from hv.fastpath.memory cimport (ACCESS_FETCH, ACCESS_WRITE, PROT_EXEC, PROT_WRITE, WALK_NONCANONICAL, WALK_OK,
                                 active_root, walk, walk_t, set_code_listener)
from hv.fastpath.points cimport note_access, points_in_page, stops_ahead
from hv.fastpath.state cimport (CONTEXT_SIZE, FLUSH_ALL, FRAME_GRANTED, PAGE_SHIFT, PAGE_SIZE, POINT_ADDRESS, POINT_READ,
                                POINT_WRITE, SEEN_PAGES, USER_PAGES, budget_t, charged, domain_t, forget_seen, frame_t, machine_t,
                                request_flush, vcpu_t)
from hv.fastpath.tlb cimport is_filled, is_flushed, may_be_used, root_changes

from time import perf_counter_ns

from hv.errors import EngineError

cdef extern from * nogil:
    """
    /* The domain whose instance runs on this thread; initial-exec saves a call at every use (static TLS has room). */
    static __thread void *hv_running __attribute__((tls_model("initial-exec")));
    #define HV_RETURN_ADDRESS ((uintptr_t)__builtin_return_address(0))
    #define HV_SET_CFLAGS(cpu, value) (HV_CFLAGS_NEXT(cpu) = (value))
    extern unsigned char __real_x86_cpu_tlb_fill_x86_64(void *, uint64_t, int, int, int, unsigned char, uintptr_t);
    extern void __real_tlb_reset_dirty_by_vaddr_x86_64(void *, uint64_t, uint64_t);
    extern void __real_helper_syscall_x86_64(hv_env *, int);
    extern void __real_helper_raise_interrupt_x86_64(hv_env *, int, int);
    extern void __real_helper_cpuid_x86_64(hv_env *);
    extern void __real_helper_rdtsc_x86_64(hv_env *);
    extern void __real_helper_check_exit_request_x86_64(void *, uint32_t);
    extern unsigned char cpu_restore_state_x86_64(void *cpu, uintptr_t pc, unsigned char will_exit);
    extern void tb_flush_x86_64(void *cpu);
    extern void cpu_x86_cpuid_x86_64(hv_env *, uint32_t, uint32_t, uint32_t *, uint32_t *, uint32_t *, uint32_t *);
    """
    void *hv_running
    uintptr_t HV_RETURN_ADDRESS
    void HV_SET_CFLAGS(void *cpu, uint32_t value)
    uint8_t __real_x86_cpu_tlb_fill_x86_64(void *, uint64_t, int, int, int, uint8_t, uintptr_t)
    void __real_tlb_reset_dirty_by_vaddr_x86_64(void *, uint64_t, uint64_t)
    void __real_helper_syscall_x86_64(hv_env *, int)
    void __real_helper_raise_interrupt_x86_64(hv_env *, int, int)
    void __real_helper_cpuid_x86_64(hv_env *)
    void __real_helper_rdtsc_x86_64(hv_env *)
    void __real_helper_check_exit_request_x86_64(void *, uint32_t)
    uint8_t cpu_restore_state_x86_64(void *cpu, uintptr_t pc, uint8_t will_exit)
    void tb_flush_x86_64(void *cpu)
    void cpu_x86_cpuid_x86_64(hv_env *, uint32_t, uint32_t, uint32_t *, uint32_t *, uint32_t *, uint32_t *)


cdef enum:
    MMU_CPU = 0                  # reads of the CPU itself in a wrapped instruction: descriptors, stacks
    MMU_USER = 1                 # guest user mode
    MMU_KERNEL = 2               # guest kernel mode
    TCG_BUFFER = 67108864        # bytes of translated code, reserved, not touched
    EXCEPTION_GP = 13
    EXCEPTION_PF = 14
    EXCEPTION_UD = 6
    CR4_TSD = 4


# --- wrapped functions ------------------------------------------------------------------------------------------

cdef public uint8_t __wrap_x86_cpu_tlb_fill_x86_64(void *cpu, uint64_t va, int size, int access, int mmu_idx,
                                                   uint8_t probe, uintptr_t ra) noexcept nogil:
    cdef domain_t *d = <domain_t *>hv_running
    cdef hv_env *env
    cdef walk_t w
    cdef int rc
    if d == NULL or d.current == NULL:          # the self-check
        return __real_x86_cpu_tlb_fill_x86_64(cpu, va, size, access, mmu_idx, probe, ra)
    rc = walk(d.current, _root_of(d.current, mmu_idx), va, access, mmu_idx != MMU_CPU, &w)
    if rc == WALK_OK:
        if (d.current.watchpoints or d.observed & (POINT_READ | POINT_WRITE)) and not probe:
            _watch(d, va, size, access, ra)
        _fill(d, va, access, mmu_idx, &w)
        return 1
    if probe:
        return 0
    env = <hv_env *>d.env
    env.old_exception = -1
    d.machine.fetch_fault = access == ACCESS_FETCH
    if rc == WALK_NONCANONICAL:
        d.machine.noncanonical = 1
        raise_exception_err_ra_x86_64(env, EXCEPTION_GP, 0, ra)
    env.cr[2] = va
    raise_exception_err_ra_x86_64(env, EXCEPTION_PF, w.error, ra)
    return 0


cdef void _watch(domain_t *d, uint64_t va, int size, int access, uintptr_t ra) noexcept nogil:
    """Watched data is touched: run the instruction alone, because its #DB, or the debugger's stop, comes behind it."""
    cdef vcpu_t *v = d.current
    cdef uint32_t hits = watches(v, va, size, access)
    cdef uint64_t rip = (<hv_env *>d.env).eip
    if not note_access(v, va, size, access, rip, look=not v.watching) and not hits:
        return
    if v.watching:
        v.watch_hits |= hits
        return
    cpu_restore_state_x86_64(d.cpu, ra, 1)
    uncount_step(v)
    v.watching = 1
    d.machine.armed = 1
    d.machine.armed_at = (<hv_env *>d.env).eip + (<hv_env *>d.env).segs[SEG_CS].base
    HV_SET_CFLAGS(d.cpu, 1)
    d.machine.limit = charged(d.machine)        # no budget: the block behind it is looked at closer
    d.machine.budget.left = 0
    cpu_loop_exit_noexc_x86_64(d.cpu)


cdef uint64_t _root_of(vcpu_t *v, int mmu_idx) noexcept nogil:
    if mmu_idx == MMU_CPU:
        v.domain.cpu_filled = 1                     # what this TLB holds belongs to the mode of now
        return active_root(v)
    return v.user_root if mmu_idx == MMU_USER else v.kernel_root


cdef void _fill(domain_t *d, uint64_t va, int access, int mmu_idx, walk_t *w) noexcept nogil:
    """Put one translation into the TLB under the policy above."""
    cdef frame_t *frame = &d.machine.frames[w.mfn]
    cdef uint32_t bit = <uint32_t>1 << (d.domid & 31)
    cdef uint64_t size = PAGE_SIZE
    cdef hv_attributes attributes
    attributes.unspecified = 1
    if access == ACCESS_FETCH:
        if not frame.code & bit or frame.flags & FRAME_GRANTED:
            _becomes_code(d, frame, bit)
    elif not frame.code & bit:
        w.prot &= ~PROT_EXEC
    elif w.prot & PROT_WRITE and not w.prot & PROT_EXEC:
        size = 1            # a writable no-execute alias of code: checked again at every access, never fast
    if frame.flags & FRAME_GRANTED and frame.code and access != ACCESS_FETCH:
        size = 1            # every store comes here, and drops what other domains have translated of it
        if access == ACCESS_WRITE:
            _drop_code(d.machine, w.mfn, d)
    if (d.current.watchpoints and watches_page(d.current, va)) or (d.observed & (POINT_READ | POINT_WRITE) and points_in_page(d, va)):
        if access == ACCESS_FETCH:
            w.prot = PROT_EXEC              # a page is either fetched from or watched; the other comes here again
        else:
            w.prot &= ~PROT_EXEC
            size = 1
    d.machine.tlb_fills += 1
    is_filled(d, va, mmu_idx == MMU_KERNEL, w)
    tlb_set_page_with_attrs_x86_64(d.cpu, va & ~<uint64_t>(PAGE_SIZE - 1), w.mfn << PAGE_SHIFT, attributes, w.prot,
                                   mmu_idx, size)


cdef public void __wrap_tlb_reset_dirty_by_vaddr_x86_64(void *cpu, uint64_t va, uint64_t length) noexcept nogil:
    """A block of this page has been translated. By the policy above no TLB has fast stores to it: there is nothing to search."""
    if hv_running == NULL:
        __real_tlb_reset_dirty_by_vaddr_x86_64(cpu, va, length)


cdef void _becomes_code(domain_t *d, frame_t *frame, uint32_t bit) noexcept nogil:
    """A fetch from a data frame, or from one that other domains may be able to write: no TLB may have fast stores to it."""
    cdef machine_t *m = d.machine
    cdef uint32_t i
    if not frame.code & bit:
        frame.code |= bit
        if may_be_used(d, frame):
            flush_tlb(d)
    if frame.flags & FRAME_GRANTED:
        for i in range(m.nr_domains):
            if m.domains[i] != d:
                request_flush(m.domains[i])


cdef public void __wrap_restore_state_to_opc_x86_64(hv_env *env, hv_block *block, uint64_t *data) noexcept nogil:
    """The only place where Unicorn recovers a pc in mid-block: take back what the clock was charged too much."""
    cdef domain_t *d = <domain_t *>hv_running
    __real_restore_state_to_opc_x86_64(env, block, data)
    if d != NULL and d.machine.budget.block == block:
        block_ends_at(d.machine, data[0])


cdef void block_ends_at(machine_t *m, uint64_t pc) noexcept nogil:
    """The block that runs was charged whole and has come to `pc` only (behind its last byte: all of it)."""
    cdef hv_block *block = <hv_block *>m.budget.block
    m.budget.block = NULL
    if block != NULL and pc >= block.pc and pc - block.pc <= block.size:
        m.budget.left += <int64_t>(block.size - (pc - block.pc))


cdef public void __wrap_helper_syscall_x86_64(hv_env *env, int addend) noexcept nogil:
    cdef domain_t *d = <domain_t *>hv_running
    if d == NULL:
        __real_helper_syscall_x86_64(env, addend)
        return
    handlers.syscall(d.current)


cdef public void __wrap_helper_check_exit_request_x86_64(void *uc, uint32_t in_delay_slot) noexcept nogil:
    """A block is entered and the clock's budget is used up (see codegen.pxi)."""
    cdef domain_t *d = <domain_t *>hv_running
    cdef hv_block *block
    if d == NULL:
        __real_helper_check_exit_request_x86_64(uc, in_delay_slot)
        return
    block = <hv_block *>d.machine.budget.block
    d.machine.budget.left += block.size                # nothing of it has run
    d.machine.budget.block = NULL
    (<hv_env *>d.env).eip = block.pc - block.cs_base
    handlers.block(d.machine, block.pc, block.size)
    d.machine.budget.left -= block.size
    d.machine.budget.block = block


cdef public void __wrap_helper_cpuid_x86_64(hv_env *env) noexcept nogil:
    cdef domain_t *d = <domain_t *>hv_running
    if d == NULL:
        __real_helper_cpuid_x86_64(env)
    else:
        handlers.cpuid(d.current)


cdef public void __wrap_helper_rdtsc_x86_64(hv_env *env) noexcept nogil:
    _read_tsc(env, HV_RETURN_ADDRESS)


cdef public void __wrap_helper_rdtscp_x86_64(hv_env *env) noexcept nogil:
    cdef domain_t *d = <domain_t *>hv_running
    _read_tsc(env, HV_RETURN_ADDRESS)
    env.regs[RCX] = d.current.tsc_aux if d != NULL else 0


cdef void _read_tsc(hv_env *env, uintptr_t ra) noexcept nogil:
    """The guest may have made it privileged (CR4.TSD): then it does not return, and emulate.pyx decides."""
    cdef domain_t *d = <domain_t *>hv_running
    cdef uint64_t now
    if d == NULL:
        __real_helper_rdtsc_x86_64(env)
        return
    if d.current.cr4 & CR4_TSD:
        env.old_exception = -1
        raise_exception_err_ra_x86_64(env, EXCEPTION_GP, 0, ra)
    now = handlers.tsc(d.current)
    env.regs[RAX] = <uint32_t>now
    env.regs[RDX] = now >> 32


cdef public void __wrap_helper_raise_interrupt_x86_64(hv_env *env, int vector, int length) noexcept nogil:
    """`int n`: its length, prefixes included, is known only here."""
    cdef domain_t *d = <domain_t *>hv_running
    if d != NULL:
        d.machine.int_length = length
    __real_helper_raise_interrupt_x86_64(env, vector, length)


include "refused.pxi"
include "codegen.pxi"
include "rings.pxi"
include "plain_hook.pxi"


# --- hooks ------------------------------------------------------------------------------------------------------

cdef void _on_interrupt(uc_engine *uc, uint32_t vector, void *user) noexcept nogil:
    cdef domain_t *d = <domain_t *>user
    (<hv_env *>d.env).old_exception = -1
    handlers.exception(d.current, vector)


cdef bint _on_invalid(uc_engine *uc, void *user) noexcept nogil:
    cdef domain_t *d = <domain_t *>user
    (<hv_env *>d.env).old_exception = -1
    (<hv_env *>d.env).exception_is_int = 0
    (<hv_env *>d.env).error_code = 0
    handlers.exception(d.current, EXCEPTION_UD)
    return True


# --- what the rest of the engine calls --------------------------------------------------------------------------

cdef int open_instance(domain_t *d, uint64_t ram_size) noexcept:
    """0, or Unicorn's error number."""
    cdef uc_engine *uc = NULL
    cdef uc_hook hook
    cdef hv_env *env
    cdef int rc = _open(&uc)
    if rc:
        return rc
    rc = uc_mem_map_ptr(uc, 0, ram_size, UC_PROT_ALL, d.machine.ram)
    if rc == 0:
        rc = uc_hook_add(uc, &hook, UC_HOOK_INTR, <void *>_on_interrupt, d, 1, 0)
    if rc == 0:
        rc = uc_hook_add(uc, &hook, UC_HOOK_INSN_INVALID, <void *>_on_invalid, d, 1, 0)
    if rc:
        uc_close(uc)
        return rc
    d.uc = uc
    d.cpu = HV_CPU_OF(uc)
    env = HV_ENV_OF(d.cpu)
    d.env = env
    cpu_x86_update_cr0_x86_64(env, 0x80050033)          # PG AM WP NE ET MP PE, as Xen runs
    cpu_x86_update_cr4_x86_64(env, 0x006a0 | 0x40000)   # PAE PGE OSFXSR OSXMMEXCPT OSXSAVE
    env.gdt.limit = 0xffff
    return 0


cdef int _open(uc_engine **uc) noexcept:
    cdef uint64_t rip
    cdef int rc = uc_open(UC_ARCH_X86, UC_MODE_64, uc)
    if rc:
        return rc
    rc = uc_ctl_set_cpu_model(uc[0], UC_CPU_X86_EPYC)
    if rc == 0:
        rc = uc_ctl_set_tcg_buffer_size(uc[0], TCG_BUFFER)
    if rc == 0:
        rc = uc_ctl_exits_enable(uc[0])
    if rc == 0:
        rc = uc_reg_read(uc[0], UC_X86_REG_RIP, &rip)   # Unicorn makes the CPU at the first use
    if rc:
        uc_close(uc[0])
    return rc


cdef void close_instance(domain_t *d) noexcept:
    if d.uc != NULL:
        uc_close(<uc_engine *>d.uc)
        d.uc = d.cpu = d.env = NULL


cdef int enter(domain_t *d) noexcept nogil:
    global hv_running
    cdef int rc
    cdef void *outer = hv_running
    cdef machine_t *m = d.machine
    hv_running = d
    d.inside = 1
    m.budget = <budget_t *>(<uint8_t *>d.env + HV_BUDGET)
    m.budget[0] = m.own_budget
    rc = uc_emu_start(<uc_engine *>d.uc, (<hv_env *>d.env).eip, 0, 0, 0)
    m.own_budget = m.budget[0]
    m.budget = &m.own_budget
    d.inside = 0
    hv_running = outer
    return rc


cdef void leave(domain_t *d) noexcept nogil:
    uc_emu_stop(<uc_engine *>d.uc)


cdef void leave_now(domain_t *d) noexcept nogil:
    uc_emu_stop(<uc_engine *>d.uc)
    cpu_loop_exit_noexc_x86_64(d.cpu)


cdef void restart_block(domain_t *d) noexcept nogil:
    cpu_loop_exit_noexc_x86_64(d.cpu)


cdef void one_instruction_next(domain_t *d) noexcept nogil:
    HV_SET_CFLAGS(d.cpu, 1)


cdef void flush_tlb(domain_t *d) noexcept nogil:
    is_flushed(d)
    tlb_flush_x86_64(d.cpu)


cdef void flush_user(domain_t *d) noexcept nogil:
    """What belongs to one address space, or to one mode."""
    cdef uint32_t i
    if d.nr_user_pages > USER_PAGES:
        flush_tlb(d)
        return
    for i in range(d.nr_user_pages):
        tlb_flush_page_x86_64(d.cpu, d.user_pages[i])
    d.need_flush = d.cpu_filled = 0
    d.nr_user_pages = 0
    forget_seen(d)


cdef void flush_wanted(domain_t *d) noexcept nogil:
    """Before the guest goes on."""
    if d.need_flush == FLUSH_ALL:
        flush_tlb(d)
    elif d.need_flush:
        flush_user(d)


cdef void debug_registers_changed(vcpu_t *v) noexcept nogil:
    """After a write to DR0-DR3 or DR7 of the vCPU that runs; what has been translated knows the old ones."""
    cdef uint8_t breakpoints = v.breakpoints
    arm(v)
    if breakpoints or v.breakpoints:
        tb_flush_x86_64(v.domain.cpu)
        v.domain.machine.budget.block = NULL
    request_flush(v.domain)


cdef void forget_code(domain_t *d) noexcept nogil:
    """What has been translated was made for other breakpoints. Not while the domain runs."""
    tb_flush_x86_64(d.cpu)


cdef void flush_page(domain_t *d, uint64_t va) noexcept nogil:
    d.seen[(va >> PAGE_SHIFT) % SEEN_PAGES].tag = 0
    tlb_flush_page_x86_64(d.cpu, va)


cdef void _code_written(machine_t *m, uint64_t mfn) noexcept nogil:
    """Drop translated code of a frame that was written from outside, in every instance that may hold some."""
    _drop_code(m, mfn, NULL)


cdef void _drop_code(machine_t *m, uint64_t mfn, const domain_t *writer) noexcept nogil:
    """The same for a store of a guest, whose own instance sees to itself."""
    cdef uint32_t i
    cdef domain_t *d
    for i in range(m.nr_domains):
        d = m.domains[i]
        if d != writer and d.uc != NULL and m.frames[mfn].code & (<uint32_t>1 << (d.domid & 31)):
            tb_invalidate_phys_range_x86_64(d.uc, mfn << PAGE_SHIFT, (mfn + 1) << PAGE_SHIFT)


cdef uint64_t get_flags(domain_t *d) noexcept nogil:
    """The complete rflags; Unicorn keeps the condition codes apart while it runs."""
    cdef hv_env *env = <hv_env *>d.env
    return helper_read_eflags_x86_64(env) if d.inside else env.eflags


cdef void set_flags(domain_t *d, uint64_t flags) noexcept nogil:
    cdef hv_env *env = <hv_env *>d.env
    flags |= 2
    if not d.inside:
        env.eflags = flags
        return
    env.cc_src = flags & FLAGS_CC
    env.cc_op = CC_OP_EFLAGS
    env.df = -1 if flags & FLAG_DF else 1
    env.eflags = flags & ~<uint64_t>(FLAGS_CC | FLAG_DF)


cdef void save_context(vcpu_t *v) noexcept nogil:
    """Outside only: rflags are complete then."""
    memcpy(v.context, v.domain.env, CONTEXT_SIZE)


cdef void load_context(vcpu_t *v) noexcept nogil:
    if v.breakpoints or (v.domain.current != NULL and v.domain.current.breakpoints):
        tb_flush_x86_64(v.domain.cpu)
    memcpy(v.domain.env, v.context, CONTEXT_SIZE)
    root_changes(v.domain, v.domain.current.kernel_root if v.domain.current != NULL else 0, v.kernel_root)
    v.domain.current = v
    flush_wanted(v.domain)


cdef void set_task_switched(vcpu_t *v, bint on) noexcept nogil:
    cdef hv_env *env = <hv_env *>v.domain.env
    v.ts = on
    cpu_x86_update_cr0_x86_64(env, <uint32_t>((env.cr[0] & ~<uint64_t>8) | (8 if on else 0)))


cdef void model_cpuid(domain_t *d, uint32_t leaf, uint32_t subleaf, uint32_t *out) noexcept nogil:
    cpu_x86_cpuid_x86_64(<hv_env *>d.env, leaf, subleaf, &out[0], &out[1], &out[2], &out[3])


include "self_check.pxi"

set_code_listener(_code_written)
