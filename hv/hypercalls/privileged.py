"""platform_op, sysctl and domctl: the toolstack's calls, refused to a domU as Xen refuses them.

The argument is read first (-EFAULT), then its interface version compared (-EACCES), and only then is the caller's right
looked at (-EPERM). Source: platform.h, sysctl.h, domctl.h; Xen 4.17 do_platform_op, do_sysctl, do_domctl.
"""

import struct

from hv.abi.errno import XEN_EACCES, XEN_EPERM
from hv.hypercalls.registry import Call, hypercall

PLATFORM_VERSION, PLATFORM_SIZE = 0x03000001, 136
SYSCTL_VERSION, SYSCTL_SIZE = 0x15, 136
DOMCTL_VERSION, DOMCTL_SIZE = 0x15, 144


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
