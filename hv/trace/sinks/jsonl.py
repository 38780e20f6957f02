"""One JSON object a line. The first is about the file: schema, its version, what a tick is.

Numbers beyond 2**53, which many readers of JSON would round, are hexadecimal text. docs/trace.md tells the fields; a
field that changes its meaning, or goes, makes the version one higher.
"""

from __future__ import annotations

import json
from typing import Any, BinaryIO

from hv.trace import decoders
from hv.trace.events import TICKS_PER_NS, Event

SCHEMA, VERSION = "hv-trace", 1
EXACT = 1 << 53


def as_dictionary(event: Event) -> dict[str, Any]:
    """An event as JSON has it."""
    return {
        "id": event.id,
        "cause": event.cause,
        "ns": event.ns,
        "ticks": event.ticks,
        "domain": event.domain,
        "vcpu": event.vcpu,
        "kind": event.kind,
        **{name: _plain(value) for name, value in decoders.fields(event).items()},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if -EXACT <= value <= EXACT else f"{value:#x}"
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else str(value)


class Sink:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._line({"schema": SCHEMA, "version": VERSION, "ticks_per_ns": TICKS_PER_NS})

    def _line(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")

    def write(self, event: Event) -> None:
        self._line(as_dictionary(event))

    def close(self) -> None:
        self._file.flush()
