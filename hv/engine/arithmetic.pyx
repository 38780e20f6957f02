# cython: language_level=3, overflowcheck=False
"""What instructions make of a word: its new value, and the flags.

Rules:
* Words are 1, 2, 4 or 8 bytes, in the low bits; sums wrap around as the CPU's do: no overflow is checked here.
* Flags that an instruction leaves undefined come out somehow, but always in the same way.

Specification: Intel SDM, volume 2, and appendix A of volume 1.
"""
from libc.stdint cimport uint64_t
from hv.engine.unicorn cimport FLAG_CF

cdef uint64_t _sum_flags(uint64_t result, int size) noexcept nogil:
    """ZF, SF and PF of a result."""
    cdef uint64_t parity = result & 0xff
    parity ^= parity >> 4
    parity ^= parity >> 2
    parity ^= parity >> 1
    return ((FLAG_ZF if result & mask_of(size) == 0 else 0) | (FLAG_SF if result >> (8 * size - 1) & 1 else 0)
            | (0 if parity & 1 else FLAG_PF))


cdef uint64_t _add(uint64_t a, uint64_t b, uint64_t carry, int size, uint64_t *flags) noexcept nogil:
    cdef uint64_t result = a + b + carry & mask_of(size)
    cdef uint64_t carries = (a & b) | (a | b) & ~result
    cdef uint64_t top = 8 * size - 1
    flags[0] = (_sum_flags(result, size) | (carries >> top & 1) | ((a ^ b ^ result) & FLAG_AF)
                | (FLAG_OF if ((a ^ result) & (b ^ result)) >> top & 1 else 0))
    return result


cdef uint64_t subtract(uint64_t a, uint64_t b, uint64_t borrow, int size, uint64_t *flags) noexcept nogil:
    cdef uint64_t result = a - b - borrow & mask_of(size)
    cdef uint64_t borrows = (~a & b) | (~a | b) & result
    cdef uint64_t top = 8 * size - 1
    flags[0] = (_sum_flags(result, size) | (borrows >> top & 1) | ((a ^ b ^ result) & FLAG_AF)
                | (FLAG_OF if ((a ^ b) & (a ^ result)) >> top & 1 else 0))
    return result


cdef uint64_t _rotate(int operation, uint64_t old, uint64_t count, int size, uint64_t *flags) noexcept nogil:
    """Bit by bit, as the manual has it; only CF and OF change."""
    cdef uint64_t top = 8 * size - 1, result = old, carry = 0, out, i
    for i in range(count):
        if operation == ROTATE_LEFT:
            carry = result >> top & 1
            result = result << 1 & mask_of(size) | carry
        else:
            carry = result & 1
            result = result >> 1 | carry << top
    out = result >> top ^ (carry if operation == ROTATE_LEFT else result >> (top - 1))
    flags[0] = flags[0] & ~<uint64_t>(FLAG_CF | FLAG_OF) | carry | (FLAG_OF if out & 1 else 0)
    return result


cdef uint64_t _shift(int operation, uint64_t old, uint64_t source, uint64_t count, int size, uint64_t *flags) noexcept nogil:
    """shl, shr, sar, shld and shrd by 1 to 63."""
    cdef uint64_t top = 8 * size - 1, result = old, carry = 0, fill = 0, i
    for i in range(count):
        if operation == SHIFT_RIGHT or operation == SHIFT_ARITHMETIC or operation == SHIFT_IN_RIGHT:
            if operation == SHIFT_IN_RIGHT:
                fill = source >> (i & top) & 1
            elif operation == SHIFT_ARITHMETIC:
                fill = old >> top & 1
            carry = result & 1
            result = result >> 1 | fill << top
        else:
            if operation == SHIFT_IN_LEFT:
                fill = source >> (top - (i & top)) & 1
            carry = result >> top & 1
            result = result << 1 & mask_of(size) | fill
    flags[0] = _sum_flags(result, size) | carry
    if operation == SHIFT_LEFT or operation == SHIFT_LEFT_AGAIN:
        flags[0] |= FLAG_OF if (result >> top ^ carry) & 1 else 0
    elif operation != SHIFT_ARITHMETIC:
        flags[0] |= FLAG_OF if (old >> top if operation == SHIFT_RIGHT else (result ^ old) >> top) & 1 else 0
    return result


cdef uint64_t compute(int operation, uint64_t old, uint64_t source, uint64_t count, int size, uint64_t *flags) noexcept nogil:
    """The new word; the flags that change, in place of all condition codes. `count` is that of shifts."""
    cdef uint64_t result, carry = flags[0] & FLAG_CF, bit = <uint64_t>1 << (source & 63)
    if operation >= ROTATE_LEFT:
        count &= 63 if size == 8 else 31
        if count == 0:
            return old
        if operation < SHIFT_LEFT:
            return _rotate(operation, old, count, size, flags)
        return _shift(operation, old, source, count, size, flags)
    if operation == ADD or operation == EXCHANGE_ADD or operation == ADC:
        return _add(old, source, carry if operation == ADC else 0, size, flags)
    if operation == SUB or operation == SBB:
        return subtract(old, source, carry if operation == SBB else 0, size, flags)
    if operation == NEGATE:
        return subtract(0, old, 0, size, flags)
    if operation == INCREMENT or operation == DECREMENT:
        result = _add(old, 1, 0, size, flags) if operation == INCREMENT else subtract(old, 1, 0, size, flags)
        flags[0] = flags[0] & ~<uint64_t>FLAG_CF | carry
        return result
    if operation == AND or operation == OR or operation == XOR:
        result = old & source if operation == AND else old | source if operation == OR else old ^ source
        flags[0] = _sum_flags(result, size)
        return result
    if operation == NOT:
        return ~old
    if BIT_SET <= operation <= BIT_COMPLEMENT:
        flags[0] = flags[0] & ~<uint64_t>FLAG_CF | (FLAG_CF if old & bit else 0)
        return old | bit if operation == BIT_SET else old & ~bit if operation == BIT_RESET else old ^ bit
    return source                                   # moves and exchanges
