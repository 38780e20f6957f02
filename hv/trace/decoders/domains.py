"""The life of a domain."""

from __future__ import annotations

from hv.abi import sched
from hv.trace.decoders import describes, describes_note
from hv.trace.events import Crash, Destroyed, Note, Shutdown

CODES = {value: name for name, value in vars(sched).items() if name.startswith("SHUTDOWN_")}


@describes(Crash)
def crash(event: Crash) -> str:
    return f"domain crashes: {event.reason}"


@describes(Shutdown)
def shutdown(event: Shutdown) -> str:
    return f"domain shuts down: {CODES.get(event.code, event.code)}"


@describes(Destroyed)
def destroyed(event: Destroyed) -> str:
    return "domain destroyed"


@describes_note("domain")
def life(event: Note) -> str:
    """`created` and `reboots`, with the name."""
    return f"domain {event.what}: {event.data.decode(errors='replace')}"


@describes_note("interrupt")
def interrupt(event: Note) -> str:
    """`VIRQ 1 of vCPU 0`, `PIRQ 9 up`: raised from outside the machine, or by simulated hardware."""
    return f"interrupt: {event.what}"
