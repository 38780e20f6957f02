"""An Ethernet frame on its way between guests, with what its sender has left to do: checksum and segmentation.

Rules:

1. A frame between two guests stays as it is, as long as the receiver can finish it; whoever can not (a capture, the
   gateway, a receiver without the feature) gets finished frames from `wire`.
2. Frames are a guest's bytes: every header is checked before it is used, and what can not be finished goes on as it is.

Sources: RFC 791, 8200, 793, 768, 1071; io/netif.h for the flags.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

ETHERNET, MIN_IP, IP6, MIN_TCP = 14, 20, 40, 20
TCP, UDP = 6, 17
CHECKSUM_AT = {TCP: 16, UDP: 6}
FIN, SYN, RST, PSH, ACK, CWR = 0x01, 0x02, 0x04, 0x08, 0x10, 0x80
EXTENSIONS = (0, 43, 60)  # IPv6's headers between it and the transport: hop-by-hop, routing, destination options
MOST_EXTENSIONS = 8


class Datagram(NamedTuple):
    """An unfragmented IP datagram in a frame: where its transport's header begins, and where it ends."""

    version: int
    protocol: int
    start: int
    end: int


@dataclass(slots=True)
class Packet:
    """`data` is the frame; `blank`: its TCP or UDP checksum is to be computed; `gso`: the payload of its segments.

    `valid`: the sender says that the checksum has been checked.
    """

    data: bytes
    blank: bool = False
    gso: int = 0
    valid: bool = False

    @property
    def source(self) -> bytes:
        return self.data[6:12]

    @property
    def destination(self) -> bytes:
        return self.data[:6]

    @property
    def ipv6(self) -> bool:
        return self.data[12:14] == b"\x86\xdd"

    def wire(self) -> Iterator[bytes]:
        """The frames that a cable would see."""
        if self.gso:
            yield from _segments(self)
        elif self.blank:
            yield _finished(self.data)
        else:
            yield self.data


def datagram(data: bytes) -> Datagram | None:
    """What an Ethernet frame carries; None where that is no whole IP datagram, or a fragment."""
    kind = data[12:14]
    if kind == b"\x08\0":
        return _ipv4(data)
    if kind == b"\x86\xdd":
        return _ipv6(data)
    return None


def _ipv4(data: bytes) -> Datagram | None:
    if len(data) < ETHERNET + MIN_IP or data[14] >> 4 != 4:
        return None
    header = (data[14] & 15) * 4
    length, fragment = struct.unpack_from(">H2xH", data, 16)
    if header < MIN_IP or not header <= length <= len(data) - ETHERNET or fragment & 0x3FFF:
        return None
    return Datagram(4, data[23], ETHERNET + header, ETHERNET + length)


def _ipv6(data: bytes) -> Datagram | None:
    if len(data) < ETHERNET + IP6 or data[14] >> 4 != 6:
        return None
    end = ETHERNET + IP6 + int.from_bytes(data[18:20], "big")
    protocol, start = data[20], ETHERNET + IP6
    if end > len(data):
        return None
    for _ in range(MOST_EXTENSIONS):
        if protocol not in EXTENSIONS or start + 2 > end:
            break
        protocol, start = data[start], start + (data[start + 1] + 1) * 8
    return Datagram(6, protocol, start, end) if start <= end else None


def checksum(data: bytes, start: int = 0) -> int:
    """The internet checksum: 65535 - the sum of the 16-bit words, in one's complement, and of `start`."""
    if len(data) % 2:
        data += b"\0"
    total = int.from_bytes(data, "big") + start
    folded = total % 0xFFFF
    return 0xFFFF - (folded or (0xFFFF if total else 0))


def pseudo_header(data: bytes, version: int, protocol: int, length: int) -> int:
    """What a transport's checksum covers of the header of IP, as a number to add."""
    addresses = data[26:34] if version == 4 else data[22:54]
    return int.from_bytes(addresses, "big") + protocol + length


def _finished(data: bytes) -> bytes:
    """With its TCP or UDP checksum; what is neither stays as it is."""
    found = datagram(data)
    if found is None:
        return data
    version, protocol, start, end = found
    at = CHECKSUM_AT.get(protocol, 0)
    if not at or end - start < at + 2:
        return data
    segment = data[start : start + at] + b"\0\0" + data[start + at + 2 : end]
    value = checksum(segment, pseudo_header(data, version, protocol, end - start))
    if protocol == UDP and value == 0:
        value = 0xFFFF
    return data[: start + at] + struct.pack(">H", value) + data[start + at + 2 :]


def _segments(packet: Packet) -> Iterator[bytes]:
    """The TCP segments of a large one, each a whole frame with its checksums."""
    data, size = packet.data, packet.gso
    found = datagram(data)
    if found is None or found.protocol != TCP or found.end - found.start < MIN_TCP:
        yield data
        return
    version, _, start, end = found
    payload = start + (data[start + 12] >> 4) * 4
    if payload < start + MIN_TCP or payload >= end:
        yield _finished(data)
        return
    (sequence,) = struct.unpack_from(">I", data, start + 4)
    for number, at in enumerate(range(payload, end, size)):
        piece = data[at : min(at + size, end)]
        frame = bytearray(data[:payload] + piece)
        if version == 4:
            _renumber(frame, start, number)
        else:
            struct.pack_into(">H", frame, 18, len(frame) - ETHERNET - IP6)
        struct.pack_into(">I", frame, start + 4, (sequence + at - payload) & 0xFFFFFFFF)
        if at + size < end:
            frame[start + 13] &= ~(FIN | PSH) & 0xFF
        if number:
            frame[start + 13] &= ~CWR & 0xFF
        yield _finished(bytes(frame))


def _renumber(frame: bytearray, start: int, number: int) -> None:
    """The IPv4 header of one of several segments: its length, identification and checksum."""
    (identity,) = struct.unpack_from(">H", frame, 18)
    struct.pack_into(">HH", frame, 16, len(frame) - ETHERNET, (identity + number) & 0xFFFF)
    struct.pack_into(">H", frame, 24, 0)
    struct.pack_into(">H", frame, 24, checksum(bytes(frame[ETHERNET:start])))


def flow(data: bytes) -> bytes:
    """What packets of one connection have in common: they keep their order."""
    found = datagram(data)
    if found is None or found.protocol not in CHECKSUM_AT:
        return data[:12]
    addresses = data[26:34] if found.version == 4 else data[22:54]
    return addresses + data[found.start : found.start + 4]
