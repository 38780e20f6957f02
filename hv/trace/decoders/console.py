"""The console: bytes, abbreviated."""

from __future__ import annotations

from hv.trace.decoders import describes_note
from hv.trace.events import Note
from hv.trace.structures import shown_bytes


@describes_note("console")
def console(event: Note) -> str:
    """`output` by the ring, `input` from outside, `log` by console_io."""
    return f"console {event.what}: {shown_bytes(event.data)}, {len(event.data)} bytes"
