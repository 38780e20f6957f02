"""A learning switch between the network interfaces of guests: what xl calls a bridge.

Rules:

1. A frame goes to the port where its destination was last seen as a source, else to all but its own.
2. A guest can claim any address, as on a real bridge; it can not make the table grow without bound.
3. A tap sees every frame as a cable would, finished, before it is delivered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hv.backends.packet import Packet

MOST_ADDRESSES = 1024


class Port(Protocol):
    """Who is plugged into a switch."""

    def deliver(self, packet: Packet) -> None:
        """A frame for it."""


class Switch:
    """`taps` are functions that get (frame) of everything that passes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.taps: list[Callable[[bytes], None]] = []
        self._ports: list[Port] = []
        self._seen: dict[bytes, Port] = {}

    def plug(self, port: Port) -> None:
        self._ports.append(port)

    def unplug(self, port: Port) -> None:
        if port in self._ports:
            self._ports.remove(port)
        self._seen = {address: where for address, where in self._seen.items() if where is not port}

    def forward(self, origin: Port, packet: Packet) -> None:
        """A frame that came in at a port."""
        if self.taps:
            for frame in packet.wire():
                for tap in self.taps:
                    tap(frame)
        source = packet.source
        if not source[0] & 1 and (source in self._seen or len(self._seen) < MOST_ADDRESSES):
            self._seen[source] = origin
        target = None if packet.destination[0] & 1 else self._seen.get(packet.destination)
        if target is not None:
            if target is not origin:
                target.deliver(packet)
            return
        for port in list(self._ports):
            if port is not origin:
                port.deliver(packet)
