"""Where events go: one file for each format.

A format is a class with `write(event)` and `close()`, made with a binary file; `FORMATS` finds it by name.
"""

from __future__ import annotations

import importlib
from typing import BinaryIO, Protocol

from hv.trace.events import Event

# name -> what it is; the module hv.trace.sinks.<name> holds the class `Sink`
FORMATS = {
    "text": "one line an event, for people",
    "jsonl": "one JSON object a line, for programs",
    "perfetto": "a timeline for ui.perfetto.dev",
}


class Sink(Protocol):
    def write(self, event: Event) -> None: ...
    def close(self) -> None: ...


def open_sink(name: str, file: BinaryIO) -> Sink:
    """A sink that writes to an open file."""
    made: Sink = importlib.import_module(f"hv.trace.sinks.{name}").Sink(file)
    return made
