"""HYPERVISOR_memory_op: reservations, and questions about memory. Source: memory.h; Xen 4.17 common/memory.c.

A reservation call's result is how many extents are done, whatever stopped it: a bad address, no memory, another domain.
"""

import struct
from collections.abc import Callable

from hv.abi import memory as abi
from hv.abi import xen
from hv.abi.errno import XEN_EINVAL, XEN_ENOSYS
from hv.engine.machine import GuestFault
from hv.hypercalls.placement import MAX_ORDER, frame_limit, node_refused, width_refused
from hv.hypercalls.registry import Call, operation, prologue

EXTENT_SHIFT = 6  # the command register's upper bits say with which extent to begin
EXTENTS_COUNT = (
    abi.XENMEM_increase_reservation,
    abi.XENMEM_decrease_reservation,
    abi.XENMEM_populate_physmap,
    abi.XENMEM_add_to_physmap,
    abi.XENMEM_add_to_physmap_batch,
    abi.XENMEM_access_op,
    abi.XENMEM_acquire_resource,
)
OF_THE_ARCHITECTURE = (
    abi.XENMEM_set_memory_map,
    abi.XENMEM_memory_map,
    abi.XENMEM_machine_memory_map,
    abi.XENMEM_machphys_mapping,
    abi.XENMEM_machphys_mfn_list,
    abi.XENMEM_machphys_compat_mfn_list,
    abi.XENMEM_set_pod_target,
    abi.XENMEM_get_pod_target,
    abi.XENMEM_get_sharing_freed_pages,
    abi.XENMEM_get_sharing_shared_pages,
    abi.XENMEM_paging_op,
    abi.XENMEM_sharing_op,
)
LAST = abi.XENMEM_acquire_resource
MAX_EXTENTS = 0xFFFFFFFF >> EXTENT_SHIFT
BATCH = 1 << 16  # frames that one call serves; the rest stays undone, which the result says


@prologue("memory_op")
def check(call: Call, cmd: int, address: int) -> int:
    """Who may begin with a later extent: the others refuse it, or do not know their number with one."""
    if not cmd >> EXTENT_SHIFT or cmd & 0x3F in EXTENTS_COUNT:
        return 0
    return -XEN_ENOSYS if cmd & 0x3F in OF_THE_ARCHITECTURE or cmd & 0x3F > LAST else -XEN_EINVAL


@operation("memory_op", "XENMEM_maximum_ram_page")
def maximum_ram_page(call: Call, *_: int) -> int:
    return call.domain.engine.nr_frames


@operation("memory_op", "XENMEM_current_reservation")
def current_reservation(call: Call, argument: abi.xen_memory_domain) -> int:
    return call.domain.about(argument.domid) or call.guest.nr_pages


@operation("memory_op", "XENMEM_maximum_reservation")
def maximum_reservation(call: Call, argument: abi.xen_memory_domain) -> int:
    return call.domain.about(argument.domid) or call.guest.max_pages


@operation("memory_op", "XENMEM_maximum_gpfn")
def maximum_gpfn(call: Call, argument: abi.xen_memory_domain) -> int:
    """What the guest itself has said in shared_info, less one."""
    refusal = call.domain.about(argument.domid)
    if refusal:
        return refusal
    shared = xen.shared_info.from_buffer(call.domain.engine.page(call.guest.shared_mfn))
    return (int(shared.arch.max_pfn) or 1) - 1


@operation("memory_op", "XENMEM_populate_physmap", raw=True)
def populate_physmap(call: Call, address: int) -> int:
    """Put frames at given guest frame numbers; the list of pfns becomes the list of their first mfns."""
    return _each_extent(call, address, _populate)


@operation("memory_op", "XENMEM_increase_reservation", raw=True)
def increase_reservation(call: Call, address: int) -> int:
    """Frames without a guest frame number; their mfns are written where the guest gave room for them."""
    return _each_extent(call, address, _increase)


@operation("memory_op", "XENMEM_decrease_reservation", raw=True)
def decrease_reservation(call: Call, address: int) -> int:
    """Give frames back; each is freed when its last mapping goes."""
    return _each_extent(call, address, _decrease)


def _each_extent(call: Call, address: int, serve: Callable[[Call, abi.xen_memory_reservation, int], bool]) -> int:
    """Serve extent after extent until one fails; how many are done, the skipped ones included."""
    done = call.registers[0] >> EXTENT_SHIFT
    try:
        argument = call.read(address, abi.xen_memory_reservation)
        order = argument.extent_order
        if argument.nr_extents > MAX_EXTENTS or call.domain.about(argument.domid) or order > MAX_ORDER:
            return done
        if _placement_refused(call, argument.mem_flags):
            return done
        last = min(argument.nr_extents, done + (BATCH >> order))
        while done < last and serve(call, argument, argument.extent_start + 8 * done if argument.extent_start else 0):
            done += 1
    except GuestFault:
        pass
    return done


def _placement_refused(call: Call, flags: int) -> bool:
    if call.registers[0] & 0x3F == abi.XENMEM_populate_physmap and flags & abi.XENMEMF_populate_on_demand:
        return True  # nobody may do that to itself
    return width_refused(flags, call.domain.engine.nr_frames) or (not flags & abi.XENMEMF_vnode and node_refused(flags))


def _populate(call: Call, argument: abi.xen_memory_reservation, at: int) -> bool:
    return _give(call, argument, call.read_u64s(at, 1)[0], at)


def _increase(call: Call, argument: abi.xen_memory_reservation, at: int) -> bool:
    return _give(call, argument, (1 << 64) - (1 << argument.extent_order), at)


def _give(call: Call, argument: abi.xen_memory_reservation, pfn: int, at: int) -> bool:
    count = 1 << argument.extent_order
    if call.guest.nr_pages + count > call.guest.max_pages:
        return False
    mfn = call.guest.populate_extent(pfn, argument.extent_order)
    if mfn is None:
        return False
    if mfn + count > frame_limit(argument.mem_flags, call.domain.engine.nr_frames):
        for i in range(count):
            call.guest.release(mfn + i)
        return False
    if at:
        call.write_bytes(at, struct.pack("<Q", mfn))
    return True


def _decrease(call: Call, argument: abi.xen_memory_reservation, at: int) -> bool:
    mfn = call.read_u64s(at, 1)[0]
    return all(call.guest.release(mfn + i) == 0 for i in range(1 << argument.extent_order) if mfn + i < 1 << 64)
