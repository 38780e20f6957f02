"""HYPERVISOR_vcpu_op: bringing vCPUs up and down, and the areas that a guest registers for them.

is_up, get_runstate_info and the timers are served in C, which has checked the vCPU's number.

Source: vcpu.h; Xen 4.17 common/domain.c (common_vcpu_op) and arch/x86/domain.c (do_vcpu_op, arch_set_info_guest).
"""

from hv.abi.arch_x86_xen import vcpu_guest_context
from hv.abi.errno import XEN_EFAULT, XEN_EINVAL
from hv.abi.vcpu import (
    vcpu_register_runstate_memory_area,
    vcpu_register_time_memory_area,
    vcpu_register_vcpu_info,
)
from hv.hypercalls.handles import address_ok
from hv.hypercalls.registry import Call, operation


def _target(call: Call) -> int:
    return call.registers[1] & 0xFFFFFFFF


@operation("vcpu_op", "VCPUOP_initialise", raw=True)
def initialise(call: Call, vcpu: int, arg: int) -> int:
    """The state in which a vCPU will start; it stays down until VCPUOP_up."""
    if not call.guest.has_vcpu_info(_target(call)):  # said before the argument is read
        return -XEN_EINVAL
    return call.guest.initialise_vcpu(_target(call), bytes(call.read(arg, vcpu_guest_context)))


@operation("vcpu_op", "VCPUOP_up")
def up(call: Call, *_: int) -> int:
    return call.guest.vcpu_up(_target(call))


@operation("vcpu_op", "VCPUOP_down")
def down(call: Call, *_: int) -> int:
    """The last vCPU that goes down powers the domain off."""
    return call.guest.vcpu_down(_target(call))


@operation("vcpu_op", "VCPUOP_register_vcpu_info")
def register_vcpu_info(call: Call, argument: vcpu_register_vcpu_info) -> int:
    """Move a vCPU's vcpu_info to a page of the guest; every event is marked pending, one spurious upcall is right."""
    return call.guest.register_vcpu_info(_target(call), call.vcpu, argument.mfn, argument.offset)


@operation("vcpu_op", "VCPUOP_register_runstate_memory_area")
def register_runstate_memory_area(call: Call, argument: vcpu_register_runstate_memory_area) -> int:
    if not address_ok(argument.addr.v):
        return -XEN_EFAULT
    call.guest.register_runstate_area(_target(call), call.vcpu, argument.addr.v)
    return 0


@operation("vcpu_op", "VCPUOP_register_vcpu_time_memory_area")
def register_vcpu_time_memory_area(call: Call, argument: vcpu_register_time_memory_area) -> int:
    if not address_ok(argument.addr.v):
        return -XEN_EFAULT
    call.guest.register_time_area(_target(call), call.vcpu, argument.addr.v)
    return 0
