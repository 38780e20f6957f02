"""The latest events of a trace, kept as the engine's records and read only when somebody asks for them.

Decoding every event of a long run would take longer than the run; the records cost next to nothing.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from hv.trace.events import Event
from hv.trace.reader import Reader
from hv.trace.sinks import text

if TYPE_CHECKING:
    from hv.machine.machine import Machine

KEPT = 2 << 20  # bytes of records; an event has about 100


class Recent:
    def __init__(self, machine: Machine) -> None:
        self._trace = machine.trace
        self._portions: deque[bytes] = deque()
        self._size = 0
        self._trace.subscribe_raw(self._add)

    def _add(self, records: bytes) -> None:
        self._portions.append(records)
        self._size += len(records)
        while self._size - len(self._portions[0]) >= KEPT:
            self._size -= len(self._portions.popleft())

    def events(self, count: int) -> list[Event]:
        """The last `count` of them, oldest first; fewer where fewer are kept."""
        self._trace.flush()
        reader = Reader()
        latest = deque(reader.feed(b"".join(self._portions)), maxlen=count)
        latest.extend(reader.finish())
        return list(islice(latest, count))

    def lines(self, count: int) -> list[str]:
        """The same as `hv trace` writes them."""
        indentation = text.Indentation()
        return [text.line(event, indentation.depth(event)) for event in self.events(count)]
