"""HYPERVISOR_memory_op: the maps of memory, E820 and the machine-to-physical table.

Source: memory.h; Xen 4.17 arch/x86/mm.c (arch_memory_op) and arch/x86/x86_64/mm.c (subarch_memory_op).
"""

import ctypes
import struct

from hv.abi import memory as abi
from hv.abi.arch_x86_64 import MACH2PHYS_NR_ENTRIES, MACH2PHYS_VIRT_END, MACH2PHYS_VIRT_START
from hv.abi.errno import XEN_EFAULT, XEN_EINVAL, XEN_ENOSYS
from hv.hypercalls.handles import array_ok
from hv.hypercalls.registry import Call, operation

M2P_FRAMES = 512  # that one extent of the list stands for: 2 MiB of the table
E820_ENTRY, E820_MOST = 20, 1024


@operation("memory_op", "XENMEM_set_memory_map", raw=True)
def set_memory_map(call: Call, address: int) -> int:
    """A toolstack's, but a domain may do it for itself."""
    argument = call.read(address, abi.xen_foreign_memory_map)
    entries = argument.map.nr_entries
    if entries > E820_MOST:
        return -XEN_EINVAL
    refusal = call.domain.about(argument.domid)
    if not refusal:
        call.domain.e820 = call.read_bytes(argument.map.buffer, entries * E820_ENTRY)
    return refusal


@operation("memory_op", "XENMEM_memory_map", raw=True)
def memory_map(call: Call, address: int) -> int:
    """A PV domain has no E820 until one was set: xl does so only with e820_host."""
    argument = call.read(address, abi.xen_memory_map)
    e820 = call.domain.e820
    if not e820:
        return -XEN_ENOSYS
    argument.nr_entries = min(argument.nr_entries, len(e820) // E820_ENTRY)
    call.write_bytes(argument.buffer, e820[: argument.nr_entries * E820_ENTRY])
    call.write(address, argument)
    return 0


@operation("memory_op", "XENMEM_machphys_mapping")
def machphys_mapping(call: Call, argument: abi.xen_machphys_mapping) -> int:
    argument.v_start, argument.v_end = MACH2PHYS_VIRT_START, MACH2PHYS_VIRT_END
    argument.max_mfn = MACH2PHYS_NR_ENTRIES - 1
    return 0


@operation("memory_op", "XENMEM_machphys_mfn_list", raw=True)
def machphys_mfn_list(call: Call, address: int) -> int:
    """The first frame of each 2 MiB of the table, as many as there are or were asked for."""
    argument = call.read(address, abi.xen_machphys_mfn_list)
    engine = call.domain.engine
    extents = -(-engine.nr_frames * 8 // (M2P_FRAMES * 4096))
    mfns = [engine.m2p_mfn + i * M2P_FRAMES for i in range(min(extents, argument.max_extents))]
    call.write_bytes(argument.extent_start, struct.pack(f"<{len(mfns)}Q", *mfns))
    argument.nr_extents = len(mfns)
    call.write(address, argument)
    return 0


@operation("memory_op", "XENMEM_reserved_device_memory_map", raw=True)
def reserved_device_memory_map(call: Call, address: int) -> int:
    """Without an IOMMU no device keeps memory for itself: a list of none."""
    argument = call.read(address, abi.xen_reserved_device_memory_map)
    if not array_ok(argument.buffer, argument.nr_entries, ctypes.sizeof(abi.xen_reserved_device_memory)):
        return -XEN_EFAULT
    if argument.flags & ~abi.XENMEM_RDM_ALL:
        return -XEN_EINVAL
    argument.nr_entries = 0
    call.write(address, argument)
    return 0
