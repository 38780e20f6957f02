"""HYPERVISOR_memory_op: reservations. Source: memory.h; Xen 4.17 common/memory.c and arch/x86/mm.c.

A reservation call's result is the number of extents done, so that a call that ran out of memory tells how far it came.
"""

import struct

from hv.abi import memory as abi
from hv.abi.errno import XEN_EPERM, XEN_ESRCH
from hv.abi.xen import DOMID_SELF
from hv.hypercalls.registry import Call, operation

M2P_START, M2P_END = 0xFFFF800000000000, 0xFFFF804000000000
MAX_ORDER = 9
BATCH = 1 << 16


def _foreign(call: Call, domid: int) -> int:
    """0 for the caller itself, else the errno for asking about another domain."""
    if domid in (DOMID_SELF, call.guest.domid):
        return 0
    return -XEN_EPERM if domid == 0 else -XEN_ESRCH


@operation("memory_op", "XENMEM_maximum_ram_page")
def maximum_ram_page(call: Call, *_: int) -> int:
    return call.domain.engine.nr_frames - 1


@operation("memory_op", "XENMEM_current_reservation")
def current_reservation(call: Call, argument: abi.xen_memory_domain) -> int:
    return _foreign(call, argument.domid) or call.guest.nr_pages


@operation("memory_op", "XENMEM_maximum_reservation")
def maximum_reservation(call: Call, argument: abi.xen_memory_domain) -> int:
    return _foreign(call, argument.domid) or call.guest.max_pages


@operation("memory_op", "XENMEM_machphys_mapping")
def machphys_mapping(call: Call, argument: abi.xen_machphys_mapping) -> int:
    argument.v_start, argument.v_end = M2P_START, M2P_END
    argument.max_mfn = (M2P_END - M2P_START) // 8 - 1
    return 0


def _extents(call: Call, argument: abi.xen_memory_reservation) -> int:
    """How many extents one call serves; a larger number is done in part, which the result says."""
    return min(argument.nr_extents, BATCH >> argument.extent_order)


@operation("memory_op", "XENMEM_populate_physmap")
def populate_physmap(call: Call, argument: abi.xen_memory_reservation) -> int:
    """Put frames at given guest frame numbers; the list of pfns becomes the list of their first mfns."""
    return _new_frames(call, argument, at_pfns=True)


@operation("memory_op", "XENMEM_increase_reservation")
def increase_reservation(call: Call, argument: abi.xen_memory_reservation) -> int:
    """Frames without a guest frame number; their mfns are written where the guest gave room for them."""
    return _new_frames(call, argument, at_pfns=False)


def _new_frames(call: Call, argument: abi.xen_memory_reservation, *, at_pfns: bool) -> int:
    if _foreign(call, argument.domid):
        return _foreign(call, argument.domid)
    if argument.extent_order > MAX_ORDER:
        return 0
    size = 1 << argument.extent_order
    for done in range(_extents(call, argument)):
        at = argument.extent_start + 8 * done
        pfn = call.read_u64s(at, 1)[0] if at_pfns else (1 << 64) - size
        if call.guest.nr_pages + size > call.guest.max_pages:
            return done
        try:
            mfns = memoryview(call.guest.populate_range(pfn, size)).cast("Q")
        except MemoryError:
            return done
        if argument.extent_start:
            call.write_bytes(at, struct.pack("<Q", mfns[0]))
    return _extents(call, argument)


@operation("memory_op", "XENMEM_decrease_reservation")
def decrease_reservation(call: Call, argument: abi.xen_memory_reservation) -> int:
    """Give frames back; each is freed when its last mapping goes."""
    if _foreign(call, argument.domid):
        return _foreign(call, argument.domid)
    if argument.extent_order > MAX_ORDER:
        return 0
    for done in range(_extents(call, argument)):
        mfn = call.read_u64s(argument.extent_start + 8 * done, 1)[0]
        for i in range(1 << argument.extent_order):
            if call.guest.release(mfn + i):
                return done
    return _extents(call, argument)
