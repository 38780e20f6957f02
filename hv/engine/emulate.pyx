# cython: language_level=3
"""Privileged instructions of a PV guest, emulated after their #GP, and the forced-emulation prefix.

Rules:
* What Xen emulates is emulated, everything else is the guest's #GP: one row of `privileged` an instruction.
* cli and sti change nothing (never evtchn_upcall_mask); they only need IOPL.
* _read_msr and _write_msr name every MSR that a PV domU may touch.

Behaviour: Xen 4.17, arch/x86/pv/emul-priv-op.c and emul-inv-op.c.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from xen_abi cimport XEN_ENODEV
from hv.engine.cpu cimport debug_registers_changed, get_flags, set_task_switched
from hv.engine.cpuid cimport guest_cpuid
from hv.engine.decode cimport fetch_code, instruction_t, next_byte, start_decoding
from hv.engine.machine_check cimport is_machine_check, read_machine_check, write_machine_check
from hv.engine.traps cimport inject
from hv.engine.unicorn cimport *
from hv.fastpath.breakpoints cimport get_debug_register, set_debug_register, watches_ports
from hv.fastpath.memory cimport canonical, copy_from_guest, copy_to_guest
from hv.fastpath.now cimport ticks
from hv.fastpath.paging cimport new_root
from hv.fastpath.state cimport vcpu_t

cdef enum:
    REX_R = 4
    REX_B = 1
    MSR_TSC = 0x10
    MSR_APIC_BASE = 0x1b
    MSR_MISC_FEATURES = 0x140
    MSR_PAT = 0x277
    EFER_VALUE = 0xd01              # SCE LME LMA NXE
    CR0_TS = 8
    CR4_TSD = 4
    CR4_DE = 8
    CR4_OF_XEN = 0x660
    VECTOR_DB = 1
    VECTOR_UD = 6

cdef extern from * nogil:
    """
    #define MSR_EFER 0xc0000080u
    #define MSR_FS_BASE 0xc0000100u
    #define MSR_GS_BASE 0xc0000101u
    #define MSR_SHADOW_GS_BASE 0xc0000102u
    #define MSR_TSC_AUX 0xc0000103u
    #define MSR_HWCR 0xc0010015u
    #define MSR_DE_CFG 0xc0011029u
    #define CR0_VALUE 0x80050033u
    #define DR6_ONES 0xffff0ff0u
    """
    const uint32_t MSR_EFER, MSR_FS_BASE, MSR_GS_BASE, MSR_SHADOW_GS_BASE, MSR_TSC_AUX, MSR_HWCR, MSR_DE_CFG, CR0_VALUE, DR6_ONES


cdef bint _iopl_ok(vcpu_t *v) noexcept nogil:
    """Guest kernel counts as ring 1 (ring 0 with VMASST architectural_iopl), guest user as ring 3."""
    cdef int ring = 3
    if v.kernel_mode:
        ring = 0 if v.domain.vm_assist & (<uint64_t>1 << 4) else 1
    return ring <= v.iopl


cdef bint privileged(vcpu_t *v) noexcept nogil:
    """After a #GP(0): True where the instruction was emulated and rip is behind it."""
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef instruction_t i
    cdef int opcode = start_decoding(v, &i)
    cdef bint done
    if opcode == 0xfa or opcode == 0xfb:            # cli, sti
        done = _iopl_ok(v)
    elif 0x6c <= opcode <= 0x6f:                    # ins, outs
        done = _string_io(v, &i, opcode)
    elif 0xe4 <= opcode <= 0xe7 or 0xec <= opcode <= 0xef:
        done = _port_io(v, &i, opcode)
    elif opcode == 0x0f:
        done = _two_bytes(v, &i, next_byte(&i))
    else:
        done = False
    if done:
        env.eip += i.at
        if i.port_hits:
            v.dr[6] |= DR6_ONES | i.port_hits
            inject(v, VECTOR_DB, 0)
    return done


cdef bint _two_bytes(vcpu_t *v, instruction_t *i, int opcode) noexcept nogil:
    if opcode == 0xa2:
        guest_cpuid(v)
        return True
    if not v.kernel_mode:                           # rdtsc comes here only with CR4.TSD
        return False
    if opcode == 0x31:
        return _give(v, ticks(v.domain.machine))
    if opcode == 0x01:
        return next_byte(i) == 0xf9 and _rdtscp(v)
    if opcode == 0x06:                              # clts
        set_task_switched(v, False)
        return True
    if opcode == 0x09:                              # wbinvd: nothing to flush here
        return True
    if opcode == 0x20 or opcode == 0x22:
        return _control_register(v, i, opcode == 0x22, next_byte(i))
    if opcode == 0x21 or opcode == 0x23:
        return _debug_register(v, i, opcode == 0x23, next_byte(i))
    if opcode == 0x30:
        return _write_msr(v)
    if opcode == 0x32:
        return _read_msr(v)
    return False


cdef bint _rdtscp(vcpu_t *v) noexcept nogil:
    (<hv_env *>v.domain.env).regs[RCX] = v.tsc_aux
    return _give(v, ticks(v.domain.machine))


cdef bint _give(vcpu_t *v, uint64_t value) noexcept nogil:
    """edx:eax, as rdmsr and rdtsc return it."""
    cdef hv_env *env = <hv_env *>v.domain.env
    env.regs[RAX] = <uint32_t>value
    env.regs[RDX] = value >> 32
    return True


# --- ports: a domU has access to none; what its IOPL or bitmap allows reads as all ones --------------------------

cdef bint _port_allowed(vcpu_t *v, uint64_t port, int size) noexcept nogil:
    """By IOPL, or by the guest kernel's bitmap: a 0 allows a port, and what can not be read of it allows none."""
    cdef uint16_t bits = 0
    if _iopl_ok(v):
        return True
    if port + size > v.io_ports or copy_from_guest(v, &bits, v.io_bitmap + (port >> 3), 2):
        return False
    return bits & ((1 << size) - 1) << (port & 7) == 0


cdef int _port_size(instruction_t *i, int opcode) noexcept nogil:
    if not opcode & 1:
        return 1
    return 2 if i.operand_16 else 4


cdef bint _port_io(vcpu_t *v, instruction_t *i, int opcode) noexcept nogil:
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef int port = next_byte(i) if opcode < 0xe8 else <int>(env.regs[RDX] & 0xffff)
    cdef int size = _port_size(i, opcode)
    if port < 0 or not _port_allowed(v, port, size):
        return False
    i.port_hits = watches_ports(v, port, size)
    if not opcode & 2:                              # in
        if size == 1:
            env.regs[RAX] |= 0xff
        elif size == 2:
            env.regs[RAX] |= 0xffff
        else:
            env.regs[RAX] = 0xffffffff
    return True


cdef bint _string_io(vcpu_t *v, instruction_t *i, int opcode) noexcept nogil:
    """A bounded number of repetitions at a time: rip stays at the instruction until rcx is used up.

    One at a time where a breakpoint is met.
    """
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef int size = _port_size(i, opcode)
    cdef bint reads = opcode < 0x6e
    cdef int pointer = RDI if reads else RSI
    cdef uint64_t count = env.regs[RCX] if i.repeat else 1, done = 0, step
    cdef uint32_t data = 0xffffffff
    if not _port_allowed(v, env.regs[RDX] & 0xffff, size):
        return False
    i.port_hits = watches_ports(v, env.regs[RDX] & 0xffff, size)
    step = <uint64_t>-size if get_flags(v.domain) & FLAG_DF else <uint64_t>size
    while done < count and done < (1 if i.port_hits else 512):
        if reads:
            if copy_to_guest(v, env.regs[pointer], &data, size):
                return False
        elif copy_from_guest(v, &data, env.regs[pointer], size):
            return False
        env.regs[pointer] += step
        done += 1
    if i.repeat:
        env.regs[RCX] -= done
    if done < count:
        i.at = 0
    return True


# --- control, debug and model-specific registers -----------------------------------------------------------------

cdef bint _control_register(vcpu_t *v, instruction_t *i, bint write, int modrm) noexcept nogil:
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef int cr = ((modrm >> 3) & 7) | (8 if i.rex & REX_R else 0)
    cdef uint64_t *gpr
    if modrm < 0:
        return False
    gpr = &env.regs[(modrm & 7) | (8 if i.rex & REX_B else 0)]
    if write:
        return _write_cr(v, cr, gpr[0])
    if cr == 0:
        gpr[0] = CR0_VALUE | (CR0_TS if v.ts else 0)
    elif cr == 2:
        gpr[0] = v.cr2
    elif cr == 3:
        gpr[0] = v.kernel_root << 12
    elif cr == 4:
        gpr[0] = v.cr4
    else:
        return False
    return True


cdef bint _write_cr(vcpu_t *v, int cr, uint64_t value) noexcept nogil:
    if cr == 0:
        if (value ^ CR0_VALUE) & ~<uint64_t>CR0_TS:
            return False
        set_task_switched(v, value & CR0_TS != 0)
    elif cr == 2:
        v.cr2 = value
        v.info.arch.cr2 = value
    elif cr == 3:
        return new_root(v, value >> 12) == 0
    elif cr == 4:
        v.cr4 = guest_cr4(value)
    else:
        return False
    return True


cdef uint64_t guest_cr4(uint64_t value) noexcept nogil:
    """TSD and DE are the guest's choice, of the others it sees those that Xen has: PAE, MCE, OSFXSR, OSXMMEXCPT."""
    return CR4_OF_XEN | (value & (CR4_TSD | CR4_DE))


cdef bint _debug_register(vcpu_t *v, instruction_t *i, bint write, int modrm) noexcept nogil:
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef int dr = ((modrm >> 3) & 7) | (8 if i.rex & REX_R else 0), rc
    cdef uint64_t *gpr
    if modrm < 0:
        return False
    gpr = &env.regs[(modrm & 7) | (8 if i.rex & REX_B else 0)]
    rc = set_debug_register(v, dr, gpr[0]) if write else get_debug_register(v, dr, gpr)
    if rc == 0 and write:
        debug_registers_changed(v)
    elif rc == -XEN_ENODEV:
        i.at = 0
        inject(v, VECTOR_UD, 0)
        return True
    return rc == 0


cdef bint _read_msr(vcpu_t *v) noexcept nogil:
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef uint32_t msr = <uint32_t>env.regs[RCX]
    if msr == MSR_FS_BASE:
        return _give(v, env.segs[SEG_FS].base)
    if msr == MSR_GS_BASE:
        return _give(v, env.segs[SEG_GS].base)
    if msr == MSR_SHADOW_GS_BASE:
        return _give(v, v.gs_base_user)
    if msr == MSR_EFER:
        return _give(v, EFER_VALUE)
    if msr == MSR_TSC:
        return _give(v, ticks(v.domain.machine))
    if msr == MSR_PAT:
        return _give(v, 0x050100070406)
    if msr == MSR_APIC_BASE:
        return _give(v, 0xfee00800U | (0x100 if v.id == 0 else 0))
    if msr == MSR_DE_CFG:
        return _give(v, 2)
    if msr == MSR_TSC_AUX:
        return _give(v, v.tsc_aux)
    if msr == MSR_HWCR or msr == MSR_MISC_FEATURES:
        return _give(v, 0)
    if is_machine_check(msr):
        return _give(v, read_machine_check(v, msr))
    if v.traps[13].address == 0 and (msr < 0x10000 or msr >> 17 == 0x6000):
        return _give(v, 0)                          # before a #GP handler exists, Xen answers 0
    return False


cdef bint _write_msr(vcpu_t *v) noexcept nogil:
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef uint32_t msr = <uint32_t>env.regs[RCX]
    cdef uint64_t value = (env.regs[RDX] << 32) | <uint32_t>env.regs[RAX]
    if MSR_FS_BASE <= msr <= MSR_SHADOW_GS_BASE:
        if not canonical(value):
            return False
        if msr == MSR_FS_BASE:
            env.segs[SEG_FS].base = value
        elif msr == MSR_GS_BASE:
            env.segs[SEG_GS].base = value
        else:
            v.gs_base_user = value
        return True
    if msr == MSR_TSC_AUX and value >> 32 == 0:
        v.tsc_aux = <uint32_t>value
        return True
    if is_machine_check(msr):
        return write_machine_check(v, msr, value)
    return msr == MSR_EFER and value == EFER_VALUE


cdef bint forced_cpuid(vcpu_t *v) noexcept nogil:
    """`ud2; .ascii "xen"; cpuid`: True where it was that and has been answered."""
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef uint8_t[15] code
    if fetch_code(v, env.eip, code) < 7:
        return False
    if code[0] != 0x0f or code[1] != 0x0b or code[2] != 0x78 or code[3] != 0x65 or code[4] != 0x6e:
        return False
    if code[5] != 0x0f or code[6] != 0xa2:
        return False
    guest_cpuid(v)
    env.eip += 7
    return True
