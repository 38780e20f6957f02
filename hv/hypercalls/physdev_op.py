"""HYPERVISOR_physdev_op as far as a domU without devices sees it. Source: physdev.h; Xen 4.17 arch/x86/physdev.c."""

from hv.abi import physdev
from hv.abi.errno import XEN_EINVAL
from hv.hypercalls.registry import Call, operation


@operation("physdev_op", "PHYSDEVOP_set_iopl")
def set_iopl(call: Call, argument: physdev.physdev_set_iopl) -> int:
    if argument.iopl > 3:
        return -XEN_EINVAL
    call.guest.set_iopl(call.vcpu, argument.iopl)
    return 0
