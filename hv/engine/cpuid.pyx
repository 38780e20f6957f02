# cython: language_level=3
"""The CPUID policy of a PV64 domain.

Rules:
* A feature that Unicorn runs wrongly, or that a PV guest may not use, is hidden; nothing is invented.
* `cpuid` answers alike with and without the forced-emulation prefix, as on a host with CPUID faulting.

Why these: PSE and friends are hidden because Xen refuses superpages; AVX because Unicorn executes VEX encodings as
other instructions; RDRAND and RDSEED because host randomness would end determinism; ERMS and FSRM because `rep`
runs one block an iteration; XSAVE because no wider state than FXSAVE's exists here.
Leaves 0x40000000 and up: Xen's public arch-x86/cpuid.h.
"""
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset
from hv.engine.cpu cimport model_cpuid
from hv.engine.unicorn cimport RAX, RBX, RCX, RDX, hv_env
from hv.fastpath.state cimport vcpu_t

cdef enum:
    XEN_BASE = 0x40000000
    XEN_LAST = 0x40000005
    TSC_KHZ = 4000000

cdef extern from * nogil:
    """
    #define BIT(n) (1u << (n))
    /* leaf 1 edx: VME PSE MTRR PGE PSE36 HTT */
    #define HIDE_1_EDX (BIT(1) | BIT(3) | BIT(12) | BIT(13) | BIT(17) | BIT(28))
    /* leaf 1 ecx: DTES64 MONITOR VMX SMX FMA PCID x2APIC TSC-deadline XSAVE OSXSAVE AVX F16C RDRAND */
    #define HIDE_1_ECX (BIT(2) | BIT(3) | BIT(5) | BIT(6) | BIT(12) | BIT(17) | BIT(21) | BIT(24) | BIT(26) | BIT(27) \
                        | BIT(28) | BIT(29) | BIT(30))
    #define HYPERVISOR BIT(31)
    /* leaf 7 ebx, what stays: BMI1 BMI2 ADX CLFLUSHOPT */
    #define SHOW_7_EBX (BIT(3) | BIT(8) | BIT(19) | BIT(23))
    /* leaf 0x80000001 edx: VME PSE MTRR PGE PSE36 PAGE1GB */
    #define HIDE_E1_EDX (BIT(1) | BIT(3) | BIT(12) | BIT(13) | BIT(17) | BIT(26))
    /* leaf 0x80000001 ecx, what stays: LAHF ABM SSE4A misaligned-SSE PREFETCHW */
    #define SHOW_E1_ECX (BIT(0) | BIT(5) | BIT(6) | BIT(7) | BIT(8))
    """
    const uint32_t HIDE_1_EDX, HIDE_1_ECX, HYPERVISOR, SHOW_7_EBX, HIDE_E1_EDX, SHOW_E1_ECX


cdef void _xen_leaf(vcpu_t *v, uint32_t index, uint32_t subleaf, uint32_t *r) noexcept nogil:
    cdef uint64_t frames = v.domain.machine.nr_frames
    if index == 0:
        r[0] = XEN_LAST
        r[1] = 0x566e6558           # "XenVMMXenVMM"
        r[2] = 0x65584d4d
        r[3] = 0x4d4d566e
    elif index == 1:
        r[0] = (4 << 16) | 17
    elif index == 2:
        r[0] = 1                    # one hypercall page, by MSR 0x40000000
        r[1] = 0x40000000
        r[2] = 1                    # MMU_PT_UPDATE_PRESERVE_AD
    elif index == 3 and subleaf == 0:
        r[0] = (1 << 1) | (1 << 2)  # the host's TSC is safe; RDTSCP exists
        r[2] = TSC_KHZ
    elif index == 3 and subleaf == 1:
        r[2] = 0x80000000           # ns = (tsc >> 1) * 2^31 / 2^32
        r[3] = 0xffffffff
    elif index == 3 and subleaf == 2:
        r[0] = TSC_KHZ
    elif index == 5 and subleaf == 0:
        r[1] = 12
        while frames:
            frames >>= 1
            r[1] += 1


cdef void _policy(vcpu_t *v, uint32_t leaf, uint32_t subleaf, uint32_t *r) noexcept nogil:
    memset(r, 0, 16)
    if leaf >> 16 == XEN_BASE >> 16:
        if XEN_BASE <= leaf <= XEN_LAST:
            _xen_leaf(v, leaf - XEN_BASE, subleaf, r)
        return
    model_cpuid(v.domain, leaf, subleaf, r)
    if leaf == 0:
        r[0] = 7
    elif leaf == 1:
        r[1] = (r[1] & 0x0000ff00) | (1 << 16) | (v.id * 2) << 24
        r[2] = (r[2] & ~HIDE_1_ECX) | HYPERVISOR
        r[3] &= ~HIDE_1_EDX
    elif leaf == 7 and subleaf == 0:
        r[0] = r[2] = r[3] = 0
        r[1] &= SHOW_7_EBX
    elif leaf < 0x80000000U:
        memset(r, 0, 16)            # caches, MONITOR, thermal, XSAVE, topology: not offered
    elif leaf == 0x80000000U:
        r[0] = 0x80000008U
    elif leaf == 0x80000001U:
        r[2] &= SHOW_E1_ECX
        r[3] &= ~HIDE_E1_EDX
    elif leaf == 0x80000007U or leaf > 0x80000008U:
        memset(r, 0, 16)


cdef void guest_cpuid(vcpu_t *v) noexcept nogil:
    """Execute `cpuid` on the vCPU's registers."""
    cdef hv_env *env = <hv_env *>v.domain.env
    cdef uint32_t[4] r
    _policy(v, <uint32_t>env.regs[RAX], <uint32_t>env.regs[RCX], r)
    env.regs[RAX] = r[0]
    env.regs[RBX] = r[1]
    env.regs[RCX] = r[2]
    env.regs[RDX] = r[3]
