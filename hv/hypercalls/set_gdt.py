"""HYPERVISOR_set_gdt: the guest's part of the GDT. Source: xen.h; Xen 4.17 arch/x86/pv/descriptor-tables.c."""

from hv.abi.arch_x86_xen import FIRST_RESERVED_GDT_ENTRY
from hv.abi.errno import XEN_EINVAL
from hv.hypercalls.registry import Call, hypercall

ENTRIES_A_FRAME = 512


@hypercall("set_gdt")
def set_gdt(call: Call, frame_list: int, entries: int) -> int:
    entries &= 0xFFFFFFFF
    if entries > FIRST_RESERVED_GDT_ENTRY:
        return -XEN_EINVAL
    frames = call.read_u64s(frame_list, -(-entries // ENTRIES_A_FRAME))
    return call.guest.set_gdt(call.vcpu, frames, entries)
