"""HYPERVISOR_grant_table_op: set-up and versions; mapping and copying are not served yet.

Source: grant_table.h; Xen 4.17 common/grant_table.c.
"""

import struct

from hv.abi import grant_table as abi
from hv.abi.errno import XEN_EINVAL, XEN_ESRCH
from hv.abi.xen import DOMID_SELF
from hv.hypercalls.registry import Call, operation


def _is_self(call: Call, domid: int) -> bool:
    return domid in (DOMID_SELF, call.guest.domid)


@operation("grant_table_op", "GNTTABOP_setup_table")
def setup_table(call: Call, argument: abi.gnttab_setup_table) -> int:
    """Writes the machine frames of the first `nr_frames` pages of the table."""
    if not _is_self(call, argument.dom):
        argument.status = abi.GNTST_bad_domain
        return 0
    argument.status = call.domain.grants.grow(argument.nr_frames)
    if argument.status == abi.GNTST_okay:
        mfns = call.domain.grants.mfns[: argument.nr_frames]
        call.write_bytes(argument.frame_list, struct.pack(f"<{len(mfns)}Q", *mfns))
    return 0


@operation("grant_table_op", "GNTTABOP_query_size")
def query_size(call: Call, argument: abi.gnttab_query_size) -> int:
    if not _is_self(call, argument.dom):
        argument.status = abi.GNTST_bad_domain
        return 0
    argument.nr_frames, argument.max_nr_frames = len(call.domain.grants.mfns), call.domain.grants.max_frames
    argument.status = abi.GNTST_okay
    return 0


@operation("grant_table_op", "GNTTABOP_set_version")
def set_version(call: Call, argument: abi.gnttab_set_version) -> int:
    """1 or 2; the version then in force is reported back."""
    if argument.version not in (1, 2):
        return -XEN_EINVAL
    call.domain.grants.set_version(argument.version)
    argument.version = call.domain.grants.version
    return 0


@operation("grant_table_op", "GNTTABOP_get_status_frames")
def get_status_frames(call: Call, argument: abi.gnttab_get_status_frames) -> int:
    """The machine frames of version 2's status words."""
    if not _is_self(call, argument.dom):
        argument.status = abi.GNTST_bad_domain
        return 0
    mfns = call.domain.grants.status_mfns
    if argument.nr_frames > len(mfns):
        argument.status = abi.GNTST_general_error
        return 0
    argument.status = abi.GNTST_okay
    call.write_bytes(argument.frame_list, struct.pack(f"<{argument.nr_frames}Q", *mfns[: argument.nr_frames]))
    return 0


@operation("grant_table_op", "GNTTABOP_get_version")
def get_version(call: Call, argument: abi.gnttab_get_version) -> int:
    if not _is_self(call, argument.dom):
        return -XEN_ESRCH
    argument.version = call.domain.grants.version
    return 0
