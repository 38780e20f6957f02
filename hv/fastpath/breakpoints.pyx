# cython: language_level=3
"""A vCPU's debug registers, and which of them match: execution breakpoints and watchpoints of the guest itself.

Rules:
* DR7 is as Xen keeps it: what enables I/O breakpoints is apart (`dr7_io`), because only the emulation of port I/O looks
  at them; what is in it is enabled in both modes of the guest.
* `v.breakpoints` and `v.watchpoints` say which of DR0-DR3 are which; both 0 is the fast answer for everybody else.

Specification: Intel SDM 17.2 (debug registers); Xen 4.17 arch/x86/pv/misc-hypercalls.c (set_debugreg).
"""
from libc.stdint cimport uint32_t, uint64_t
from xen_abi cimport XEN_EINVAL, XEN_ENODEV, XEN_EPERM
from hv.fastpath.memory cimport ACCESS_FETCH, ACCESS_WRITE, HV_END
from hv.fastpath.state cimport PAGE_SHIFT, vcpu_t

cdef enum:
    EXECUTION = 0
    WRITES = 1
    PORTS = 2
    ACCESSES = 3
    CR4_DE = 8
    DR7_ENABLES = 0xff
    DR7_GD = 0x2000
    DR7_ONES = 0x400

cdef extern from * nogil:
    """
    #define DR6_MASK 0xffffefffULL
    #define DR6_ONES 0xffff0ff0ULL
    #define DR7_MASK 0xffff27ffULL
    """
    const uint64_t DR6_MASK, DR6_ONES, DR7_MASK


cdef int set_debug_register(vcpu_t *v, uint32_t index, uint64_t value) noexcept nogil:
    """What Xen lets a guest write; the caller tells the CPU. -ENODEV is #UD of the instruction, the others are #GP."""
    if index > 7 or (4 <= index <= 5 and v.cr4 & CR4_DE):
        return -XEN_ENODEV
    if index < 4:
        if value >> 47 and value < HV_END:
            return -XEN_EPERM
        v.dr[index] = value
        return 0
    if value >> 32:
        return -XEN_EINVAL
    if index & 1:
        return _set_dr7(v, (value & DR7_MASK) | DR7_ONES)
    v.dr[6] = (value & DR6_MASK) | DR6_ONES
    return 0


cdef int _set_dr7(vcpu_t *v, uint64_t value) noexcept nogil:
    cdef uint64_t ports = 0
    cdef int i
    if value & DR7_GD:
        return -XEN_EPERM
    if value & DR7_ENABLES:
        for i in range(4):
            if value >> (16 + 4 * i) & 3 == PORTS:
                if not v.cr4 & CR4_DE:
                    return -XEN_EPERM
                ports |= value & <uint64_t>3 << (2 * i)
    v.dr7_io = ports
    v.dr[7] = value & ~ports
    return 0


cdef int get_debug_register(vcpu_t *v, uint32_t index, uint64_t *value) noexcept nogil:
    if index > 7 or (4 <= index <= 5 and v.cr4 & CR4_DE):
        return -XEN_ENODEV
    if index >= 4:
        index |= 2
    value[0] = v.dr[index] | (v.dr7_io if index == 7 else 0)
    return 0


cdef uint32_t watches_ports(vcpu_t *v, uint32_t port, uint32_t size) noexcept nogil:
    """I/O breakpoints that an access to ports meets."""
    cdef uint32_t hits = 0
    cdef uint64_t start
    cdef int i
    if not v.dr7_io or not v.cr4 & CR4_DE:
        return 0
    for i in range(4):
        start = v.dr[i] & ~(_length(v, i) - 1)
        if v.dr7_io >> (2 * i) & 3 and start < port + size and port < start + _length(v, i):
            hits |= 1 << i
    return hits


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


cdef bint own_stops_ahead(const vcpu_t *v, uint64_t va) noexcept nogil:
    cdef int i
    for i in range(4):
        if v.breakpoints >> i & 1 and v.dr[i] >= va and v.dr[i] - va < LONGEST_BLOCK:
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
