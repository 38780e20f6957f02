# cython: language_level=3
"""Which of a vCPU's debug registers match: execution breakpoints and watchpoints of the guest itself.

Rules:
* DR7 is as Xen keeps it: I/O breakpoints are not in it, and what is in it is enabled in both modes of the guest.
* `v.breakpoints` and `v.watchpoints` say which of DR0-DR3 are which; both 0 is the fast answer for everybody else.

Specification: Intel SDM 17.2 (debug registers).
"""
from libc.stdint cimport uint32_t, uint64_t
from hv.fastpath.memory cimport ACCESS_FETCH, ACCESS_WRITE
from hv.fastpath.state cimport PAGE_SHIFT, vcpu_t

cdef enum:
    EXECUTION = 0
    WRITES = 1
    ACCESSES = 3


cdef int _kind(vcpu_t *v, int i) noexcept nogil:
    return v.dr[7] >> (16 + 4 * i) & 3


cdef uint64_t _length(vcpu_t *v, int i) noexcept nogil:
    cdef int code = v.dr[7] >> (18 + 4 * i) & 3
    return 8 if code == 2 else code + 1


cdef void arm(vcpu_t *v) noexcept nogil:
    cdef int i
    v.breakpoints = v.watchpoints = 0
    for i in range(4):
        if not v.dr[7] >> (2 * i) & 3:
            continue
        if _kind(v, i) == EXECUTION:
            v.breakpoints |= 1 << i
        elif _kind(v, i) == WRITES or _kind(v, i) == ACCESSES:
            v.watchpoints |= 1 << i


cdef bint stops_in_page(vcpu_t *v, uint64_t va) noexcept nogil:
    cdef int i
    for i in range(4):
        if v.breakpoints >> i & 1 and (v.dr[i] ^ va) >> PAGE_SHIFT == 0:
            return True
    return False


cdef bint watches_page(vcpu_t *v, uint64_t va) noexcept nogil:
    cdef int i
    for i in range(4):
        if v.watchpoints >> i & 1 and (v.dr[i] ^ va) >> PAGE_SHIFT == 0:
            return True
    return False


cdef uint32_t stops_at(vcpu_t *v, uint64_t va) noexcept nogil:
    cdef uint32_t hits = 0
    cdef int i
    for i in range(4):
        if v.breakpoints >> i & 1 and v.dr[i] == va:
            hits |= 1 << i
    return hits


cdef uint32_t watches(vcpu_t *v, uint64_t va, uint64_t size, int access) noexcept nogil:
    """The range of a watchpoint is aligned to its length, whatever the register's low bits say."""
    cdef uint32_t hits = 0
    cdef uint64_t length, start
    cdef int i
    if access == ACCESS_FETCH:
        return 0
    for i in range(4):
        if not v.watchpoints >> i & 1 or (_kind(v, i) == WRITES and access != ACCESS_WRITE):
            continue
        length = _length(v, i)
        start = v.dr[i] & ~(length - 1)
        if va < start + length and start < va + size:
            hits |= 1 << i
    return hits
