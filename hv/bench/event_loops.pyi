"""Types of hv.bench.event_loops for checkers and editors; the documentation is in event_loops.pyx."""

from collections.abc import Callable
from typing import Any

SCANS: tuple[str, ...]
FIFOS: tuple[str, ...]
SENDS: tuple[str, ...]
CALLS: tuple[str, ...]

class EventLoops:
    def __init__(
        self,
        images: list[list[int]],
        fifo: bool = ...,
        handlers: str = ...,
        callable: Callable[[Any], object] | None = ...,
    ) -> None: ...
    def scan(self, what: str, count: int) -> float: ...
    def fifo_round(self, what: str, count: int) -> tuple[float, float]: ...
    def send(self, what: str, count: int, again: bool = ...) -> float: ...
    def call(self, what: str, count: int, batch: bool, callable: Callable[[Any], object]) -> float: ...
