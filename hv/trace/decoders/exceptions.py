"""Exceptions that go to the guest."""

from __future__ import annotations

from hv.trace import decode
from hv.trace.decoders import describes
from hv.trace.events import GuestException


@describes(GuestException)
def exception(event: GuestException) -> str:
    text = decode.entry_text(event.vector, event.error_code, event.address, event.software)
    where = f"to {event.handler:#x}" if event.handler else "without a handler"
    return f"{text} {where}, at rip {event.rip:#x}{'' if event.kernel_mode else ' in user mode'}"
