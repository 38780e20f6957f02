"""HYPERVISOR_sched_op: the sub-operations that end something. Source: sched.h; Xen 4.17 common/sched/core.c."""

from hv.abi import sched
from hv.abi.errno import XEN_EINVAL
from hv.hypercalls.registry import Call, operation

LAST_REASON = sched.SHUTDOWN_soft_reset


@operation("sched_op", "SCHEDOP_shutdown")
def shutdown(call: Call, argument: sched.sched_shutdown) -> int:
    """The domain stops with its reason; one that Xen does not know crashes it."""
    if argument.reason > LAST_REASON:
        call.guest.crash(f"SCHEDOP_shutdown with the unknown reason {argument.reason}")
        return -XEN_EINVAL
    call.guest.shut_down(argument.reason)
    return 0


@operation("sched_op", "SCHEDOP_shutdown_code")
def shutdown_code(call: Call, argument: sched.sched_shutdown) -> int:
    """Accepted and ignored: what it would do, remember the reason for a later shutdown, is not here yet."""
    return 0
