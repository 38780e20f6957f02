"""Event channels: an event, the upcall that it asks for, and the end of the upcall's handler."""

from __future__ import annotations

from hv.trace import words
from hv.trace.decoders import describes
from hv.trace.events import TICKS_PER_NS, Failsafe, Iret, PortEvent, SystemCall, Upcall


@describes(PortEvent)
def port_event(event: PortEvent) -> str:
    more = ", pending already" if event.merged else ""
    more += ", masked" if event.masked else ""
    return f"event: port {event.port}, {words.source_of(event.state, event.detail, event.remote_port)}{more}"


@describes(Upcall)
def upcall(event: Upcall) -> str:
    after = f", {event.latency // TICKS_PER_NS} ns after its event" if event.cause else ""
    mode = "" if event.kernel_mode else " from user mode"
    return f"upcall to {event.handler:#x}{after}, at rip {event.rip:#x}{mode}"


@describes(Iret)
def iret(event: Iret) -> str:
    return f"iret to rip {event.rip:#x}, rsp {event.rsp:#x}{'' if event.kernel_mode else ', user mode'}"


@describes(SystemCall)
def system_call(event: SystemCall) -> str:
    where = f"to {event.handler:#x}" if event.handler else "without a callback"
    return f"system call {where}, from rip {event.rip:#x}"


@describes(Failsafe)
def failsafe(event: Failsafe) -> str:
    return f"failsafe callback to {event.handler:#x}, at rip {event.rip:#x}"
