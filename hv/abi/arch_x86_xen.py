"""What all x86 guests share: traps, vCPU contexts, the p2m's root.

Follows public/arch-x86/xen.h.
"""

import ctypes
from ctypes import Array, c_uint64

from hv.abi.arch_x86_64 import cpu_user_regs
from hv.abi.layout import Annotated, layout, u8, u16, u32, u64

xen_pfn_t = u64
xen_ulong_t = u64

FIRST_RESERVED_GDT_PAGE = 14
FIRST_RESERVED_GDT_BYTE = FIRST_RESERVED_GDT_PAGE * 4096
FIRST_RESERVED_GDT_ENTRY = FIRST_RESERVED_GDT_BYTE // 8

XEN_LEGACY_MAX_VCPUS = 32

VGCF_I387_VALID = 1 << 0
VGCF_IN_KERNEL = 1 << 2
_VGCF_i387_valid = 0
VGCF_i387_valid = 1 << _VGCF_i387_valid
_VGCF_in_kernel = 2
VGCF_in_kernel = 1 << _VGCF_in_kernel
_VGCF_failsafe_disables_events = 3
VGCF_failsafe_disables_events = 1 << _VGCF_failsafe_disables_events
_VGCF_syscall_disables_events = 4
VGCF_syscall_disables_events = 1 << _VGCF_syscall_disables_events
_VGCF_online = 5
VGCF_online = 1 << _VGCF_online

XEN_CPUID_NO_SUBLEAF = 0xFFFFFFFF
XEN_HVM_DEBUGCONS_IOPORT = 0xE9

# The bytes that ask for an emulated CPUID when they precede it; on any other instruction, #UD.
XEN_EMULATE_PREFIX = b"\x0f\x0bxen"


@layout
class trap_info(ctypes.Structure):
    """One entry of a virtual IDT; bits 0-1 of `flags` are the DPL, bit 2 masks events on entry."""

    vector: u8
    flags: u8
    cs: u16
    address: u64


def TI_GET_DPL(ti: trap_info) -> int:
    """The privilege that software needs to raise the trap."""
    return ti.flags & 3


def TI_GET_IF(ti: trap_info) -> int:
    """Non-zero if event delivery is masked on entry to the handler."""
    return ti.flags & 4


@layout
class vcpu_guest_context(ctypes.Structure):
    """The state that VCPUOP_initialise gives to a vCPU."""

    @layout
    class fpu_ctxt_t(ctypes.Structure):
        x: Annotated[Array[ctypes.c_uint8], 512]

    fpu_ctxt: fpu_ctxt_t
    flags: u64
    user_regs: cpu_user_regs
    trap_ctxt: Annotated[Array[trap_info], 256]
    ldt_base: u64
    ldt_ents: u64
    gdt_frames: Annotated[Array[c_uint64], 16]
    gdt_ents: u64
    kernel_ss: u64
    kernel_sp: u64
    ctrlreg: Annotated[Array[c_uint64], 8]
    debugreg: Annotated[Array[c_uint64], 8]
    event_callback_eip: u64
    failsafe_callback_eip: u64
    syscall_callback_eip: u64
    vm_assist: u64
    fs_base: u64
    gs_base_kernel: u64
    gs_base_user: u64


@layout
class arch_shared_info(ctypes.Structure):
    """Where the guest keeps its p2m, and why it got an NMI."""

    max_pfn: u64
    pfn_to_mfn_frame_list_list: xen_pfn_t
    nmi_reason: u64
    p2m_cr3: u64
    p2m_vaddr: u64
    p2m_generation: u64


@layout
class xen_cpuid_leaf(ctypes.Structure):
    """One CPUID leaf of a guest's policy."""

    leaf: u32
    subleaf: u32
    a: u32
    b: u32
    c: u32
    d: u32


@layout
class xen_msr_entry(ctypes.Structure):
    """One MSR of a guest's policy."""

    idx: u32
    flags: u32
    val: u64
