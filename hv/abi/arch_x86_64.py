"""What is particular to x86-64: selectors, address ranges, registers.

Follows public/arch-x86/xen-x86_64.h.
"""

import ctypes

from hv.abi.layout import Annotated, layout, u8, u16, u32, u64

FLAT_RING3_CS32 = 0xE023
FLAT_RING3_CS64 = 0xE033
FLAT_RING3_DS32 = 0xE02B
FLAT_RING3_DS64 = 0x0000
FLAT_RING3_SS32 = 0xE02B
FLAT_RING3_SS64 = 0xE02B

FLAT_KERNEL_DS64 = FLAT_RING3_DS64
FLAT_KERNEL_DS32 = FLAT_RING3_DS32
FLAT_KERNEL_DS = FLAT_KERNEL_DS64
FLAT_KERNEL_CS64 = FLAT_RING3_CS64
FLAT_KERNEL_CS32 = FLAT_RING3_CS32
FLAT_KERNEL_CS = FLAT_KERNEL_CS64
FLAT_KERNEL_SS64 = FLAT_RING3_SS64
FLAT_KERNEL_SS32 = FLAT_RING3_SS32
FLAT_KERNEL_SS = FLAT_KERNEL_SS64

FLAT_USER_DS64 = FLAT_RING3_DS64
FLAT_USER_DS32 = FLAT_RING3_DS32
FLAT_USER_DS = FLAT_USER_DS64
FLAT_USER_CS64 = FLAT_RING3_CS64
FLAT_USER_CS32 = FLAT_RING3_CS32
FLAT_USER_CS = FLAT_USER_CS64
FLAT_USER_SS64 = FLAT_RING3_SS64
FLAT_USER_SS32 = FLAT_RING3_SS32
FLAT_USER_SS = FLAT_USER_SS64

HYPERVISOR_VIRT_START = 0xFFFF800000000000
HYPERVISOR_VIRT_END = 0xFFFF880000000000
MACH2PHYS_VIRT_START = 0xFFFF800000000000
MACH2PHYS_VIRT_END = 0xFFFF804000000000
MACH2PHYS_NR_ENTRIES = (MACH2PHYS_VIRT_END - MACH2PHYS_VIRT_START) >> 3

SEGBASE_FS = 0
SEGBASE_GS_USER = 1
SEGBASE_GS_KERNEL = 2
SEGBASE_GS_USER_SEL = 3

_VGCF_in_syscall = 8
VGCF_in_syscall = 1 << _VGCF_in_syscall
VGCF_IN_SYSCALL = VGCF_in_syscall


@layout
class iret_context(ctypes.Structure):
    """What HYPERVISOR_iret pops from the kernel stack, lowest address first."""

    rax: u64
    r11: u64
    rcx: u64
    flags: u64
    rip: u64
    cs: u64
    rflags: u64
    rsp: u64
    ss: u64


@layout
class cpu_user_regs(ctypes.Structure):
    """Registers of a vCPU, in the order of the frame that Xen itself builds."""

    r15: u64
    r14: u64
    r13: u64
    r12: u64
    rbp: u64
    rbx: u64
    r11: u64
    r10: u64
    r9: u64
    r8: u64
    rax: u64
    rcx: u64
    rdx: u64
    rsi: u64
    rdi: u64
    error_code: u32
    entry_vector: u32
    rip: u64
    cs: u16
    _pad0: Annotated[ctypes.Array[ctypes.c_uint16], 1]
    saved_upcall_mask: u8
    _pad1: Annotated[ctypes.Array[ctypes.c_uint8], 3]
    rflags: u64
    rsp: u64
    ss: u16
    _pad2: Annotated[ctypes.Array[ctypes.c_uint16], 3]
    es: u16
    _pad3: Annotated[ctypes.Array[ctypes.c_uint16], 3]
    ds: u16
    _pad4: Annotated[ctypes.Array[ctypes.c_uint16], 3]
    fs: u16
    _pad5: Annotated[ctypes.Array[ctypes.c_uint16], 3]
    gs: u16
    _pad6: Annotated[ctypes.Array[ctypes.c_uint16], 3]


@layout
class arch_vcpu_info(ctypes.Structure):
    """The faulting address of the last page fault, per vCPU."""

    cr2: u64
    pad: u64
