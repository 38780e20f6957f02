"""HYPERVISOR_memory_op: reservations. Source: memory.h; Xen 4.17 common/memory.c and arch/x86/mm.c.

A reservation call's result is how many extents are done, whatever stopped it: a bad address, no memory, another domain.
"""

import struct
from collections.abc import Callable

from hv.abi import memory as abi
from hv.abi.errno import XEN_EINVAL
from hv.engine.machine import GuestFault
from hv.hypercalls.registry import Call, operation, prologue

M2P_START, M2P_END = 0xFFFF800000000000, 0xFFFF804000000000
EXTENT_SHIFT = 6  # the command register's upper bits say with which extent to begin
RESERVATIONS = (abi.XENMEM_increase_reservation, abi.XENMEM_decrease_reservation, abi.XENMEM_populate_physmap)
MAX_ORDER = 9
MAX_EXTENTS = 0xFFFFFFFF >> EXTENT_SHIFT
BATCH = 1 << 16  # frames that one call serves; the rest stays undone, which the result says


@prologue("memory_op")
def check(call: Call, cmd: int, address: int) -> int:
    """Only reservations can begin with a later extent."""
    return -XEN_EINVAL if cmd >> EXTENT_SHIFT and cmd & 0x3F not in RESERVATIONS else 0


@operation("memory_op", "XENMEM_maximum_ram_page")
def maximum_ram_page(call: Call, *_: int) -> int:
    return call.domain.engine.nr_frames


@operation("memory_op", "XENMEM_current_reservation")
def current_reservation(call: Call, argument: abi.xen_memory_domain) -> int:
    return call.domain.about(argument.domid) or call.guest.nr_pages


@operation("memory_op", "XENMEM_maximum_reservation")
def maximum_reservation(call: Call, argument: abi.xen_memory_domain) -> int:
    return call.domain.about(argument.domid) or call.guest.max_pages


@operation("memory_op", "XENMEM_machphys_mapping")
def machphys_mapping(call: Call, argument: abi.xen_machphys_mapping) -> int:
    argument.v_start, argument.v_end = M2P_START, M2P_END
    argument.max_mfn = (M2P_END - M2P_START) // 8 - 1
    return 0


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


def _each_extent(call: Call, address: int, serve: Callable[[Call, int, int], bool]) -> int:
    """Serve extent after extent until one fails; how many are done, the skipped ones included."""
    done = call.registers[0] >> EXTENT_SHIFT
    try:
        argument = call.read(address, abi.xen_memory_reservation)
        order = argument.extent_order
        if argument.nr_extents > MAX_EXTENTS or call.domain.about(argument.domid) or order > MAX_ORDER:
            return done
        last = min(argument.nr_extents, done + (BATCH >> order))
        while done < last and serve(call, argument.extent_start + 8 * done if argument.extent_start else 0, order):
            done += 1
    except GuestFault:
        pass
    return done


def _populate(call: Call, at: int, order: int) -> bool:
    return _give(call, call.read_u64s(at, 1)[0], order, at)


def _increase(call: Call, at: int, order: int) -> bool:
    return _give(call, (1 << 64) - (1 << order), order, at)


def _give(call: Call, pfn: int, order: int, at: int) -> bool:
    if call.guest.nr_pages + (1 << order) > call.guest.max_pages:
        return False
    mfn = call.guest.populate_extent(pfn, order)
    if mfn is None:
        return False
    if at:
        call.write_bytes(at, struct.pack("<Q", mfn))
    return True


def _decrease(call: Call, at: int, order: int) -> bool:
    mfn = call.read_u64s(at, 1)[0]
    return all(call.guest.release(mfn + i) == 0 for i in range(1 << order) if mfn + i < 1 << 64)
