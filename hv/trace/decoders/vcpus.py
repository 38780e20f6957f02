"""Virtual CPUs: timers, and who has the CPU."""

from __future__ import annotations

from hv.trace.decoders import describes
from hv.trace.events import TICKS_PER_NS, Runstate, TimerFired


@describes(TimerFired)
def timer(event: TimerFired) -> str:
    return f"timer: {event.timer}, due at {event.deadline // TICKS_PER_NS} ns"


@describes(Runstate)
def runstate(event: Runstate) -> str:
    return f"vCPU: {event.old} → {event.new}"
