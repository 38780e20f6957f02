"""Profiling with the CPU's performance counters. Follows public/xenoprof.h."""

import ctypes
from ctypes import Array

from hv.abi.layout import Annotated, i32, layout, u64

XENOPROF_init = 0
XENOPROF_reset_active_list = 1
XENOPROF_reset_passive_list = 2
XENOPROF_set_active = 3
XENOPROF_set_passive = 4
XENOPROF_reserve_counters = 5
XENOPROF_counter = 6
XENOPROF_setup_events = 7
XENOPROF_enable_virq = 8
XENOPROF_start = 9
XENOPROF_stop = 10
XENOPROF_disable_virq = 11
XENOPROF_release_counters = 12
XENOPROF_shutdown = 13
XENOPROF_get_buffer = 14
XENOPROF_set_backtrace = 15
XENOPROF_get_ibs_caps = 16
XENOPROF_ibs_counter = 17
XENOPROF_last_op = 17

XENOPROF_CPU_TYPE_SIZE = 64


@layout
class xenoprof_init(ctypes.Structure):
    """What can be counted."""

    num_events: i32
    is_primary: i32
    cpu_type: Annotated[Array[ctypes.c_char], XENOPROF_CPU_TYPE_SIZE]


@layout
class xenoprof_get_buffer(ctypes.Structure):
    """Where the samples are."""

    max_samples: i32
    nbuf: i32
    bufsize: i32
    buf_gmaddr: u64
