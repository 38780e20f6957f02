"""HYPERVISOR_memory_op, XENMEM_exchange: frames for others, of another order.

Frames are traded chunk by chunk, a chunk being one extent of the larger order; `nr_exchanged` says how many input
extents are done, whatever stopped the rest. What goes in must be the domain's alone: neither mapped nor in use.

Source: memory.h; Xen 4.17 common/memory.c (memory_exchange) and arch/x86/mm.c (steal_page).
"""

import ctypes
import struct
from collections.abc import Iterable

from hv.abi import memory as abi
from hv.abi.errno import XEN_EFAULT, XEN_EINVAL, XEN_ENOMEM, XEN_EPERM
from hv.engine.machine import MAKE_AGAIN, GuestFault
from hv.hypercalls.handles import BYTES, array_ok
from hv.hypercalls.placement import MAX_ORDER, frame_limit, node_refused
from hv.hypercalls.registry import Call, operation

BATCH = 4096  # frames, before the guest makes the call again
LONGEST = BYTES - 1
DONE_AT = 2 * ctypes.sizeof(abi.xen_memory_reservation)


@operation("memory_op", "XENMEM_exchange", raw=True)
def exchange(call: Call, address: int) -> int:
    argument = call.read(address, abi.xen_memory_exchange)
    done = argument.nr_exchanged
    result = _refusal(call, argument)
    if result == 0:
        if done == argument.in_.nr_extents:
            return 0
        done, result = _chunks(call, argument)
    call.write_bytes(address + DONE_AT, struct.pack("<Q", done))
    return result


def _refusal(call: Call, argument: abi.xen_memory_exchange) -> int:
    """What is wrong with the request as a whole, in Xen's order."""
    given, wanted, done = argument.in_, argument.out, argument.nr_exchanged
    if max(given.extent_order, wanted.extent_order) > MAX_ORDER:
        return -XEN_EPERM
    if (
        done > given.nr_extents
        or given.domid != wanted.domid
        or LONGEST >> given.extent_order < given.nr_extents
        or LONGEST >> wanted.extent_order < wanted.nr_extents
        or given.nr_extents << given.extent_order != wanted.nr_extents << wanted.extent_order
    ):
        return -XEN_EINVAL
    if done == given.nr_extents:
        return 0
    first = done << given.extent_order >> wanted.extent_order
    if not array_ok(given.extent_start, given.nr_extents - done, 8, done):
        return -XEN_EFAULT
    if not array_ok(wanted.extent_start, wanted.nr_extents - first, 8, first):
        return -XEN_EFAULT
    if node_refused(wanted.mem_flags):
        return -XEN_EINVAL
    return call.domain.about(given.domid)


def _chunks(call: Call, argument: abi.xen_memory_exchange) -> tuple[int, int]:
    """(input extents that are done, result)."""
    given, wanted = argument.in_, argument.out
    inputs = 1 << max(0, wanted.extent_order - given.extent_order)
    outputs = 1 << max(0, given.extent_order - wanted.extent_order)
    first = chunk = argument.nr_exchanged // inputs
    while chunk < given.nr_extents // inputs:
        if (chunk - first) * inputs << given.extent_order >= BATCH:
            return chunk * inputs, MAKE_AGAIN
        mfns = _input(call, given, chunk * inputs, inputs)
        result = mfns if isinstance(mfns, int) else _trade(call, mfns, wanted, chunk * outputs, outputs)
        if result:
            return chunk * inputs, result
        chunk += 1
    return given.nr_extents, 0


def _input(call: Call, given: abi.xen_memory_reservation, at: int, count: int) -> list[int] | int:
    """The frames of a chunk, or the error for one that can not be taken."""
    mfns: list[int] = []
    for i in range(at, at + count):
        try:
            (mfn,) = call.read_u64s((given.extent_start + 8 * i) % BYTES, 1)
        except GuestFault:
            return -XEN_EFAULT
        for frame in range(mfn, mfn + (1 << given.extent_order)):
            if frame >= call.domain.engine.nr_frames or frame in mfns or not call.guest.is_exchangeable(frame):
                return -XEN_EINVAL
            mfns.append(frame)
    return mfns


def _trade(call: Call, mfns: list[int], wanted: abi.xen_memory_reservation, at: int, count: int) -> int:
    """Give the new frames of a chunk, then take the old ones: the new are never among the old."""
    new: list[int] = []
    limit = frame_limit(wanted.mem_flags, call.domain.engine.nr_frames)
    for _ in range(count):
        mfn = call.guest.populate_extent(BYTES - (1 << wanted.extent_order), wanted.extent_order)  # no number yet
        new += [mfn] if mfn is not None else []
        if mfn is None or mfn + (1 << wanted.extent_order) > limit:
            for extent in new:
                _give_back(call, range(extent, extent + (1 << wanted.extent_order)))
            return -XEN_ENOMEM
    _give_back(call, mfns)
    return _place(call, new, wanted, at)


def _give_back(call: Call, mfns: Iterable[int]) -> None:
    for mfn in mfns:
        call.guest.release(mfn)


def _place(call: Call, new: list[int], wanted: abi.xen_memory_reservation, at: int) -> int:
    """Tell the guest where its frames are; a list that can not be read or written loses no frame, only its number."""
    result = 0
    for i, mfn in enumerate(new, at):
        where = (wanted.extent_start + 8 * i) % BYTES
        try:
            (pfn,) = call.read_u64s(where, 1)
            for k in range(1 << wanted.extent_order):
                call.guest.set_pfn_of(mfn + k, (pfn + k) % BYTES)
            call.write_bytes(where, struct.pack("<Q", mfn))
        except GuestFault:
            result = -XEN_EFAULT
    return result
