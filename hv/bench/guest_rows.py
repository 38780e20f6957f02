"""The rows about guests: what the bundled bench guest measures, beside a bare trap of Unicorn in the same round.

The limit is one `syscall` that ends in a hook of C under plain Unicorn (hv/engine/plain_hook.pxi): the least that any
hypervisor on Unicorn has to pay for entering it once. The guest times itself with the host's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hv.bench.measure import HV, LIMIT, Group, Sample
from hv.engine.cpu import plain_hook
from hv.machine import images
from hv.testing.compare_xen import on_hv, parse

COUNT, QUICK_COUNT = 400_000, 50_000
PREFIX = "guest_"
ROWS = {  # what the guest calls them -> the name here, which says what is measured
    "null_hypercall": "null_hypercall",
    "sched_op_yield": "sched_op_yield",
    "ipi_send_upcall_iret": "ipi_send_upcall_iret",
    "loopback_send_upcall_iret": "loopback_send_upcall_iret",
    "events_64_sends_then_upcall": "events_64_sends_then_upcall",
    "events_multicall_of_64_sends_then_upcall": "events_multicall_of_64_sends_then_upcall",
    "send_to_pending_port": "send_to_pending_port",
}


def _guest(quick: bool) -> Callable[[], Sample]:
    image, _ = images.read("bench")
    count = QUICK_COUNT if quick else COUNT

    def sample() -> Sample:
        trap = plain_hook(count)
        rows: Sample = {}
        for start in ("null_hypercall", "sched", "ipi", "loopback", "events", "send"):
            for name, measured in parse(on_hv(image, f"{count} {start}")).items():
                if name in ROWS:
                    rows[PREFIX + ROWS[name]] = {LIMIT: trap, HV: measured.ns / measured.count}
        return rows

    return sample


def groups() -> list[Group]:
    names = tuple(PREFIX + name for name in ROWS.values())
    return [Group("Guest operations", names, partial(_guest), rounds=9, quick_rounds=3, unit="ns an operation")]
