# cython: language_level=3, overflowcheck=False
"""The debugger's steps: one-instruction blocks of one vCPU, or of all, and where they end.

Rules:
* A step stops before an instruction, at a block's entry. Nothing of a block that was not run is charged to the clock.
* Where a function returns is seen by its return instruction and the stack pointer behind it; no frame pointers needed.
* The place of a stop is remembered by vCPU, rip and time: a breakpoint there has had its turn when the guest goes on.

Specification of return instructions: Intel SDM, volume 2 (RET, IRET); HYPERVISOR_iret of Xen's arch-x86/xen-x86_64.h.
"""
from libc.stdint cimport uint8_t, uint64_t
from xen_abi cimport __HYPERVISOR_iret
from hv.engine.cpu cimport block_ends_at, leave_now
from hv.engine.unicorn cimport R8, R9, R10, RAX, RDI, RDX, RSI, RSP, SEG_CS, hv_env
from hv.fastpath.memory cimport ACCESS_LOOK, WALK_OK, active_root, frame_pointer, walk, walk_t
from hv.fastpath.points cimport note_call
from hv.fastpath.state cimport *

cdef enum:
    RETURN_NONE = 0
    RETURN_NEAR = 1              # to a caller of the same mode
    RETURN_IRET = 2              # from a handler, perhaps to another mode
    SYSCALL_LENGTH = 2


cdef void count_step(vcpu_t *v) noexcept nogil:
    cdef machine_t *m = v.domain.machine
    if is_stepped(v):
        m.steps_left -= 1
        if m.step.kind != STEP_COUNT:
            m.step.returning = _kind_of_return(v)


cdef int _code(vcpu_t *v, uint8_t *into) noexcept nogil:
    """Up to two bytes at rip, without a trace in the page tables; how many."""
    cdef uint64_t va = (<hv_env *>v.domain.env).eip + (<hv_env *>v.domain.env).segs[SEG_CS].base
    cdef walk_t w
    cdef int n
    for n in range(2):
        if walk(v, active_root(v), va + n, ACCESS_LOOK, True, &w) != WALK_OK:
            return n
        into[n] = frame_pointer(v.domain.machine, w.mfn)[(va + n) & (PAGE_SIZE - 1)]
    return 2


cdef uint8_t _kind_of_return(vcpu_t *v) noexcept nogil:
    cdef uint8_t[2] code
    cdef int length = _code(v, code), at = 0
    if length >= 2 and (code[0] & 0xf0 == 0x40 or code[0] & 0xfe == 0xf2):      # a REX prefix, or `rep ret`
        at = 1
    if length <= at:
        return RETURN_NONE
    if code[at] in (0xc2, 0xc3, 0xca, 0xcb):
        return RETURN_NEAR
    if code[at] == 0xcf:
        return RETURN_IRET
    if length >= 2 and code[0] == 0x0f and code[1] == 0x05 and v.kernel_mode:
        return RETURN_IRET if (<hv_env *>v.domain.env).regs[RAX] == __HYPERVISOR_iret else RETURN_NONE
    return RETURN_NONE


cdef bint step_is_over(vcpu_t *v, uint64_t address) noexcept nogil:
    cdef machine_t *m = v.domain.machine
    cdef const step_t *step = &m.step
    cdef uint64_t sp = (<hv_env *>v.domain.env).regs[RSP]
    if not is_stepped(v):
        return False
    if m.steps_left == 0:
        return True
    if step.kind == STEP_COUNT:
        return False
    if step.returning == RETURN_IRET and v.kernel_mode != step.kernel_mode:
        return True
    if v.kernel_mode != step.kernel_mode:
        return False
    if step.returning and sp > step.sp:
        return True
    return step.kind == STEP_BEYOND and address > step.pc and sp >= step.sp


cdef void stop_here(vcpu_t *v, int reason) noexcept nogil:
    """Come back before the instruction at rip, of which nothing is charged."""
    cdef machine_t *m = v.domain.machine
    m.stop = reason
    m.stopped, m.stopped_at, m.stopped_ticks = v, (<hv_env *>v.domain.env).eip, charged(m)
    leave_now(v.domain)


cdef bint stopped_here(vcpu_t *v, uint64_t charged_for) noexcept nogil:
    """Whether the last stop was before this very instruction, for which `charged_for` bytes may be charged already."""
    cdef machine_t *m = v.domain.machine
    return (m.stopped == v and m.stopped_at == (<hv_env *>v.domain.env).eip
            and m.stopped_ticks == charged(m) - charged_for)


cdef void look_at_call(vcpu_t *v) noexcept nogil:
    """Stop at a hypercall's instruction, with nothing done, where the debugger has a breakpoint for it."""
    cdef domain_t *d = v.domain
    cdef hv_env *env = <hv_env *>d.env
    cdef machine_t *m = d.machine
    cdef uint64_t[6] args
    args[:] = [env.regs[RDI], env.regs[RSI], env.regs[RDX], env.regs[R10], env.regs[R8], env.regs[R9]]
    if m.part_of == v and m.part_at == env.eip:
        m.part_of = NULL                    # it has been looked at before its first part
    elif not (m.stopped_by_call and stopped_here(v, SYSCALL_LENGTH)) and note_call(v, env.regs[RAX], 0, args):
        block_ends_at(m, env.eip + env.segs[SEG_CS].base)
        uncount_step(v)
        m.stopped_by_call = 1
        stop_here(v, STOP_POINT)
