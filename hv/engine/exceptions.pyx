# cython: language_level=3
"""What becomes of an exception that the CPU raised while a guest ran.

Rules:
* The clock is corrected first: eip says how much of the block has run.
* What Unicorn raises differently is put right first: #SS, the debug trap of icebp.
* hv's own business (emulation, a fetch across a page end) comes before the guest's handler.
* `int n` needs the vector's DPL, except for breakpoint and overflow, and 0x80 where the guest has a handler for it.

Behaviour: Xen 4.17, arch/x86/traps.c and x86_64/entry.S.
"""
from libc.stdint cimport uint32_t, uint64_t
from hv.engine.clock cimport EXCEPTION_TICKS, forget_watch, look_at_host
from hv.engine.cpu cimport block_ends_at, flush_wanted, leave, leave_wrapped, one_instruction_next, set_task_switched
from hv.engine.decode cimport icebp_length, reaches_for_the_stack
from hv.engine.emulate cimport forced_cpuid, privileged
from hv.engine.hypercall cimport drain_host_events
from hv.engine.trapped_write cimport trapped_write
from hv.engine.traps cimport deliver_events, inject, inject_interrupt
from hv.engine.unicorn cimport SEG_CS, hv_env
from hv.fastpath.memory cimport HV_END, LDT_OFFSET, PERDOMAIN_START, PF_RESERVED, PF_USER, canonical
from hv.fastpath.paging cimport map_ldt_page
from hv.fastpath.state cimport PAGE_SIZE, domain_t, machine_t, trap_t, vcpu_t

cdef enum:
    VECTOR_DB = 1
    VECTOR_BP = 3
    VECTOR_OF = 4
    VECTOR_UD = 6
    VECTOR_NM = 7
    VECTOR_SS = 12
    VECTOR_GP = 13
    VECTOR_PF = 14
    VECTOR_INT80 = 0x80
    ERROR_IDT = 2
    SELECTOR_LDT = 4
    DR6_BS = 0x4000


cdef void on_exception(vcpu_t *v, int vector) noexcept nogil:
    cdef domain_t *d = v.domain
    cdef hv_env *env = <hv_env *>d.env
    cdef machine_t *m = d.machine
    m.armed = 0
    leave_wrapped(d)
    m.budget.left -= EXCEPTION_TICKS
    if m.fetch_fault:
        m.fetch_fault = 0
        if vector == VECTOR_PF and _straddles(m, d, env):
            return
    elif vector != VECTOR_DB:                           # a single step ends a complete block, perhaps elsewhere
        block_ends_at(m, env.eip + env.segs[SEG_CS].base)
    m.budget.block = NULL
    look_at_host(m)                                     # exceptions alone, without a block between, must not stall hv
    if env.exception_is_int:
        _software_interrupt(v, vector)
    else:
        _fault(v, vector, env.error_code)
    forget_watch(v)
    if m.host.evtchn_upcall_pending:
        drain_host_events(m)
    deliver_events(v)
    if d.need_flush:
        flush_wanted(d)
    if m.stop:
        leave(d)


cdef bint _straddles(machine_t *m, domain_t *d, hv_env *env) noexcept nogil:
    """A block that reaches into an unmapped page faults before its first instruction: run it one by one first."""
    if (env.cr[2] ^ env.eip) & ~<uint64_t>(PAGE_SIZE - 1) == 0 or m.retry_at == env.eip:
        m.retry_at = 0
        return False
    m.retry_at = env.eip
    one_instruction_next(d)
    return True


cdef void _software_interrupt(vcpu_t *v, int vector) noexcept nogil:
    """eip is behind the instruction."""
    cdef trap_t *trap = &v.traps[vector & 255]
    cdef bint allowed = vector == VECTOR_BP or vector == VECTOR_OF or (trap.flags & 3) >= (1 if v.kernel_mode else 3)
    if allowed or (vector == VECTOR_INT80 and trap.address):
        inject_interrupt(v, vector & 255)
        return
    (<hv_env *>v.domain.env).eip -= v.domain.machine.int_length
    inject(v, VECTOR_GP, vector << 3 | ERROR_IDT)


cdef void _fault(vcpu_t *v, int vector, uint32_t error) noexcept nogil:
    cdef bint noncanonical = v.domain.machine.noncanonical
    v.domain.machine.noncanonical = 0
    if vector == VECTOR_GP and noncanonical:
        inject(v, VECTOR_SS if reaches_for_the_stack(v) else VECTOR_GP, 0)
        return
    if vector == VECTOR_GP and error == 0 and privileged(v):
        return
    if vector == VECTOR_UD and (forced_cpuid(v) or _icebp(v)):
        return
    if vector == VECTOR_PF and not error & (PF_USER | PF_RESERVED) and _descriptor_fault(v, error):
        return
    if vector == VECTOR_PF and trapped_write(v, error):
        return
    if vector == VECTOR_NM:
        set_task_switched(v, False)
    if vector == VECTOR_DB:
        v.dr[6] |= DR6_BS | v.watch_hits
    inject(v, vector, error)


cdef bint _icebp(vcpu_t *v) noexcept nogil:
    """0xf1 traps to #DB, without a reason in DR6."""
    cdef int length = icebp_length(v)
    if length:
        (<hv_env *>v.domain.env).eip += length
        inject(v, VECTOR_DB, 0)
    return length != 0


cdef bint _descriptor_fault(vcpu_t *v, uint32_t error) noexcept nogil:
    """Where the CPU itself has read a descriptor in vain: map a page of the LDT, or answer as the descriptor's #GP or #PF."""
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef uint64_t tables = PERDOMAIN_START + (<uint64_t>v.id << 17), offset, ldt
    if not tables <= env.cr[2] < HV_END or env.cr[2] - tables >= 2 * LDT_OFFSET:
        return False
    offset = env.cr[2] - tables
    if offset < LDT_OFFSET:
        inject(v, VECTOR_GP, offset & 0xfff8)
        return True
    ldt = offset - LDT_OFFSET
    if not map_ldt_page(v, ldt):
        if canonical(v.ldt_base + ldt):
            env.cr[2] = v.ldt_base + ldt
            inject(v, VECTOR_PF, error)
        else:
            inject(v, VECTOR_GP, (ldt & 0xfff8) | SELECTOR_LDT)
    return True
