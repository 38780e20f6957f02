"""HYPERVISOR_update_descriptor: one entry of a GDT or LDT. Source: xen.h; Xen 4.17 pv/descriptor-tables.c."""

from hv.hypercalls.registry import Call, hypercall


@hypercall("update_descriptor")
def update_descriptor(call: Call, address: int, descriptor: int) -> int:
    return call.guest.update_descriptor(address, descriptor)
