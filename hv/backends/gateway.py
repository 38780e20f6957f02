"""A way out of a switch: DHCP, ping, and the servers that the user names, without root.

Rules:

1. Nothing is reachable unless it is named: the gateway itself answers ARP, DHCP and ping; a TCP or UDP packet passes
   only to an address and port of the list, whatever libslirp could do with others. Fragments never pass.
2. A server on the host's loopback is reached at the gateway's own address.

The guests' network is 10.0.2.0/24, with the gateway at .2 and DHCP leases from .15 on. The stack is libslirp's.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable

from hv.backends.packet import ETHERNET, IPV4, MIN_IP, TCP, UDP, Packet
from hv.backends.slirp import Slirp
from hv.backends.switch import Switch
from hv.errors import ConfigError

NETWORK, HOST, DNS, FIRST_LEASE = (bytes((10, 0, 2, last)) for last in (0, 2, 3, 15))
BROADCAST = bytes((255,)) * 4
ARP, ICMP, ECHO, DHCP_SERVER = 0x0806, 1, 8, 67
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


class Gateway:
    """A port of `switch` and an input of the machine; `allow` lists servers as "HOST:PORT"."""

    open = True

    def __init__(self, switch: Switch, allow: Iterable[str] = ()) -> None:
        self.allowed = {allowed(text) for text in allow}
        self.refused = 0  # frames
        self.on_traffic: Callable[[], None] = lambda: None
        self._switch = switch
        self._slirp = Slirp(self._out, network=NETWORK, host=HOST, dhcp=FIRST_LEASE, dns=DNS)
        switch.plug(self)

    def deliver(self, packet: Packet) -> None:
        """A frame from the guests."""
        for frame in packet.wire():
            if self.permits(frame):
                self._slirp.input(frame)
                self.on_traffic()
            else:
                self.refused += 1

    def permits(self, frame: bytes) -> bool:
        """Whether a frame may reach the stack."""
        kind = int.from_bytes(frame[12:14], "big")
        if kind == ARP:
            return True
        header = (frame[14] & 15) * 4 if len(frame) >= ETHERNET + MIN_IP else 0
        if kind != IPV4 or header < MIN_IP or len(frame) < ETHERNET + header + 8:
            return False
        if int.from_bytes(frame[20:22], "big") & 0x3FFF:  # a fragment
            return False
        protocol, target, payload = frame[23], frame[30:34], ETHERNET + header
        port = int.from_bytes(frame[payload + 2 : payload + 4], "big")
        if protocol == UDP and port == DHCP_SERVER:
            return target in (BROADCAST, HOST)
        if protocol == ICMP:
            return target == HOST and frame[payload] == ECHO
        return protocol in (TCP, UDP) and (target, port) in self.allowed

    def _out(self, frame: bytes) -> None:
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
