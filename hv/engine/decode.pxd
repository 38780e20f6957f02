# cython: language_level=3
from libc.stdint cimport uint8_t, uint64_t
from hv.fastpath.state cimport vcpu_t

ctypedef struct instruction_t:
    uint8_t bytes[15]
    int length                      # bytes that could be fetched
    int at                          # next to decode
    int rex
    int has_rex
    int operand_16
    int address_32
    int lock
    int repeat                      # 0xf2, 0xf3 or 0
    int segment_override
    int port_hits                   # I/O breakpoints that it met: bits 0-3 of DR6

cdef int fetch_code(vcpu_t *v, uint64_t rip, uint8_t *into) noexcept nogil
cdef int next_byte(instruction_t *i) noexcept nogil
cdef int start_decoding(vcpu_t *v, instruction_t *i) noexcept nogil      # the first opcode byte, or -1
cdef bint reaches_for_the_stack(vcpu_t *v) noexcept nogil
cdef int icebp_length(vcpu_t *v) noexcept nogil
