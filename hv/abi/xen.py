"""The core of the interface: hypercalls, domains, page-table updates, shared pages.

Follows public/xen.h. What it takes from the architecture is in `arch_x86_xen.py` and
`arch_x86_64.py`, as in the headers.

Inside a class body Python mangles `__HYPERVISOR_*`; take the number from `hypercalls.py` there.
"""

import ctypes
from ctypes import Array, c_uint64

from hv.abi.arch_x86_64 import arch_vcpu_info
from hv.abi.arch_x86_xen import (
    XEN_LEGACY_MAX_VCPUS,
    arch_shared_info,
    xen_pfn_t,
    xen_ulong_t,
)
from hv.abi.layout import Annotated, handle, i8, layout, u8, u16, u32, u64

domid_t = u16

__HYPERVISOR_set_trap_table = 0
__HYPERVISOR_mmu_update = 1
__HYPERVISOR_set_gdt = 2
__HYPERVISOR_stack_switch = 3
__HYPERVISOR_set_callbacks = 4
__HYPERVISOR_fpu_taskswitch = 5
__HYPERVISOR_sched_op_compat = 6
__HYPERVISOR_platform_op = 7
__HYPERVISOR_set_debugreg = 8
__HYPERVISOR_get_debugreg = 9
__HYPERVISOR_update_descriptor = 10
__HYPERVISOR_memory_op = 12
__HYPERVISOR_multicall = 13
__HYPERVISOR_update_va_mapping = 14
__HYPERVISOR_set_timer_op = 15
__HYPERVISOR_event_channel_op_compat = 16
__HYPERVISOR_xen_version = 17
__HYPERVISOR_console_io = 18
__HYPERVISOR_physdev_op_compat = 19
__HYPERVISOR_grant_table_op = 20
__HYPERVISOR_vm_assist = 21
__HYPERVISOR_update_va_mapping_otherdomain = 22
__HYPERVISOR_iret = 23
__HYPERVISOR_vcpu_op = 24
__HYPERVISOR_set_segment_base = 25
__HYPERVISOR_mmuext_op = 26
__HYPERVISOR_xsm_op = 27
__HYPERVISOR_nmi_op = 28
__HYPERVISOR_sched_op = 29
__HYPERVISOR_callback_op = 30
__HYPERVISOR_xenoprof_op = 31
__HYPERVISOR_event_channel_op = 32
__HYPERVISOR_physdev_op = 33
__HYPERVISOR_hvm_op = 34
__HYPERVISOR_sysctl = 35
__HYPERVISOR_domctl = 36
__HYPERVISOR_kexec_op = 37
__HYPERVISOR_tmem_op = 38
__HYPERVISOR_argo_op = 39
__HYPERVISOR_xenpmu_op = 40
__HYPERVISOR_dm_op = 41
__HYPERVISOR_hypfs_op = 42
__HYPERVISOR_arch_0 = 48
__HYPERVISOR_arch_1 = 49
__HYPERVISOR_arch_2 = 50
__HYPERVISOR_arch_3 = 51
__HYPERVISOR_arch_4 = 52
__HYPERVISOR_arch_5 = 53
__HYPERVISOR_arch_6 = 54
__HYPERVISOR_arch_7 = 55

VIRQ_TIMER = 0
VIRQ_DEBUG = 1
VIRQ_CONSOLE = 2
VIRQ_DOM_EXC = 3
VIRQ_TBUF = 4
VIRQ_DEBUGGER = 6
VIRQ_XENOPROF = 7
VIRQ_CON_RING = 8
VIRQ_PCPU_STATE = 9
VIRQ_MEM_EVENT = 10
VIRQ_ARGO = 11
VIRQ_ENOMEM = 12
VIRQ_XENPMU = 13
VIRQ_ARCH_0 = 16
VIRQ_ARCH_1 = 17
VIRQ_ARCH_2 = 18
VIRQ_ARCH_3 = 19
VIRQ_ARCH_4 = 20
VIRQ_ARCH_5 = 21
VIRQ_ARCH_6 = 22
VIRQ_ARCH_7 = 23
NR_VIRQS = 24

MMU_NORMAL_PT_UPDATE = 0
MMU_MACHPHYS_UPDATE = 1
MMU_PT_UPDATE_PRESERVE_AD = 2
MMU_PT_UPDATE_NO_TRANSLATE = 3

MMUEXT_PIN_L1_TABLE = 0
MMUEXT_PIN_L2_TABLE = 1
MMUEXT_PIN_L3_TABLE = 2
MMUEXT_PIN_L4_TABLE = 3
MMUEXT_UNPIN_TABLE = 4
MMUEXT_NEW_BASEPTR = 5
MMUEXT_TLB_FLUSH_LOCAL = 6
MMUEXT_INVLPG_LOCAL = 7
MMUEXT_TLB_FLUSH_MULTI = 8
MMUEXT_INVLPG_MULTI = 9
MMUEXT_TLB_FLUSH_ALL = 10
MMUEXT_INVLPG_ALL = 11
MMUEXT_FLUSH_CACHE = 12
MMUEXT_SET_LDT = 13
MMUEXT_NEW_USER_BASEPTR = 15
MMUEXT_CLEAR_PAGE = 16
MMUEXT_COPY_PAGE = 17
MMUEXT_FLUSH_CACHE_GLOBAL = 18
MMUEXT_MARK_SUPER = 19
MMUEXT_UNMARK_SUPER = 20

UVMF_NONE = 0 << 0
UVMF_TLB_FLUSH = 1 << 0
UVMF_INVLPG = 2 << 0
UVMF_FLUSHTYPE_MASK = 3 << 0
UVMF_MULTI = 0 << 2
UVMF_LOCAL = 0 << 2
UVMF_ALL = 1 << 2

CONSOLEIO_write = 0
CONSOLEIO_read = 1

VMASST_CMD_enable = 0
VMASST_CMD_disable = 1

VMASST_TYPE_4gb_segments = 0
VMASST_TYPE_4gb_segments_notify = 1
VMASST_TYPE_writable_pagetables = 2
VMASST_TYPE_pae_extended_cr3 = 3
VMASST_TYPE_architectural_iopl = 4
VMASST_TYPE_runstate_update_flag = 5
VMASST_TYPE_m2p_strict = 32

DOMID_FIRST_RESERVED = 0x7FF0
DOMID_SELF = 0x7FF0
DOMID_IO = 0x7FF1
DOMID_XEN = 0x7FF2
DOMID_COW = 0x7FF3
DOMID_INVALID = 0x7FF4
DOMID_IDLE = 0x7FFF
DOMID_MASK = 0x7FFF

XEN_PVCLOCK_TSC_STABLE_BIT = 1 << 0
XEN_PVCLOCK_GUEST_STOPPED = 1 << 1

MAX_GUEST_CMDLINE = 1024

SIF_PRIVILEGED = 1 << 0
SIF_INITDOMAIN = 1 << 1
SIF_MULTIBOOT_MOD = 1 << 2
SIF_MOD_START_PFN = 1 << 3
SIF_VIRT_P2M_4TOOLS = 1 << 4
SIF_PM_MASK = 0xFF << 8


@layout
class mmuext_op(ctypes.Structure):
    """One extended MMU operation; `cmd` is MMUEXT_*."""

    @layout
    class arg1_t(ctypes.Union):
        mfn: xen_pfn_t
        linear_addr: u64

    @layout
    class arg2_t(ctypes.Union):
        nr_ents: u32
        vcpumask: handle
        src_mfn: xen_pfn_t

    cmd: u32
    arg1: arg1_t
    arg2: arg2_t


@layout
class mmu_update(ctypes.Structure):
    """One update; bits 0-1 of `ptr` are MMU_*, the rest is a machine address."""

    ptr: u64
    val: u64


@layout
class multicall_entry(ctypes.Structure):
    """One hypercall of a batch, and room for its result."""

    op: xen_ulong_t
    result: xen_ulong_t
    args: Annotated[Array[c_uint64], 6]


@layout
class vcpu_time_info(ctypes.Structure):
    """The paravirtual clock; `version` is odd while it is being written."""

    version: u32
    pad0: u32
    tsc_timestamp: u64
    system_time: u64
    tsc_to_system_mul: u32
    tsc_shift: i8
    flags: u8
    pad1: Annotated[Array[ctypes.c_uint8], 2]


@layout
class vcpu_info(ctypes.Structure):
    """Event flags, fault address and clock of one vCPU."""

    evtchn_upcall_pending: u8
    evtchn_upcall_mask: u8
    evtchn_pending_sel: xen_ulong_t
    arch: arch_vcpu_info
    time: vcpu_time_info


@layout
class shared_info(ctypes.Structure):
    """The page that a domain shares with the hypervisor."""

    vcpu_info: Annotated[Array[vcpu_info], XEN_LEGACY_MAX_VCPUS]
    evtchn_pending: Annotated[Array[c_uint64], 64]
    evtchn_mask: Annotated[Array[c_uint64], 64]
    wc_version: u32
    wc_sec: u32
    wc_nsec: u32
    wc_sec_hi: u32
    arch: arch_shared_info


@layout
class start_info(ctypes.Structure):
    """What a PV guest finds at the address in rsi when it starts."""

    @layout
    class console_t(ctypes.Union):
        @layout
        class domU_t(ctypes.Structure):
            mfn: xen_pfn_t
            evtchn: u32

        @layout
        class dom0_t(ctypes.Structure):
            info_off: u32
            info_size: u32

        domU: domU_t
        dom0: dom0_t

    magic: Annotated[bytes, ctypes.c_char * 32]
    nr_pages: u64
    shared_info: u64
    flags: u32
    store_mfn: xen_pfn_t
    store_evtchn: u32
    console: console_t
    pt_base: u64
    nr_pt_frames: u64
    mfn_list: u64
    mod_start: u64
    mod_len: u64
    cmd_line: Annotated[bytes, ctypes.c_char * MAX_GUEST_CMDLINE]
    first_p2m_pfn: u64
    nr_p2m_frames: u64


@layout
class xen_multiboot_mod_list(ctypes.Structure):
    """One module, if SIF_MULTIBOOT_MOD is set."""

    mod_start: u32
    mod_end: u32
    cmdline: u32
    pad: u32
