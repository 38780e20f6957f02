"""vCPUs: bring-up, run states, timers, per-vCPU areas. Follows public/vcpu.h."""

import ctypes
from ctypes import Array

from hv.abi.layout import Annotated, handle, i32, layout, u32, u64

VCPUOP_initialise = 0
VCPUOP_up = 1
VCPUOP_down = 2
VCPUOP_is_up = 3
VCPUOP_get_runstate_info = 4
VCPUOP_register_runstate_memory_area = 5
VCPUOP_set_periodic_timer = 6
VCPUOP_stop_periodic_timer = 7
VCPUOP_set_singleshot_timer = 8
VCPUOP_stop_singleshot_timer = 9
VCPUOP_register_vcpu_info = 10
VCPUOP_send_nmi = 11
VCPUOP_get_physid = 12
VCPUOP_register_vcpu_time_memory_area = 13

RUNSTATE_running = 0
RUNSTATE_runnable = 1
RUNSTATE_blocked = 2
RUNSTATE_offline = 3

XEN_RUNSTATE_UPDATE = 1 << 63

_VCPU_SSHOTTMR_future = 0
VCPU_SSHOTTMR_future = 1 << _VCPU_SSHOTTMR_future


@layout
class vcpu_runstate_info(ctypes.Structure):
    """State of a vCPU (RUNSTATE_*) and the nanoseconds spent in each."""

    state: i32
    state_entry_time: u64
    time: Annotated[Array[ctypes.c_uint64], 4]


@layout
class vcpu_register_runstate_memory_area(ctypes.Structure):
    """Where the run state shall be kept up to date."""

    @layout
    class addr_t(ctypes.Union):
        h: handle
        v: u64
        p: u64

    addr: addr_t


@layout
class vcpu_set_periodic_timer(ctypes.Structure):
    """Period of VIRQ_TIMER."""

    period_ns: u64


@layout
class vcpu_set_singleshot_timer(ctypes.Structure):
    """Deadline in system time."""

    timeout_abs_ns: u64
    flags: u32


@layout
class vcpu_register_vcpu_info(ctypes.Structure):
    """New place of the vCPU's `vcpu_info`."""

    mfn: u64
    offset: u32
    rsvd: u32


@layout
class vcpu_get_physid(ctypes.Structure):
    """APIC and ACPI identity of the CPU below."""

    phys_id: u64


@layout
class vcpu_register_time_memory_area(ctypes.Structure):
    """A second place for the vCPU's clock, which user space may map."""

    @layout
    class addr_t(ctypes.Union):
        h: handle
        v: u64
        p: u64

    addr: addr_t
