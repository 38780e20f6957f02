# cython: language_level=3, overflowcheck=False
"""Writes of a guest's kernel to its own L1 tables, which are mapped read-only: emulated after their #PF.

Rules:
* Only with vm_assist's writable_pagetables, in guest kernel mode, and for L1 tables; everything else is the guest's #PF.
* An access is naturally aligned, 1 to 8 bytes, and lies in the page that faulted.
* The new entry is validated as mmu_update's would be; one that is refused is the guest's #PF too, not an errno.
* Nothing is changed, no register either, unless the whole instruction succeeds.

Instructions: moves, string stores, exchanges, arithmetic, shifts, bit operations, setcc, pushes, calls, pop. Others are
left to the guest, to which they are a plain page fault: moves from segment, x87, MMX and SSE registers, as on Xen, whose
emulator asks for more there than it is given; enter, far calls and ins; rcl and rcr, because Unicorn's have changed CF already
when their store faults. Addresses wrap around: no overflow is checked here.
Behaviour: Xen 4.17, arch/x86/pv/ro-page-fault.c; instructions: Intel SDM, volume 2.
"""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from xen_abi cimport VMASST_TYPE_writable_pagetables
from hv.engine.arithmetic cimport *
from hv.engine.cpu cimport get_flags, set_flags
from hv.engine.decode cimport instruction_t, next_byte, start_decoding
from hv.engine.traps cimport inject
from hv.engine.unicorn cimport *
from hv.fastpath.memory cimport (ACCESS_LOOK, ADDRESS_MASK, HV_END, HV_START, PF_FETCH, PF_PRESENT, PF_RESERVED, PF_WRITE, PTE_PRESENT,
                                 PTE_RW, WALK_NONCANONICAL, copy_from_guest, frame_pointer, walk, walk_t)
from hv.fastpath.paging cimport is_l1_table, write_trapped
from hv.fastpath.state cimport PAGE_SHIFT, PAGE_SIZE, domain_t, vcpu_t

cdef enum:
    REX_B = 1
    REX_X = 2
    REX_R = 4
    REX_W = 8
    VECTOR_DB = 1
    DR6_BS = 0x4000

ctypedef struct store_t:
    int operation
    int size                     # bytes
    uint64_t address
    uint64_t source
    uint64_t count               # of a shift
    int gpr                      # that takes the old value, and where the source came from
    int stack                    # bytes that rsp moves by
    uint64_t target              # of a call


cdef bint trapped_write(vcpu_t *v, uint32_t error) noexcept nogil:
    """After a #PF: True where it was a write to an L1 table and has been done, with rip behind it."""
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef uint64_t mfn
    cdef instruction_t i
    cdef store_t s
    if error & (PF_PRESENT | PF_WRITE | PF_RESERVED | PF_FETCH) != PF_PRESENT | PF_WRITE or not v.kernel_mode:
        return False
    if not v.domain.vm_assist >> VMASST_TYPE_writable_pagetables & 1:
        return False
    mfn = _l1_table_at(v, env.cr[2])
    if mfn == 0:
        return False
    memset(&s, 0, sizeof(s))
    s.operation = NOTHING
    s.gpr = -1
    _understand(v, &i, start_decoding(v, &i), &s)
    if s.operation == NOTHING or i.at > i.length:
        return False
    if (s.address ^ env.cr[2]) & ~<uint64_t>(PAGE_SIZE - 1) or s.address & (s.size - 1):
        return False
    return _perform(v, &i, &s, mfn)


cdef uint64_t _l1_table_at(vcpu_t *v, uint64_t va) noexcept nogil:
    """The frame that is mapped read-only at `va`, if it is an L1 table of the domain; 0 otherwise."""
    cdef walk_t w
    cdef uint64_t entry
    if HV_START <= va < HV_END:
        return 0
    if walk(v, v.kernel_root, va, ACCESS_LOOK, False, &w) == WALK_NONCANONICAL or w.level > 1:
        return 0
    entry = w.entries[1]
    if entry & (PTE_PRESENT | PTE_RW) != PTE_PRESENT or not is_l1_table(v.domain, (entry & ADDRESS_MASK) >> PAGE_SHIFT):
        return 0
    return (entry & ADDRESS_MASK) >> PAGE_SHIFT


# --- decoding -----------------------------------------------------------------------------------------------------

cdef int _operand_size(instruction_t *i, int opcode) noexcept nogil:
    """By the lowest bit of most opcodes: bytes, or words of the prefixes' size."""
    if not opcode & 1:
        return 1
    return 8 if i.rex & REX_W else 2 if i.operand_16 else 4


cdef uint64_t _read_register(hv_env *env, instruction_t *i, int number, int size) noexcept nogil:
    if size == 1 and not i.has_rex and 4 <= number < 8:         # ah, ch, dh, bh
        return env.regs[number - 4] >> 8 & 0xff
    return env.regs[number] & mask_of(size)


cdef void _write_register(hv_env *env, instruction_t *i, int number, int size, uint64_t value) noexcept nogil:
    if size >= 4:
        env.regs[number] = value & mask_of(size)
    elif size == 1 and not i.has_rex and 4 <= number < 8:
        env.regs[number - 4] = (env.regs[number - 4] & ~<uint64_t>0xff00) | (value & 0xff) << 8
    else:
        env.regs[number] = (env.regs[number] & ~mask_of(size)) | (value & mask_of(size))


cdef int64_t _immediate(instruction_t *i, int size) noexcept nogil:
    """Sign-extended; 1, 2, 4 or 8 bytes."""
    cdef uint64_t value = 0
    cdef int k, byte
    for k in range(size):
        byte = next_byte(i)
        if byte < 0:
            i.at = i.length + 1                     # cut short
            return 0
        value |= <uint64_t>byte << 8 * k
    if size < 8 and value >> (8 * size - 1) & 1:
        value |= ~mask_of(size)
    return <int64_t>value


cdef uint64_t _linear(hv_env *env, instruction_t *i, uint64_t offset) noexcept nogil:
    if i.address_32:
        offset = <uint32_t>offset
    if i.segment_override == 0x64:
        return env.segs[SEG_FS].base + offset
    return env.segs[SEG_GS].base + offset if i.segment_override == 0x65 else offset


cdef bint _memory_operand(vcpu_t *v, instruction_t *i, store_t *s, int immediate) noexcept nogil:
    """Take ModRM and what follows it; `immediate` bytes come behind. False for a register operand."""
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef int modrm = next_byte(i), mode = modrm >> 6, base = modrm & 7, sib, index
    cdef uint64_t address = 0
    if modrm < 0 or mode == 3:
        return False
    s.gpr = modrm >> 3 & 7 | (8 if i.rex & REX_R else 0)
    if base == 4:
        sib = next_byte(i)
        if sib < 0:
            return False
        index = sib >> 3 & 7 | (8 if i.rex & REX_X else 0)
        if index != 4:
            address = env.regs[index] << (sib >> 6)
        base = sib & 7
        if base == 5 and mode == 0:
            address += <uint64_t>_immediate(i, 4)
        else:
            address += env.regs[base | (8 if i.rex & REX_B else 0)]
    elif base == 5 and mode == 0:
        address = <uint64_t>_immediate(i, 4)
        address += env.eip + <uint64_t>(i.at + immediate)
    else:
        address = env.regs[base | (8 if i.rex & REX_B else 0)]
    if mode == 1:
        address += <uint64_t>_immediate(i, 1)
    elif mode == 2:
        address += <uint64_t>_immediate(i, 4)
    s.address = _linear(env, i, address)
    return True


cdef void _understand(vcpu_t *v, instruction_t *i, int opcode, store_t *s) noexcept nogil:
    """Fill in what the instruction stores; NOTHING for those that are not emulated."""
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef int size = _operand_size(i, opcode), group, immediate
    if opcode == 0x0f:
        _understand_two_bytes(v, i, next_byte(i), s)
    elif 0 <= opcode < 0x38 and opcode & 7 < 2:                 # arithmetic with a register
        if _memory_operand(v, i, s, 0):
            _set(env, i, s, opcode >> 3, size)
    elif opcode == 0x80 or opcode == 0x81 or opcode == 0x83:    # with an immediate
        immediate = 1 if opcode != 0x81 else 2 if size == 2 else 4
        if _memory_operand(v, i, s, immediate) and s.gpr & 7 != 7:
            s.operation, s.size = s.gpr & 7, size
            s.source = <uint64_t>_immediate(i, immediate) & mask_of(size)
    elif 0x50 <= opcode <= 0x57 or opcode in (0x68, 0x6a, 0x9c, 0xe8, 0xff, 0x8f):
        _understand_stack(v, i, opcode, s)
    elif 0xc0 <= opcode <= 0xc1 or 0xd0 <= opcode <= 0xd3:      # shifts and rotations
        immediate = 1 if opcode < 0xd0 else 0
        if _memory_operand(v, i, s, immediate) and s.gpr & 6 != 2:
            s.operation, s.size = ROTATE_LEFT + (s.gpr & 7), size
            s.count = <uint64_t>_immediate(i, 1) if immediate else 1 if opcode < 0xd2 else env.regs[RCX]
    elif 0x86 <= opcode <= 0x89:                                # xchg; mov from a register
        if _memory_operand(v, i, s, 0):
            _set(env, i, s, EXCHANGE if opcode < 0x88 else MOVE, size)
    elif opcode == 0xc6 or opcode == 0xc7:                      # mov of an immediate
        immediate = size if size < 8 else 4
        if _memory_operand(v, i, s, immediate) and s.gpr & 7 == 0:
            s.operation, s.size = MOVE, size
            s.source = <uint64_t>_immediate(i, immediate) & mask_of(size)
    elif opcode == 0xa2 or opcode == 0xa3:                      # mov of the accumulator to an absolute address
        s.address = <uint64_t>_immediate(i, 4 if i.address_32 else 8)
        s.address = _linear(env, i, s.address)
        s.gpr = RAX
        _set(env, i, s, MOVE, size)
    elif opcode == 0xa4 or opcode == 0xa5 or opcode == 0xaa or opcode == 0xab:
        _understand_string(v, i, opcode, size, s)
    elif 0xf6 <= opcode <= 0xf7 or opcode == 0xfe:              # not, neg; inc, dec
        if _memory_operand(v, i, s, 0):
            group = s.gpr & 7
            s.size = size
            if opcode < 0xf8 and (group == 2 or group == 3):
                s.operation = NOT if group == 2 else NEGATE
            elif opcode >= 0xfe and group < 2:
                s.operation = DECREMENT if group else INCREMENT


cdef void _understand_stack(vcpu_t *v, instruction_t *i, int opcode, store_t *s) noexcept nogil:
    """push, pushf, call and pop; and the others of group 5."""
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef int size = 2 if i.operand_16 else 8, group = 6
    cdef uint64_t operand = 0
    if opcode < 0x58:
        operand = _read_register(env, i, opcode & 7 | (8 if i.rex & REX_B else 0), size)
    elif opcode == 0x68 or opcode == 0x6a:
        operand = <uint64_t>_immediate(i, 1 if opcode == 0x6a else 2 if size == 2 else 4)
    elif opcode == 0x9c:
        operand = get_flags(v.domain) & ~<uint64_t>(FLAG_RF | FLAG_VM)
    elif opcode == 0xe8:
        operand = <uint64_t>_immediate(i, 4)
        operand += env.eip + <uint64_t>i.at
        group = 2
    elif opcode == 0x8f:                                        # pop: rsp has moved already when the address is formed
        env.regs[RSP] += <uint64_t>size
        if _memory_operand(v, i, s, 0) and s.gpr & 7 == 0 and not copy_from_guest(v, &s.source, env.regs[RSP] - size, size):
            s.operation, s.size, s.stack = MOVE, size, size
        env.regs[RSP] -= <uint64_t>size
        return
    else:
        group = _understand_group_5(v, i, s, size, &operand)
    if group == 6 or (group == 2 and not i.operand_16):
        s.operation, s.size, s.stack, s.source = MOVE, size, -size, operand
        s.address = env.regs[RSP] - <uint64_t>size
        if group == 2:
            s.source, s.target = env.eip + <uint64_t>i.at, operand


cdef int _understand_group_5(vcpu_t *v, instruction_t *i, store_t *s, int size, uint64_t *operand) noexcept nogil:
    """inc and dec of a word; 2 for a call and 6 for a push, whose operand may be anywhere; -1."""
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef int modrm = i.bytes[i.at] if i.at < i.length else 0, group = modrm >> 3 & 7
    if modrm >> 6 == 3:
        i.at += 1
        operand[0] = _read_register(env, i, modrm & 7 | (8 if i.rex & REX_B else 0), size)
    elif not _memory_operand(v, i, s, 0):
        return -1
    elif group < 2:
        s.operation, s.size = DECREMENT if group else INCREMENT, _operand_size(i, 1)
        return -1
    elif copy_from_guest(v, operand, s.address, size):
        return -1
    return group


cdef void _set(hv_env *env, instruction_t *i, store_t *s, int operation, int size) noexcept nogil:
    s.operation, s.size = operation, size
    s.source = _read_register(env, i, s.gpr, size)


cdef void _understand_two_bytes(vcpu_t *v, instruction_t *i, int opcode, store_t *s) noexcept nogil:
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef int size = _operand_size(i, opcode)
    if opcode == 0xba:                                          # bts, btr, btc with an immediate
        size = _operand_size(i, 1)
        if _memory_operand(v, i, s, 1) and s.gpr & 7 > 4:
            s.operation, s.size = BIT_SET + (s.gpr & 7) - 5, size
            s.source = <uint64_t>_immediate(i, 1) & (8 * size - 1)
        return
    if opcode == 0xab or opcode == 0xb3 or opcode == 0xbb:      # with a register: a bit anywhere from the address on
        size = _operand_size(i, 1)
        if _memory_operand(v, i, s, 0):
            _set(env, i, s, BIT_SET + (opcode - 0xab) // 8, size)
            _move_to_bit(s)
    elif opcode == 0xb0 or opcode == 0xb1:
        if _memory_operand(v, i, s, 0):
            _set(env, i, s, COMPARE_EXCHANGE, size)
    elif opcode == 0xc0 or opcode == 0xc1:
        if _memory_operand(v, i, s, 0):
            _set(env, i, s, EXCHANGE_ADD, size)
    elif opcode == 0xc3 and not i.repeat and not i.operand_16:  # movnti
        if _memory_operand(v, i, s, 0):
            _set(env, i, s, MOVE, 8 if i.rex & REX_W else 4)
    elif opcode == 0xc7:                                        # cmpxchg8b; cmpxchg16b is too wide
        if _memory_operand(v, i, s, 0) and s.gpr & 7 == 1 and not i.rex & REX_W:
            s.operation, s.size = COMPARE_EXCHANGE_8, 8
            s.source = env.regs[RCX] << 32 | <uint32_t>env.regs[RBX]
    elif opcode in (0xa4, 0xa5, 0xac, 0xad):                    # shld, shrd
        size = _operand_size(i, 1)
        if _memory_operand(v, i, s, 1 - (opcode & 1)):
            _set(env, i, s, SHIFT_IN_LEFT if opcode < 0xac else SHIFT_IN_RIGHT, size)
            s.count = env.regs[RCX] if opcode & 1 else <uint64_t>_immediate(i, 1)
    elif opcode == 0x38:
        if next_byte(i) == 0xf1 and not i.repeat and _memory_operand(v, i, s, 0):       # movbe
            _set(env, i, s, MOVE, _operand_size(i, 1))
            s.source = _swapped(s.source) >> (64 - 8 * s.size)
    elif 0x90 <= opcode <= 0x9f:                                # setcc
        if _memory_operand(v, i, s, 0):
            s.operation, s.size = MOVE, 1
            s.source = _condition(get_flags(v.domain), opcode & 15)


cdef uint64_t _swapped(uint64_t value) noexcept nogil:
    cdef uint64_t result = 0
    cdef int k
    for k in range(8):
        result = result << 8 | value >> 8 * k & 0xff
    return result


cdef void _move_to_bit(store_t *s) noexcept nogil:
    """A bit offset is signed and reaches beyond the operand."""
    cdef int64_t offset = <int64_t>s.source
    if s.size < 8 and offset >> (8 * s.size - 1) & 1:
        offset |= <int64_t>~mask_of(s.size)
    s.source = <uint64_t>offset & (8 * s.size - 1)
    s.address += <uint64_t>((offset - <int64_t>s.source) // 8)


cdef bint _condition(uint64_t flags, int code) noexcept nogil:
    cdef bint result
    cdef bint less = (flags & FLAG_SF != 0) != (flags & FLAG_OF != 0)
    if code >> 1 == 0:
        result = flags & FLAG_OF != 0
    elif code >> 1 == 1:
        result = flags & FLAG_CF != 0
    elif code >> 1 == 2:
        result = flags & FLAG_ZF != 0
    elif code >> 1 == 3:
        result = flags & (FLAG_CF | FLAG_ZF) != 0
    elif code >> 1 == 4:
        result = flags & FLAG_SF != 0
    elif code >> 1 == 5:
        result = flags & FLAG_PF != 0
    elif code >> 1 == 6:
        result = less
    else:
        result = less or flags & FLAG_ZF != 0
    return result != (code & 1)


cdef void _understand_string(vcpu_t *v, instruction_t *i, int opcode, int size, store_t *s) noexcept nogil:
    """movs and stos: one element; with rep, the instruction is met again for the next one."""
    cdef hv_env *env = <hv_env *>v.domain.env
    if i.address_32 or (i.repeat and env.regs[RCX] == 0):
        return
    s.source = env.regs[RAX] & mask_of(size)
    if opcode < 0xa8:
        s.source = 0
        if copy_from_guest(v, &s.source, _linear(env, i, env.regs[RSI]), size):
            return
        s.gpr = RSI
    s.operation, s.size, s.address = STRING, size, env.regs[RDI]


# --- execution ----------------------------------------------------------------------------------------------------

cdef bint _perform(vcpu_t *v, instruction_t *i, store_t *s, uint64_t mfn) noexcept nogil:
    cdef domain_t *d = v.domain
    cdef hv_env *env = <hv_env *>d.env
    cdef uint64_t offset = s.address & (PAGE_SIZE - 1), word, old, new, expected = 0
    cdef uint64_t all_flags = get_flags(d), flags = all_flags & FLAGS_CC
    cdef int shift = 8 * (offset & 7)
    cdef uint64_t mask = mask_of(s.size)
    cdef bint write = True
    memcpy(&word, frame_pointer(d.machine, mfn) + (offset & ~<uint64_t>7), 8)
    old = word >> shift & mask
    new = s.source
    if s.operation == COMPARE_EXCHANGE:
        expected = env.regs[RAX] & mask
        subtract(expected, old, 0, s.size, &flags)
        write = expected == old
    elif s.operation == COMPARE_EXCHANGE_8:
        write = (env.regs[RDX] << 32 | <uint32_t>env.regs[RAX]) == old
        flags = flags & ~<uint64_t>FLAG_ZF | (FLAG_ZF if write else 0)
    else:
        new = compute(s.operation, old, s.source, s.count, s.size, &flags)
    if write and not write_trapped(d, mfn, offset & ~<uint64_t>7, word & ~(mask << shift) | (new & mask) << shift):
        return False
    if s.operation == EXCHANGE or s.operation == EXCHANGE_ADD:
        _write_register(env, i, s.gpr, s.size, old)
    elif s.operation == COMPARE_EXCHANGE and not write:
        _write_register(env, i, RAX, s.size, old)
    elif s.operation == COMPARE_EXCHANGE_8 and not write:
        env.regs[RAX], env.regs[RDX] = <uint32_t>old, old >> 32
    env.regs[RSP] += <uint64_t><int64_t>s.stack
    if s.target:
        env.eip = s.target
    elif s.operation != STRING or _string_done(env, i, s, all_flags):
        env.eip += i.at
    all_flags = all_flags & ~<uint64_t>(FLAGS_CC | FLAG_RF) | flags
    set_flags(d, all_flags)
    if all_flags & FLAG_TF:
        v.dr[6] |= DR6_BS
        inject(v, VECTOR_DB, 0)
    return True


cdef bint _string_done(hv_env *env, instruction_t *i, store_t *s, uint64_t flags) noexcept nogil:
    """Move the pointers on; True after the last element."""
    cdef uint64_t step = <uint64_t>-s.size if flags & FLAG_DF else <uint64_t>s.size
    env.regs[RDI] += step
    if s.gpr == RSI:
        env.regs[RSI] += step
    if not i.repeat:
        return True
    env.regs[RCX] -= 1
    return env.regs[RCX] == 0
