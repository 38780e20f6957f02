"""The toolstack's and device models' calls, refused to a domU as Xen refuses them.

platform_op, sysctl and domctl read the argument first (-EFAULT), then compare its interface version (-EACCES), and only
then is the caller's right looked at (-EPERM). What is refused at once is in the rows of hv.abi.hypercalls.

Source: platform.h, sysctl.h, domctl.h, hvm/dm_op.h; Xen 4.17 do_platform_op, do_sysctl, do_domctl,
do_paging_domctl_cont, do_dm_op.
"""

import struct

from hv.abi.errno import XEN_E2BIG, XEN_EACCES, XEN_EINVAL, XEN_EOPNOTSUPP, XEN_EPERM
from hv.hypercalls.domains import another
from hv.hypercalls.registry import Call, hypercall

PLATFORM_VERSION, PLATFORM_SIZE = 0x03000001, 136
SYSCTL_VERSION, SYSCTL_SIZE = 0x15, 136
DOMCTL_VERSION, DOMCTL_SIZE = 0x15, 144
DOMCTL_SHADOW_OP = 10
DM_BUFFERS, DM_BUFFER_SIZE = 2, 16


def _refuse(call: Call, address: int, size: int, version: int) -> int:
    """Both words in front: the command, and the interface version."""
    given = struct.unpack_from("<II", call.read_bytes(address, size))[1]
    return -XEN_EPERM if given == version else -XEN_EACCES


@hypercall("platform_op")
def platform_op(call: Call, address: int) -> int:
    return _refuse(call, address, PLATFORM_SIZE, PLATFORM_VERSION)


@hypercall("sysctl")
def sysctl(call: Call, address: int) -> int:
    return _refuse(call, address, SYSCTL_SIZE, SYSCTL_VERSION)


@hypercall("domctl")
def domctl(call: Call, address: int) -> int:
    return _refuse(call, address, DOMCTL_SIZE, DOMCTL_VERSION)


@hypercall("arch_1")
def paging_domctl_cont(call: Call, address: int) -> int:
    """How a long domctl of shadow paging goes on: only for that one."""
    command, version, domid = struct.unpack_from("<IIH", call.read_bytes(address, DOMCTL_SIZE))
    if version != DOMCTL_VERSION or command != DOMCTL_SHADOW_OP:
        return -XEN_EOPNOTSUPP
    return another(call, domid) or -XEN_EPERM


@hypercall("dm_op")
def dm_op(call: Call, domid: int, nr_bufs: int, bufs: int) -> int:
    """About HVM domains, of which there are none."""
    nr_bufs &= 0xFFFFFFFF
    if nr_bufs > DM_BUFFERS:
        return -XEN_E2BIG
    call.read_bytes(bufs, nr_bufs * DM_BUFFER_SIZE)
    return another(call, domid & 0xFFFF) or -XEN_EINVAL
