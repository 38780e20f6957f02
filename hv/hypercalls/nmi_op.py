"""HYPERVISOR_nmi_op: the guest's NMI handler. Source: nmi.h; Xen 4.17 arch/x86/pv/callback.c."""

from hv.abi.arch_x86_64 import FLAT_KERNEL_CS
from hv.abi.errno import XEN_EINVAL
from hv.abi.nmi import xennmi_callback
from hv.hypercalls.callback_op import MASK_EVENTS, NMI
from hv.hypercalls.handles import canonical
from hv.hypercalls.registry import Call, operation


@operation("nmi_op", "XENNMI_register_callback")
def register_callback(call: Call, argument: xennmi_callback) -> int:
    if not canonical(argument.handler_address):
        return -XEN_EINVAL
    call.guest.set_trap(call.vcpu, NMI, MASK_EVENTS, FLAT_KERNEL_CS, argument.handler_address)
    return 0


@operation("nmi_op", "XENNMI_unregister_callback")
def unregister_callback(call: Call, _: int) -> int:
    call.guest.set_trap(call.vcpu, NMI, 0, 0, 0)
    return 0
