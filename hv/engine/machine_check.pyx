# cython: language_level=3
"""The machine-check MSRs of a guest: there are two banks, and nothing is ever in them.

Behaviour: Xen 4.17, arch/x86/cpu/mcheck/vmce.c on an AMD CPU, which CPUID says this is.
"""
from libc.stdint cimport uint32_t, uint64_t
from hv.fastpath.state cimport vcpu_t

cdef enum:
    MSR_P5_TYPE = 1
    MSR_MCG_CAP = 0x179
    MSR_MCG_STATUS = 0x17a
    MSR_MCG_CTL = 0x17b
    MSR_MC0_CTL2 = 0x280
    MSR_MC31_CTL2 = 0x29f
    MSR_MC0_CTL = 0x400
    MSR_MC31_MISC = 0x47f
    BANKS = 2


cdef bint is_machine_check(uint32_t msr) noexcept nogil:
    return (msr <= MSR_P5_TYPE or MSR_MCG_CAP <= msr <= MSR_MCG_CTL or MSR_MC0_CTL2 <= msr <= MSR_MC31_CTL2
            or MSR_MC0_CTL <= msr <= MSR_MC31_MISC)


cdef uint64_t read_machine_check(vcpu_t *v, uint32_t msr) noexcept nogil:
    """Of an MSR that is one of these."""
    if msr == MSR_MCG_CAP:
        return BANKS
    if msr == MSR_MCG_STATUS:
        return v.mcg_status
    if MSR_MC0_CTL <= msr < MSR_MC0_CTL + 4 * BANKS and msr & 3 == 0:
        return ~<uint64_t>0
    return 0


cdef bint write_machine_check(vcpu_t *v, uint32_t msr, uint64_t value) noexcept nogil:
    """False for #GP: a bank's status, address and misc can only be cleared."""
    if msr == MSR_MCG_STATUS:
        v.mcg_status = value
    return not (MSR_MC0_CTL <= msr < MSR_MC0_CTL + 4 * BANKS and msr & 3 and value)
