"""Yielding, blocking, polling, shutting down. Follows public/sched.h."""

import ctypes

from hv.abi.layout import handle, i32, layout, u32, u64
from hv.abi.xen import domid_t

SCHEDOP_yield = 0
SCHEDOP_block = 1
SCHEDOP_shutdown = 2
SCHEDOP_poll = 3
SCHEDOP_remote_shutdown = 4
SCHEDOP_shutdown_code = 5
SCHEDOP_watchdog = 6
SCHEDOP_pin_override = 7

SHUTDOWN_poweroff = 0
SHUTDOWN_reboot = 1
SHUTDOWN_suspend = 2
SHUTDOWN_crash = 3
SHUTDOWN_watchdog = 4
SHUTDOWN_soft_reset = 5
SHUTDOWN_MAX = 5


@layout
class sched_shutdown(ctypes.Structure):
    """Why the domain stops: SHUTDOWN_*."""

    reason: u32


@layout
class sched_poll(ctypes.Structure):
    """Ports to wait for, until `timeout` in system time (0: for ever)."""

    ports: handle
    nr_ports: u32
    timeout: u64


@layout
class sched_remote_shutdown(ctypes.Structure):
    """Which domain stops, and why."""

    domain_id: domid_t
    reason: u32


@layout
class sched_watchdog(ctypes.Structure):
    """Watchdog 0 asks for a new one; `timeout` is in seconds, 0 stops it."""

    id: u32
    timeout: u32


@layout
class sched_pin_override(ctypes.Structure):
    """Physical CPU to stay on; negative to go back."""

    pcpu: i32
