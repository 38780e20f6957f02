"""HYPERVISOR_vm_assist: optional behaviours a guest switches on. Source: xen.h; Xen 4.17 common/kernel.c."""

from hv.abi import xen
from hv.abi.errno import XEN_EINVAL, XEN_ENOSYS
from hv.hypercalls.registry import Call, hypercall

VALID = (
    1 << xen.VMASST_TYPE_4gb_segments
    | 1 << xen.VMASST_TYPE_4gb_segments_notify
    | 1 << xen.VMASST_TYPE_writable_pagetables
    | 1 << xen.VMASST_TYPE_pae_extended_cr3
    | 1 << xen.VMASST_TYPE_architectural_iopl
    | 1 << xen.VMASST_TYPE_runstate_update_flag
    | 1 << xen.VMASST_TYPE_m2p_strict
)


@hypercall("vm_assist")
def vm_assist(call: Call, cmd: int, kind: int) -> int:
    cmd, kind = cmd & 0xFFFFFFFF, kind & 0xFFFFFFFF
    if kind >= 64 or not VALID >> kind & 1:
        return -XEN_EINVAL
    if cmd == xen.VMASST_CMD_enable:
        call.guest.vm_assist |= 1 << kind
    elif cmd == xen.VMASST_CMD_disable:
        call.guest.vm_assist &= ~(1 << kind)
    else:
        return -XEN_ENOSYS
    return 0
