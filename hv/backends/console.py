"""The PV console: one page with two rings of bytes between a guest and the host.

Rules:

1. Every byte that the guest has produced is passed to the sink, in order, before the guest is told that there is room.
2. Input waits on the host side until the ring has space; nothing of it is dropped.
3. The guest's indexes are read once and checked; a difference larger than the ring is ignored, as xenconsoled does.

Specification: io/console.h (struct xencons_interface); behaviour of tools/console/daemon/io.c in 4.17.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from hv.abi.io.console import xencons_interface

_IN_SIZE = xencons_interface.in_.size
_OUT_SIZE = xencons_interface.out.size
_OUT = xencons_interface.out.offset
_IN_CONS = xencons_interface.in_cons.offset
_IN_PROD = xencons_interface.in_prod.offset
_OUT_CONS = xencons_interface.out_cons.offset
_OUT_PROD = xencons_interface.out_prod.offset
_U32 = 0xFFFFFFFF


class ConsoleBackend:
    """`page` is the guest's ring; `notify` raises its event; `sink` takes output."""

    def __init__(self, page: memoryview, notify: Callable[[], None], sink: Callable[[bytes], None]) -> None:
        self._page = page
        self._notify = notify
        self._sink = sink
        self._waiting = bytearray()
        self.used = False  # whether the guest has ever written to the ring

    def _index(self, offset: int) -> int:
        value: int = struct.unpack_from("<I", self._page, offset)[0]
        return value

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
        consumer, producer = self._index(_OUT_CONS), self._index(_OUT_PROD)
        size = (producer - consumer) & _U32
        if size == 0 or size > _OUT_SIZE:
            return False
        ring = self._page[_OUT : _OUT + _OUT_SIZE]
        start = consumer % _OUT_SIZE
        data = bytes(ring[start : start + size]) + bytes(ring[: max(0, start + size - _OUT_SIZE)])
        self.used = True
        self._sink(data)
        struct.pack_into("<I", self._page, _OUT_CONS, producer)
        return True

    def _give(self) -> bool:
        consumer, producer = self._index(_IN_CONS), self._index(_IN_PROD)
        used = (producer - consumer) & _U32
        if not self._waiting or used >= _IN_SIZE:
            return False
        chunk = self._waiting[: _IN_SIZE - used]
        for i, byte in enumerate(chunk):
            self._page[(producer + i) % _IN_SIZE] = byte
        del self._waiting[: len(chunk)]
        struct.pack_into("<I", self._page, _IN_PROD, (producer + len(chunk)) & _U32)
        return True
