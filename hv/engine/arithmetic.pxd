# cython: language_level=3
from libc.stdint cimport uint64_t

cdef enum:                       # what an instruction makes of the old word and its source; the first as opcodes number them
    ADD = 0
    OR = 1
    ADC = 2
    SBB = 3
    AND = 4
    SUB = 5
    XOR = 6
    MOVE = 8
    EXCHANGE = 9
    EXCHANGE_ADD = 10
    COMPARE_EXCHANGE = 11
    COMPARE_EXCHANGE_8 = 12
    INCREMENT = 13
    DECREMENT = 14
    NOT = 15
    NEGATE = 16
    BIT_SET = 17
    BIT_RESET = 18
    BIT_COMPLEMENT = 19
    STRING = 20
    ROTATE_LEFT = 32             # as opcodes number them, from here on
    ROTATE_RIGHT = 33
    SHIFT_LEFT = 36
    SHIFT_RIGHT = 37
    SHIFT_LEFT_AGAIN = 38
    SHIFT_ARITHMETIC = 39
    SHIFT_IN_LEFT = 40           # shld, shrd
    SHIFT_IN_RIGHT = 41
    NOTHING = -1

cdef enum:
    FLAG_PF = 4
    FLAG_AF = 0x10
    FLAG_ZF = 0x40
    FLAG_SF = 0x80
    FLAG_OF = 0x800


cdef inline uint64_t mask_of(int size) noexcept nogil:
    """All ones in `size` bytes."""
    return ~<uint64_t>0 if size == 8 else (<uint64_t>1 << 8 * size) - 1


cdef uint64_t subtract(uint64_t a, uint64_t b, uint64_t borrow, int size, uint64_t *flags) noexcept nogil
cdef uint64_t compute(int operation, uint64_t old, uint64_t source, uint64_t count, int size, uint64_t *flags) noexcept nogil
