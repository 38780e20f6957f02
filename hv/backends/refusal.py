"""The answer to what a gateway does not let through, so that a guest fails at once instead of waiting.

Rules:

1. TCP is reset, as by a host where nobody listens; UDP gets ICMP's "port unreachable"; a ping of another host, and
   every other protocol, "communication administratively prohibited".
2. What must not be answered is not: resets, ICMP other than pings, fragments, and what does not come from, or does not
   go to, one host (RFC 1122, 3.2.2). An answer is never longer than its cause and 28 bytes.

Sources: RFC 793 (reset generation), 792, 1812 (code 13).
"""

from __future__ import annotations

import struct

from hv.backends.packet import (
    ACK,
    ETHERNET,
    FIN,
    MIN_IP,
    MIN_TCP,
    RST,
    SYN,
    TCP,
    UDP,
    checksum,
    datagram,
    pseudo_header,
)

ICMP, ECHO, UNREACHABLE, PORT, PROHIBITED = 1, 8, 3, 3, 13
QUOTED = 8  # bytes of the payload that ICMP errors quote


def refusal(frame: bytes) -> bytes | None:
    """The frame that answers an IPv4 frame; None where nothing may."""
    found = datagram(frame)
    if found is None or found.version != 4 or not (_one_host(frame[26:30]) and _one_host(frame[30:34])):
        return None
    start, end = found.start, found.end
    if found.protocol == TCP:
        return _reset(frame, start, end)
    if found.protocol == UDP:
        return _unreachable(frame, start, end, PORT)
    if found.protocol == ICMP and frame[start : start + 1] != bytes((ECHO,)):
        return None
    return _unreachable(frame, start, end, PROHIBITED)


def _one_host(address: bytes) -> bool:
    return 0 < address[0] < 224 and address[0] != 127 and address[3] != 255


def _reset(frame: bytes, start: int, end: int) -> bytes | None:
    if end - start < MIN_TCP:
        return None
    source, target, sequence, ack, offset, flags = struct.unpack_from(">HHIIBB", frame, start)
    if flags & RST:
        return None
    if flags & ACK:
        head = struct.pack(">HHIIBBHHH", target, source, ack, 0, MIN_TCP // 4 << 4, RST, 0, 0, 0)
    else:
        length = max(0, end - start - (offset >> 4) * 4) + bool(flags & SYN) + bool(flags & FIN)
        ack = (sequence + length) & 0xFFFFFFFF
        head = struct.pack(">HHIIBBHHH", target, source, 0, ack, MIN_TCP // 4 << 4, RST | ACK, 0, 0, 0)
    answer = _answer(frame, TCP, head)
    value = checksum(head, pseudo_header(answer, 4, TCP, len(head)))
    at = ETHERNET + MIN_IP + 16
    return answer[:at] + struct.pack(">H", value) + answer[at + 2 :]


def _unreachable(frame: bytes, start: int, end: int, code: int) -> bytes:
    body = struct.pack(">BBHI", UNREACHABLE, code, 0, 0) + frame[ETHERNET : min(end, start + QUOTED)]
    return _answer(frame, ICMP, body[:2] + struct.pack(">H", checksum(body)) + body[4:])


def _answer(frame: bytes, protocol: int, payload: bytes) -> bytes:
    """From whom the frame was for to whom it came from."""
    header = struct.pack(">BBHHHBBH", 0x45, 0, MIN_IP + len(payload), 0, 0x4000, 64, protocol, 0)
    header += frame[30:34] + frame[26:30]
    header = header[:10] + struct.pack(">H", checksum(header)) + header[12:]
    return frame[6:12] + frame[:6] + frame[12:14] + header + payload
