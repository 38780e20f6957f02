"""HYPERVISOR_set_trap_table: the guest's exception handlers. Source: xen.h; Xen 4.17 arch/x86/pv/callback.c."""

from __future__ import annotations

import ctypes

from hv.abi.arch_x86_xen import trap_info
from hv.abi.errno import XEN_EINVAL
from hv.hypercalls.handles import canonical
from hv.hypercalls.registry import Call, hypercall

LONGEST = 1 << 16  # a table ends at its zero entry, and may name a vector more than once; hv's patience ends here


@hypercall("set_trap_table")
def set_trap_table(call: Call, traps: int) -> int:
    """An array ended by an entry with address 0; a null pointer removes every handler."""
    if traps == 0:
        call.guest.clear_traps(call.vcpu)
        return 0
    for i in range(LONGEST):
        entry = call.read(traps + i * ctypes.sizeof(trap_info), trap_info)
        if entry.address == 0:
            return 0
        if not canonical(entry.address):
            return -XEN_EINVAL
        call.guest.set_trap(call.vcpu, entry.vector, entry.flags, entry.cs, entry.address)
    return 0
