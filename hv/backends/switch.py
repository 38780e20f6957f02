"""A learning switch between the network interfaces of guests: what xl calls a bridge.

Rules:

1. A frame goes to the port where its destination was last seen as a source, else to all but its own.
2. A guest can claim any address, as on a real bridge; it can not make the table grow without bound. Who has not been
   heard of for five minutes of the machine's time is forgotten, as a Linux bridge does.
3. A tap sees every frame as a cable would, finished, before it is delivered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hv.backends.packet import Packet

MOST_ADDRESSES = 1024
AGE_NS = 300 * 10**9


class Port(Protocol):
    """Who is plugged into a switch."""

    def deliver(self, packet: Packet) -> None:
        """A frame for it."""


class Switch:
    """`taps` are functions that get (frame) of everything that passes; `now_ns` is the clock."""

    def __init__(self, name: str, now_ns: Callable[[], int] = lambda: 0) -> None:
        self.name = name
        self.taps: list[Callable[[bytes], None]] = []
        self._now_ns = now_ns
        self._ports: list[Port] = []
        self._seen: dict[bytes, tuple[Port, int]] = {}  # where, and when last

    def plug(self, port: Port) -> None:
        self._ports.append(port)

    def unplug(self, port: Port) -> None:
        if port in self._ports:
            self._ports.remove(port)
        self._seen = {address: seen for address, seen in self._seen.items() if seen[0] is not port}

    def forward(self, origin: Port, packet: Packet) -> None:
        """A frame that came in at a port."""
        if self.taps:
            for frame in packet.wire():
                for tap in self.taps:
                    tap(frame)
        now = self._now_ns()
        self._learn(packet.source, origin, now)
        target = packet.destination
        where, when = self._seen.get(target, (None, 0))
        if where is None or target[0] & 1 or now - when >= AGE_NS:
            for port in list(self._ports):
                if port is not origin:
                    port.deliver(packet)
        elif where is not origin:
            where.deliver(packet)

    def _learn(self, source: bytes, origin: Port, now: int) -> None:
        if source[0] & 1:
            return
        if source not in self._seen and len(self._seen) >= MOST_ADDRESSES:
            self._seen = {address: seen for address, seen in self._seen.items() if now - seen[1] < AGE_NS}
            if len(self._seen) >= MOST_ADDRESSES:
                return
        self._seen[source] = origin, now

    @property
    def addresses(self) -> dict[bytes, Port]:
        """The table: six bytes of address, and the port where they were seen last."""
        now = self._now_ns()
        return {address: where for address, (where, when) in self._seen.items() if now - when < AGE_NS}
