# cython: language_level=3
"""The memory that a hypercall's arguments point at, as a trace keeps it with the call's record.

Rules:
* Which register points at what, and when, are rows that hv/trace/capture.py makes of those in hv/abi/hypercalls.py.
* Memory is looked at as the guest's kernel could read it; nothing changes by that. What is copied is bounded.
"""
from libc.stdint cimport int8_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from hv.fastpath.memory cimport ACCESS_LOOK, WALK_OK, walk, walk_t
from hv.fastpath.now cimport NEVER
from hv.fastpath.state cimport PAGE_SHIFT, PAGE_SIZE, vcpu_t
from hv.fastpath.trace cimport trace_chunk_t, trace_record_t

cdef enum:
    CHUNK = 16               # bytes before the data
    MOST_CAPTURED = 512      # bytes of an array
    MOST_STRUCTURE = 5376    # bytes of one structure
    NR_CALLS = 64
    ANY_OPERATION = 0xff
    MOST_CAPTURES = 4        # of one operation

ctypedef struct capture_t:
    uint8_t register_
    uint8_t at_entry
    uint8_t at_exit
    int8_t count_register    # -1: `fixed` elements
    uint16_t per             # the count is divided by it, rounded up
    uint16_t fixed
    uint32_t size            # of an element
    uint16_t pointer_at      # of a pointer inside the structure, its count (of so many bytes), and the size of its elements
    uint16_t count_at
    uint8_t count_size
    uint8_t nested_size      # 0: there is none

ctypedef struct captures_t:
    uint32_t number
    capture_t rows[MOST_CAPTURES]

cdef captures_t[NR_CALLS][NR_CALLS + 1] _captures       # the last column: whatever the operation
cdef int8_t[NR_CALLS] _operation_register
cdef uint32_t[NR_CALLS] _operation_bits


cdef void name_operation(int number, int register, uint32_t bits) noexcept:
    _operation_register[number] = register + 1
    _operation_bits[number] = bits


cdef void add_capture(int number, int operation, int register, int at_entry, int at_exit, int count_register, int per,
                      int fixed, int size, int pointer_at, int count_at, int count_size, int nested_size) noexcept:
    cdef captures_t *c = &_captures[number][NR_CALLS if operation == ANY_OPERATION else operation]
    cdef capture_t *row = &c.rows[c.number]
    assert c.number < MOST_CAPTURES
    c.number += 1
    row.register_, row.at_entry, row.at_exit, row.count_register = register, at_entry, at_exit, count_register
    row.per, row.fixed, row.size = per, fixed, size
    row.pointer_at, row.count_at, row.count_size, row.nested_size = pointer_at, count_at, count_size, nested_size


cdef uint32_t _look(vcpu_t *v, uint8_t *to, uint64_t va, uint32_t size) noexcept nogil:
    """Copy guest memory as its kernel could read it, and change nothing: how many bytes there were."""
    cdef walk_t w
    cdef uint32_t done = 0, chunk
    while done < size and va <= NEVER - done:           # the last page of all has nothing behind it
        if walk(v, v.kernel_root, va + done, ACCESS_LOOK, True, &w) != WALK_OK:
            break
        chunk = min(size - done, PAGE_SIZE - <uint32_t>((va + done) & (PAGE_SIZE - 1)))
        memcpy(to + done, v.domain.machine.ram + (w.mfn << PAGE_SHIFT) + ((va + done) & (PAGE_SIZE - 1)), chunk)
        done += chunk
    return done


cdef trace_chunk_t *_copy(vcpu_t *v, trace_record_t *r, int register, bint nested, uint64_t va, uint64_t whole, uint32_t most) noexcept nogil:
    """Append the bytes at an address to a record."""
    cdef trace_chunk_t *chunk = <trace_chunk_t *>(<uint8_t *>r + (<uint64_t>r.size << 3))
    cdef uint32_t padded
    chunk.register_ = register
    chunk.nested = nested
    chunk.address = va
    chunk.whole = <uint32_t>min(whole, <uint64_t>0xffffffffU)
    chunk.got = _look(v, <uint8_t *>chunk + CHUNK, va, min(chunk.whole, most))
    padded = (chunk.got + 7) & ~<uint32_t>7
    memset(<uint8_t *>chunk + CHUNK + chunk.got, 0, padded - chunk.got)
    r.size += (CHUNK + padded) >> 3
    return chunk


cdef void _capture_row(vcpu_t *v, trace_record_t *r, const capture_t *row, const uint64_t *args) noexcept nogil:
    cdef uint64_t count = row.fixed, pointer = 0
    cdef uint8_t *data
    cdef trace_chunk_t *chunk
    if row.count_register >= 0:
        count = ((args[row.count_register] & 0x7fffffff) + row.per - 1) // row.per
    if args[row.register_] == 0 or count == 0:
        return
    chunk = _copy(v, r, row.register_, False, args[row.register_], count * row.size,
                  MOST_STRUCTURE if count == 1 else MOST_CAPTURED)
    if row.nested_size and chunk.got >= row.size:
        data = <uint8_t *>chunk + CHUNK
        count = 0
        memcpy(&pointer, data + row.pointer_at, 8)
        memcpy(&count, data + row.count_at, row.count_size)
        if pointer and count:
            _copy(v, r, row.register_, True, pointer, min(count, <uint64_t>0xffffff) * row.nested_size, MOST_CAPTURED)


cdef void capture(vcpu_t *v, trace_record_t *r, uint64_t number, const uint64_t *args, bint leaving) noexcept nogil:
    """Append what the arguments of a call point at to its record: what Xen reads, or (leaving) what it has written."""
    cdef captures_t *c
    cdef uint64_t operation = NR_CALLS
    cdef uint32_t i
    if number >= NR_CALLS:
        return
    if _operation_register[number]:
        operation = min(args[_operation_register[number] - 1] & _operation_bits[number], <uint64_t>NR_CALLS)
    c = &_captures[number][operation]
    for i in range(c.number):
        if c.rows[i].at_exit if leaving else c.rows[i].at_entry:
            _capture_row(v, r, &c.rows[i], args)


include "capture_table.pxi"                             # generated by hv/trace/capture.py
fill_capture_table()
