"""A way out of a switch: DHCP, ping, and the servers that the user names, without root.

Rules:

1. Nothing is reachable unless it is named: the gateway itself answers ARP, DHCP and ping; a TCP or UDP packet passes
   only to an address and port of the list, whatever libslirp could do with others. Fragments never pass.
2. What does not pass is answered (refusal.py), so that a guest sees "connection refused" at once.
3. A server on the host's loopback is reached at the gateway's own address.
4. From outside only ports that are forwarded lead in (forward.py).

The guests' network is 10.0.2.0/24, with the gateway at .2 and DHCP leases from .15 on. The stack is libslirp's.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable

from hv.backends.forward import parse
from hv.backends.packet import MIN_TCP, TCP, UDP, Packet, datagram
from hv.backends.refusal import ECHO, ICMP, refusal
from hv.backends.slirp import Slirp
from hv.backends.switch import Switch
from hv.errors import ConfigError

NETWORK, HOST, DNS, FIRST_LEASE = (bytes((10, 0, 2, last)) for last in (0, 2, 3, 15))
BROADCAST = bytes((255,)) * 4
OWN_MACS = [bytes((0x52, 0x55)) + address for address in (HOST, DNS)]  # as libslirp makes them
DHCP_SERVER = 67
ARP_FRAME = 42  # bytes, which libslirp reads without asking how many there are
Address = tuple[bytes, int]


def allowed(text: str) -> Address:
    """(address, port) that guests use for "HOST:PORT"; ConfigError for what is none."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"{text!r} names no server: write HOST:PORT, for example 127.0.0.1:8080")
    try:
        address = ipaddress.IPv4Address(socket.gethostbyname(host))
    except (OSError, ValueError):
        raise ConfigError(f"{text!r}: there is no IPv4 address for {host}: write one, such as 127.0.0.1") from None
    return (HOST if address.is_loopback else address.packed), int(port)


def _ends(frame: bytes, start: int) -> tuple[Address, Address]:
    """(address, port) of the source and of the target of an IPv4 frame whose transport's header is at `start`."""
    ports = struct.unpack_from(">HH", frame, start)
    return (frame[26:30], ports[0]), (frame[30:34], ports[1])


class Gateway:
    """A port of `switch` and an input of the machine; `allow` and `forward` are lists, see `allowed` and `parse`."""

    open = True

    def __init__(self, switch: Switch, allow: Iterable[str] = (), forward: Iterable[str] = ()) -> None:
        self.allowed = {allowed(text) for text in allow}
        self.forwards = [parse(text, FIRST_LEASE) for text in forward]
        self.refused = 0  # frames
        self.on_traffic: Callable[[], None] = lambda: None
        self._switch = switch
        self._slirp = Slirp(self._out, network=NETWORK, host=HOST, dhcp=FIRST_LEASE, dns=DNS)
        self._listen()
        switch.plug(self)

    def _listen(self) -> None:
        for one in self.forwards:
            if not self._slirp.forward(one.protocol == UDP, one.host, one.guest):
                self._slirp.close()
                address = f"{'.'.join(map(str, one.host[0]))}:{one.host[1]}"
                raise ConfigError(f"the host can not listen at {address} for a guest: choose a port that is free")

    def deliver(self, packet: Packet) -> None:
        """A frame from the guests."""
        for frame in packet.wire():
            if self.permits(frame):
                self._slirp.input(frame)
                self.on_traffic()
            else:
                self._refuse(frame)

    def _refuse(self, frame: bytes) -> None:
        self.refused += 1
        answer = refusal(frame) if frame[:6] in OWN_MACS else None
        if answer is not None:
            self._switch.forward(self, Packet(answer))

    def permits(self, frame: bytes) -> bool:
        """Whether a frame may reach the stack."""
        if frame[12:14] == b"\x08\x06":
            return len(frame) >= ARP_FRAME
        found = datagram(frame)
        if found is None or found.version != 4 or found.end - found.start < 8:
            return False
        _, protocol, start, _ = found
        source, target = _ends(frame, start)
        if protocol == UDP and target[1] == DHCP_SERVER:
            return target[0] in (BROADCAST, HOST)
        if frame[:6] not in OWN_MACS:
            return False
        if protocol == ICMP:
            return target[0] == HOST and frame[start] == ECHO
        if protocol not in (TCP, UDP) or (protocol == TCP and found.end - start < MIN_TCP):
            return False
        flags = frame[start + 13] if protocol == TCP else 0
        return target in self.allowed or any(one.answers(protocol, source, target, flags) for one in self.forwards)

    def _out(self, frame: bytes) -> None:
        found = datagram(frame) if self.forwards else None
        if found is not None and found.end - found.start >= 8:
            for one in self.forwards:
                one.came(found.protocol, *_ends(frame, found.start))
        self._switch.forward(self, Packet(frame))

    # --- as an input of the machine

    def poll(self) -> None:
        self._slirp.poll()

    def fileno(self) -> int:
        return self._slirp.fileno()

    @property
    def busy(self) -> bool:
        return self._slirp.busy

    def close(self) -> None:
        self._switch.unplug(self)
        self._slirp.close()
