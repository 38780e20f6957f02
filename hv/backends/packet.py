"""An Ethernet frame on its way between guests, with what its sender has left to do: checksum and segmentation.

Rules:

1. A frame between two guests stays as it is, as long as the receiver can finish it; whoever can not (a capture, the
   gateway, a receiver without the feature) gets finished frames from `wire`.
2. Frames are a guest's bytes: every header is checked before it is used, and what can not be finished goes on as it is.

Sources: RFC 791, 793, 768, 1071; io/netif.h for the flags.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

ETHERNET, IPV4, MIN_IP, MIN_TCP = 14, 0x0800, 20, 20
TCP, UDP = 6, 17
CHECKSUM_AT = {TCP: 16, UDP: 6}
FIN, PSH, CWR = 0x01, 0x08, 0x80


@dataclass(frozen=True, slots=True)
class Packet:
    """`data` is the frame; `blank`: its TCP or UDP checksum is to be computed; `gso`: the payload of its segments."""

    data: bytes
    blank: bool = False
    gso: int = 0

    @property
    def source(self) -> bytes:
        return self.data[6:12]

    @property
    def destination(self) -> bytes:
        return self.data[:6]

    def wire(self) -> Iterator[bytes]:
        """The frames that a cable would see."""
        if self.gso:
            yield from _segments(self)
        elif self.blank:
            yield _finished(self.data)
        else:
            yield self.data


def _transport(data: bytes) -> tuple[int, int, int] | None:
    """(protocol, where its header begins, where the datagram ends) of an unfragmented IPv4 datagram; else None."""
    if len(data) < ETHERNET + MIN_IP or int.from_bytes(data[12:14], "big") != IPV4 or data[14] >> 4 != 4:
        return None
    header = (data[14] & 15) * 4
    length, fragment = struct.unpack_from(">H2xH", data, 16)
    if header < MIN_IP or not header <= length <= len(data) - ETHERNET or fragment & 0x3FFF:
        return None
    return data[23], ETHERNET + header, ETHERNET + length


def checksum(data: bytes, start: int = 0) -> int:
    """The internet checksum: 65535 - the sum of the 16-bit words, in one's complement, and of `start`."""
    if len(data) % 2:
        data += b"\0"
    total = int.from_bytes(data, "big") + start
    folded = total % 0xFFFF
    return 0xFFFF - (folded or (0xFFFF if total else 0))


def _pseudo(data: bytes, protocol: int, length: int) -> int:
    return int.from_bytes(data[26:34], "big") + protocol + length


def _finished(data: bytes) -> bytes:
    """With its TCP or UDP checksum; what is neither stays as it is."""
    found = _transport(data)
    if found is None:
        return data
    protocol, start, end = found
    at = CHECKSUM_AT.get(protocol, 0)
    if not at or end - start < at + 2:
        return data
    segment = data[start : start + at] + b"\0\0" + data[start + at + 2 : end]
    value = checksum(segment, _pseudo(data, protocol, end - start))
    if protocol == UDP and value == 0:
        value = 0xFFFF
    return data[: start + at] + struct.pack(">H", value) + data[start + at + 2 :]


def _segments(packet: Packet) -> Iterator[bytes]:
    """The TCP segments of a large one, each a whole frame with both checksums."""
    data, size = packet.data, packet.gso
    found = _transport(data)
    if found is None or found[0] != TCP or found[2] - found[1] < MIN_TCP:
        yield data
        return
    _, start, end = found
    payload = start + (data[start + 12] >> 4) * 4
    if payload < start + MIN_TCP or payload >= end:
        yield _finished(data)
        return
    identity, sequence = struct.unpack_from(">H", data, 18)[0], struct.unpack_from(">I", data, start + 4)[0]
    for number, at in enumerate(range(payload, end, size)):
        piece = data[at : min(at + size, end)]
        frame = bytearray(data[:payload] + piece)
        struct.pack_into(">HH", frame, 16, len(frame) - ETHERNET, (identity + number) & 0xFFFF)
        struct.pack_into(">H", frame, 24, 0)
        struct.pack_into(">H", frame, 24, checksum(bytes(frame[ETHERNET:start])))
        struct.pack_into(">I", frame, start + 4, (sequence + at - payload) & 0xFFFFFFFF)
        if at + size < end:
            frame[start + 13] &= ~(FIN | PSH) & 0xFF
        if number:
            frame[start + 13] &= ~CWR & 0xFF
        yield _finished(bytes(frame))


def flow(data: bytes) -> bytes:
    """What packets of one connection have in common: they keep their order."""
    found = _transport(data)
    if found is None or found[0] not in CHECKSUM_AT:
        return data[:12]
    return data[26:34] + data[found[1] : found[1] + 4]
