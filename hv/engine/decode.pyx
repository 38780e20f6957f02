# cython: language_level=3
"""As much of an instruction as hv has to understand: its prefixes, and whether it reaches for the stack.

Rules:
* Code is read under the page tables in use; bytes that can not be read end the instruction.

Specification: Intel SDM, volume 2, chapter 2 and appendix A.
"""
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset
from hv.engine.unicorn cimport SEG_CS, hv_env
from hv.fastpath.memory cimport ACCESS_READ, WALK_OK, active_root, copy_from_guest, frame_pointer, walk, walk_t
from hv.fastpath.state cimport PAGE_SIZE, vcpu_t

cdef enum:
    REX_B = 1


cdef int fetch_code(vcpu_t *v, uint64_t rip, uint8_t *into) noexcept nogil:
    """Up to 15 bytes at rip; how many there are."""
    cdef uint64_t va = rip + (<hv_env *>v.domain.env).segs[SEG_CS].base, offset
    cdef int n = 0
    cdef walk_t w
    if v.kernel_mode and copy_from_guest(v, into, va, 15) == 0:     # the fast way, where all of it is there
        return 15
    while n < 15:
        if walk(v, active_root(v), va + n, ACCESS_READ, True, &w) != WALK_OK:
            break
        offset = (va + n) & (PAGE_SIZE - 1)
        while n < 15 and offset < PAGE_SIZE:
            into[n] = frame_pointer(v.domain.machine, w.mfn)[offset]
            n += 1
            offset += 1
    return n


cdef int next_byte(instruction_t *i) noexcept nogil:
    if i.at >= i.length:
        return -1
    i.at += 1
    return i.bytes[i.at - 1]


cdef int start_decoding(vcpu_t *v, instruction_t *i) noexcept nogil:
    """Fetch the instruction at rip and take its prefixes."""
    cdef int byte
    memset(i, 0, sizeof(instruction_t))
    i.length = fetch_code(v, (<hv_env *>v.domain.env).eip, i.bytes)
    while True:
        byte = next_byte(i)
        if byte == 0x66:
            i.operand_16 = 1
        elif byte == 0xf2 or byte == 0xf3:
            i.repeat = byte
        elif byte in (0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65):
            i.segment_override = byte
        elif byte == 0x67:
            i.address_32 = 1
        elif byte == 0xf0:
            i.lock = 1
        else:
            break
    if byte != -1 and byte & 0xf0 == 0x40:
        i.rex, i.has_rex = byte & 15, 1
        byte = next_byte(i)
    return byte


cdef bint _pushes_or_pops(int opcode, int second) noexcept nogil:
    """Stack operations without, or apart from, a memory operand."""
    if 0x50 <= opcode <= 0x5f or opcode in (0x68, 0x6a, 0x9c, 0x9d, 0xc2, 0xc3, 0xc8, 0xc9, 0xca, 0xcb, 0xcf, 0xe8):
        return True
    return opcode == 0x0f and second in (0xa0, 0xa1, 0xa8, 0xa9)


cdef bint _has_modrm(int opcode, int second) noexcept nogil:
    """Among the instructions that touch memory: string operations, moffs and xlat have none."""
    return not (0xa0 <= opcode <= 0xa7 or 0xaa <= opcode <= 0xaf or 0x6c <= opcode <= 0x6f or opcode == 0xd7)


cdef bint reaches_for_the_stack(vcpu_t *v) noexcept nogil:
    """Whether a bad address of the instruction at rip is #SS: 64-bit code uses SS for rsp, rbp and pushes only."""
    cdef instruction_t i
    cdef int opcode = start_decoding(v, &i), second = 0, modrm, base
    if opcode == 0x0f:
        second = next_byte(&i)
        if second == 0x38 or second == 0x3a:
            next_byte(&i)
    if i.segment_override == 0x64 or i.segment_override == 0x65 or not _has_modrm(opcode, second):
        return False
    if _pushes_or_pops(opcode, second):
        return True
    modrm = next_byte(&i)
    if modrm < 0 or modrm >> 6 == 3:
        return False
    base = modrm & 7
    if base == 4:                                   # a SIB byte
        base = next_byte(&i) & 7
    elif base == 5 and modrm >> 6 == 0:             # relative to rip
        return False
    if base == 5 and modrm >> 6 == 0:               # SIB without a base
        return False
    return not i.rex & REX_B and (base == 4 or base == 5)


cdef int icebp_length(vcpu_t *v) noexcept nogil:
    """The length of an `icebp` at rip; 0 for any other instruction."""
    cdef instruction_t i
    return i.at if start_decoding(v, &i) == 0xf1 else 0
