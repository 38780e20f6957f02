"""HYPERVISOR_vcpu_op: bringing vCPUs up and down; is_up and the timers are served in C, which has checked the number.

Source: vcpu.h; Xen 4.17 common/domain.c (common_vcpu_op) and arch/x86/domain.c (arch_set_info_guest).
"""

from hv.abi.arch_x86_xen import vcpu_guest_context
from hv.abi.vcpu import vcpu_register_vcpu_info
from hv.hypercalls.registry import Call, operation


def _target(call: Call) -> int:
    return call.registers[1] & 0xFFFFFFFF


@operation("vcpu_op", "VCPUOP_initialise")
def initialise(call: Call, argument: vcpu_guest_context) -> int:
    """The state in which a vCPU will start; it stays down until VCPUOP_up."""
    return call.guest.initialise_vcpu(_target(call), bytes(argument))


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
