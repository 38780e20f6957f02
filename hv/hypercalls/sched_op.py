"""HYPERVISOR_sched_op: shutting down, and watchdogs that do. Source: sched.h; Xen 4.17 common/sched/core.c."""

from hv.abi import sched
from hv.abi.errno import XEN_EINVAL, XEN_ENOSPC, XEN_EPERM
from hv.hypercalls.domains import another
from hv.hypercalls.registry import Call, operation

WATCHDOGS = 2


@operation("sched_op", "SCHEDOP_shutdown")
def shutdown(call: Call, argument: sched.sched_shutdown) -> int:
    """The domain stops, with any reason that fits into a byte."""
    call.guest.shut_down(argument.reason & 0xFF)
    return 0


@operation("sched_op", "SCHEDOP_shutdown_code")
def shutdown_code(call: Call, argument: sched.sched_shutdown) -> int:
    """The reason of a later shutdown, whatever that says; the first one counts."""
    call.guest.fix_shutdown_code(argument.reason & 0xFF)
    return 0


@operation("sched_op", "SCHEDOP_remote_shutdown")
def remote_shutdown(call: Call, argument: sched.sched_remote_shutdown) -> int:
    """A device model's, and never about oneself."""
    return another(call, argument.domain_id) or -XEN_EPERM


@operation("sched_op", "SCHEDOP_watchdog")
def watchdog(call: Call, argument: sched.sched_watchdog) -> int:
    """Watchdog 0 takes a free one and gives its number, 1 or 2; a timeout of 0 stops one that is in use.

    A free one that is taken with a timeout of 0 ends the domain at once.
    """
    guest = call.guest
    if argument.id > WATCHDOGS:
        return -XEN_EINVAL
    if argument.id == 0:
        free = next((i for i in range(WATCHDOGS) if not guest.watchdog_in_use(i)), None)
        if free is None:
            return -XEN_ENOSPC & 0xFFFFFFFF  # as an unsigned int: Xen 4.17 really does
        guest.set_watchdog(free, argument.timeout)
        return free + 1
    index = argument.id - 1
    if not guest.watchdog_in_use(index):
        return -XEN_EINVAL
    if argument.timeout:
        guest.set_watchdog(index, argument.timeout)
    else:
        guest.stop_watchdog(index)
    return 0
