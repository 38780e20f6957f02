"""The PV console: one page with two rings of bytes between a guest and the host.

Rules:

1. Every byte that the guest has produced is passed to the sink, in order, before the guest is told that there is room.
2. Input waits on the host side until the ring has space; nothing of it is dropped.
3. The guest's indexes are read once and checked; a difference larger than the ring is ignored, as xenconsoled does.

Specification: io/console.h (struct xencons_interface); behaviour of tools/console/daemon/io.c in 4.17.
"""

from __future__ import annotations

from collections.abc import Callable

from hv.abi.io.console import xencons_interface

_U32 = 0xFFFFFFFF


class ConsoleBackend:
    """`page` is the guest's ring; `notify` raises its event; `sink` takes output."""

    def __init__(self, page: memoryview, notify: Callable[[], None], sink: Callable[[bytes], None]) -> None:
        self._ring = xencons_interface.from_buffer(page)
        self._notify = notify
        self._sink = sink
        self._waiting = bytearray()
        self.used = False  # whether the guest has ever written to the ring

    def service(self) -> None:
        """The guest has rung: take its output, give it input."""
        took, gave = self._take(), self._give()
        if took or gave:
            self._notify()

    def feed(self, data: bytes) -> None:
        """Input for the guest; what does not fit follows when there is room."""
        self._waiting += data
        if self._give():
            self._notify()

    @property
    def waiting(self) -> int:
        """Bytes of input that have not found room yet."""
        return len(self._waiting)

    def _take(self) -> bool:
        ring, consumer, producer = self._ring, self._ring.out_cons, self._ring.out_prod
        size = (producer - consumer) & _U32
        if size == 0 or size > len(ring.out):
            return False
        content = bytes(ring.out)
        start = consumer % len(content)
        data = content[start : start + size]
        data += content[: size - len(data)]
        self.used = True
        self._sink(data)
        ring.out_cons = producer
        return True

    def _give(self) -> bool:
        ring, consumer, producer = self._ring, self._ring.in_cons, self._ring.in_prod
        room = len(ring.in_) - ((producer - consumer) & _U32)
        if not self._waiting or room <= 0:
            return False
        chunk = self._waiting[:room]
        for i, byte in enumerate(chunk):
            ring.in_[(producer + i) % len(ring.in_)] = byte
        del self._waiting[: len(chunk)]
        ring.in_prod = (producer + len(chunk)) & _U32
        return True
