"""HYPERVISOR_grant_table_op: set-up, sizes and versions. What takes arrays is served in C (engine/grant_table_op.pyx).

Source: grant_table.h; Xen 4.17 common/grant_table.c.
"""

import struct

from hv.abi import grant_table as abi
from hv.abi.errno import XEN_EFAULT, XEN_EINVAL, XEN_EPERM, XEN_ESRCH
from hv.engine.machine import GuestFault
from hv.hypercalls.handles import address_ok
from hv.hypercalls.registry import Call, operation, prologue

SETUP = (abi.GNTTABOP_setup_table, abi.GNTTABOP_query_size, abi.GNTTABOP_get_status_frames)
STATUS = {0: abi.GNTST_okay, -XEN_ESRCH: abi.GNTST_bad_domain, -XEN_EPERM: abi.GNTST_permission_denied}


@prologue("grant_table_op")
def check(call: Call, cmd: int, address: int, count: int) -> int:
    """Counts are positive ints, exactly one for the set-up calls; the upper bits are for continuations only."""
    operation_number = cmd & 0xFFF
    if count & 0x80000000 or (cmd & 0xFFFFF000 and operation_number != abi.GNTTABOP_cache_flush):
        return -XEN_EINVAL
    return -XEN_EINVAL if operation_number in SETUP and count & 0xFFFFFFFF != 1 else 0


def _write_frames(call: Call, address: int, mfns: list[int]) -> int:
    """A list of frame numbers into guest memory: a GNTST_* status."""
    try:
        call.write_bytes(address, struct.pack(f"<{len(mfns)}Q", *mfns))
    except GuestFault:
        return abi.GNTST_bad_virt_addr
    return abi.GNTST_okay


@operation("grant_table_op", "GNTTABOP_setup_table")
def setup_table(call: Call, argument: abi.gnttab_setup_table) -> int:
    """Writes the machine frames of the first `nr_frames` pages of the table."""
    if not address_ok(argument.frame_list):
        return -XEN_EFAULT
    argument.status = STATUS[call.domain.about(argument.dom)] or call.domain.grants.grow(argument.nr_frames)
    if argument.status == abi.GNTST_okay:
        mfns = call.domain.grants.mfns[: argument.nr_frames]
        argument.status = _write_frames(call, argument.frame_list, mfns)
    return 0


@operation("grant_table_op", "GNTTABOP_query_size")
def query_size(call: Call, argument: abi.gnttab_query_size) -> int:
    argument.status = STATUS[call.domain.about(argument.dom)]
    if argument.status == abi.GNTST_okay:
        argument.nr_frames, argument.max_nr_frames = len(call.domain.grants.mfns), call.domain.grants.max_frames
    return 0


@operation("grant_table_op", "GNTTABOP_set_version", raw=True)
def set_version(call: Call, address: int, count: int) -> int:
    """1 or 2; the version then in force is written back, with an error too."""
    argument = call.read(address, abi.gnttab_set_version)
    result = call.domain.grants.set_version(argument.version)
    argument.version = call.domain.grants.version
    call.write(address, argument)
    return result


@operation("grant_table_op", "GNTTABOP_get_status_frames")
def get_status_frames(call: Call, argument: abi.gnttab_get_status_frames) -> int:
    """The machine frames of version 2's status words."""
    if not address_ok(argument.frame_list):
        return -XEN_EFAULT
    argument.status = STATUS[call.domain.about(argument.dom)]
    if argument.status != abi.GNTST_okay:
        return 0
    mfns = call.domain.grants.status_mfns
    if argument.nr_frames > len(mfns):
        argument.status = abi.GNTST_general_error
    else:
        argument.status = _write_frames(call, argument.frame_list, mfns[: argument.nr_frames])
    return 0


@operation("grant_table_op", "GNTTABOP_get_version")
def get_version(call: Call, argument: abi.gnttab_get_version) -> int:
    refusal = call.domain.about(argument.dom)
    if not refusal:
        argument.version = call.domain.grants.version
    return refusal
