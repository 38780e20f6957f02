"""HYPERVISOR_xenoprof_op: profiling, on a machine without performance counters.

Only four operations are everybody's; two of them need a place on the primary profiler's list. The counters belong to
somebody else, for all that is known (-EBUSY).

Source: xenoprof.h; Xen 4.17 common/xenoprof.c.
"""

from hv.abi import xenoprof
from hv.abi.errno import XEN_EINVAL, XEN_ENODEV
from hv.hypercalls.registry import Call, operation, prologue


@prologue("xenoprof_op")
def check(call: Call, op: int, address: int) -> int:
    return -XEN_EINVAL if op & 0xFFFFFFFF > xenoprof.XENOPROF_last_op else 0


@operation("xenoprof_op", "XENOPROF_init")
def init(call: Call, argument: xenoprof.xenoprof_init) -> int:
    """As where Xen knows no model of counters for the CPU."""
    return -XEN_ENODEV
