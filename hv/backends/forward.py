"""Ports of the host's that lead to a guest: what QEMU calls hostfwd, in its syntax.

Rules:

1. Without an address the host listens on its loopback only, and the guest is the first one that DHCP serves.
2. Through a forwarded port a guest only answers: TCP without opening connections, UDP to whoever has sent to it.
"""

from __future__ import annotations

import ipaddress
import re
from collections import deque
from dataclasses import dataclass, field

from hv.backends.packet import ACK, SYN, TCP, UDP
from hv.errors import ConfigError

LOOPBACK = bytes((127, 0, 0, 1))
MOST_SENDERS = 1024
PATTERN = re.compile(r"(?:(tcp|udp):)?(?:([0-9.]*):)?(\d{1,5})-(?:([0-9.]*):)?(\d{1,5})")
EXAMPLE = "write 2222-:22, or udp:127.0.0.1:5000-10.0.2.15:5000"
Address = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class Forward:
    """`host` is where the host listens, `guest` where it leads."""

    protocol: int
    host: Address
    guest: Address
    senders: deque[Address] = field(default_factory=lambda: deque(maxlen=MOST_SENDERS), compare=False)

    def came(self, protocol: int, source: Address, target: Address) -> None:
        """A packet for the guests: who may be answered."""
        if protocol == self.protocol == UDP and target == self.guest and source not in self.senders:
            self.senders.append(source)

    def answers(self, protocol: int, source: Address, target: Address, flags: int) -> bool:
        """Whether a guest's packet is an answer; `flags` are TCP's."""
        if protocol != self.protocol or source != self.guest:
            return False
        return target in self.senders if protocol == UDP else flags & (SYN | ACK) != SYN


def parse(text: str, guest: bytes) -> Forward:
    """[tcp|udp:][HOST-ADDRESS:]PORT-[GUEST-ADDRESS:]PORT; `guest` is the address where none is said. ConfigError."""
    match = PATTERN.fullmatch(text)
    if not match:
        raise ConfigError(f"{text!r} forwards no port: {EXAMPLE}")
    protocol, here, port, there, inside = match.groups()
    return Forward(
        UDP if protocol == "udp" else TCP,
        (_address(text, here, LOOPBACK), _port(text, port)),
        (_address(text, there, guest), _port(text, inside)),
    )


def _address(text: str, address: str | None, default: bytes) -> bytes:
    if not address:
        return default
    try:
        return ipaddress.IPv4Address(address).packed
    except ValueError:
        raise ConfigError(f"{text!r}: {address} is no IPv4 address: {EXAMPLE}") from None


def _port(text: str, port: str) -> int:
    if not 0 < int(port) < 65536:
        raise ConfigError(f"{text!r}: {port} is no port: choose 1 to 65535")
    return int(port)
