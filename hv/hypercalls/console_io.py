"""HYPERVISOR_console_io: the hypervisor's own console, here the hypervisor log.

A release Xen refuses a domU's writes (-EPERM); hv takes them as a debug build does, because they are what a guest says
when its console does not work. Everything else stays refused. Source: xen.h; Xen 4.17 drivers/char/console.c.
"""

from hv.abi.errno import XEN_EINVAL, XEN_EPERM
from hv.abi.xen import CONSOLEIO_write
from hv.hypercalls.registry import Call, hypercall

LONGEST = 1 << 20  # a write is copied in pieces; one call can not keep hv busy for long


@hypercall("console_io")
def console_io(call: Call, cmd: int, count: int, buffer: int) -> int:
    cmd, count = cmd & 0xFFFFFFFF, count & 0xFFFFFFFF
    if cmd != CONSOLEIO_write:
        return -XEN_EPERM
    if count > LONGEST:
        return -XEN_EINVAL
    call.domain.hypervisor_log(call.read_bytes(buffer, count))
    return 0
