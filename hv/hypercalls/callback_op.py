"""HYPERVISOR_callback_op and the older set_callbacks: where the guest is entered for events and system calls.

Source: callback.h; Xen 4.17 arch/x86/pv/callback.c.
"""

from hv.abi import callback
from hv.abi.arch_x86_64 import FLAT_KERNEL_CS
from hv.abi.errno import XEN_EINVAL, XEN_ENOSYS
from hv.hypercalls.handles import canonical
from hv.hypercalls.registry import Call, hypercall, operation

NMI = 2
MASK_EVENTS = 4  # of trap_info.flags
KINDS = {
    callback.CALLBACKTYPE_event: "event",
    callback.CALLBACKTYPE_failsafe: "failsafe",
    callback.CALLBACKTYPE_syscall: "syscall",
    callback.CALLBACKTYPE_sysenter: "sysenter",
    callback.CALLBACKTYPE_syscall32: "syscall32",
}


@operation("callback_op", "CALLBACKOP_register")
def register(call: Call, argument: callback.callback_register) -> int:
    if not canonical(argument.address):
        return -XEN_EINVAL
    if argument.type == callback.CALLBACKTYPE_nmi:
        call.guest.set_trap(call.vcpu, NMI, MASK_EVENTS, FLAT_KERNEL_CS, argument.address)
        return 0
    if argument.type not in KINDS:
        return -XEN_ENOSYS
    masks = bool(argument.flags & callback.CALLBACKF_mask_events)
    call.guest.set_callback(call.vcpu, KINDS[argument.type], argument.address, masks)
    return 0


@operation("callback_op", "CALLBACKOP_unregister")
def unregister(call: Call, argument: callback.callback_unregister) -> int:
    """Only the NMI callback can be taken away."""
    if argument.type == callback.CALLBACKTYPE_nmi:
        call.guest.set_trap(call.vcpu, NMI, 0, 0, 0)
        return 0
    return -XEN_EINVAL if argument.type in KINDS else -XEN_ENOSYS


@hypercall("set_callbacks")
def set_callbacks(call: Call, event: int, failsafe: int, syscall: int) -> int:
    """Xen ignores addresses that are not canonical here."""
    for kind, address in (("event", event), ("failsafe", failsafe), ("syscall", syscall)):
        if canonical(address):
            call.guest.set_callback(call.vcpu, kind, address)
    return 0
