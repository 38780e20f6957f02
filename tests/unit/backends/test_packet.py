"""Checksums and segmentation: against a simple model, and on frames that are not what they say."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hv.backends.packet import Packet, checksum, flow

SOURCE, TARGET = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])


def model(data: bytes) -> int:
    """RFC 1071, word by word."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def ip(protocol: int, payload: bytes, options: bytes = b"") -> bytes:
    header = struct.pack(">BBHHHBBH4s4s", 0x45 + len(options) // 4, 0, 20 + len(options) + len(payload), 7, 0x4000, 64,
                         protocol, 0, SOURCE, TARGET) + options  # fmt: skip
    header = header[:10] + struct.pack(">H", model(header)) + header[12:]
    return b"\2" * 6 + b"\4" * 6 + b"\x08\0" + header + payload


def tcp(payload: bytes, sequence: int = 1000, flags: int = 0x18, options: bytes = b"") -> bytes:
    offset = (5 + len(options) // 4) << 4
    return struct.pack(">HHIIBBHHH", 1234, 80, sequence, 5, offset, flags, 1000, 0, 0) + options + payload


def ip6(protocol: int, payload: bytes, extensions: bytes = b"") -> bytes:
    """`extensions` are whole headers whose first byte says what follows."""
    first = 60 if extensions else protocol
    header = struct.pack(">IHBB", 0x60000000, len(extensions) + len(payload), first, 64)
    return b"\2" * 6 + b"\4" * 6 + b"\x86\xdd" + header + SOURCE * 4 + TARGET * 4 + extensions + payload


def valid(frame: bytes) -> bool:
    """Its checksums are right."""
    if frame[12:14] == b"\x86\xdd":
        protocol, start, end = frame[20], 54, 54 + int.from_bytes(frame[18:20], "big")
        while protocol == 60:
            protocol, start = frame[start], start + (frame[start + 1] + 1) * 8
        return model(frame[22:54] + struct.pack(">II", end - start, protocol) + frame[start:end]) in (0, 0xFFFF)
    header = (frame[14] & 15) * 4
    length = struct.unpack_from(">H", frame, 16)[0]
    segment = frame[14 + header : 14 + length]
    pseudo = frame[26:34] + struct.pack(">BBH", 0, frame[23], len(segment))
    return model(frame[14 : 14 + header]) == 0 and model(pseudo + segment) in (0, 0xFFFF)


@given(st.binary(max_size=3000))
def test_checksum_is_the_model(data: bytes) -> None:
    assert checksum(data) == model(data)


@given(st.binary(max_size=1500), st.sampled_from([b"", b"\1" * 4, b"\1" * 40]))
def test_blank_checksums_are_filled_in(payload: bytes, options: bytes) -> None:
    for protocol, body in ((6, tcp(payload)), (17, struct.pack(">HHHH", 53, 53, 8 + len(payload), 0xBEEF) + payload)):
        (frame,) = Packet(ip(protocol, body, options) + b"padding", blank=True).wire()
        assert valid(frame)
        assert frame.endswith(b"padding")


@given(st.binary(max_size=1500), st.sampled_from([0, 1, 3]))
def test_blank_checksums_of_ipv6(payload: bytes, extensions: int) -> None:
    """Also behind extension headers."""
    for protocol, body in ((6, tcp(payload)), (17, struct.pack(">HHHH", 53, 53, 8 + len(payload), 0xBEEF) + payload)):
        headers = b"".join(
            bytes((60 if number < extensions - 1 else protocol, number % 2)) + bytes(6 + 8 * (number % 2))
            for number in range(extensions)
        )
        (frame,) = Packet(ip6(protocol, body, headers) + b"padding", blank=True).wire()
        assert valid(frame)
        assert frame.endswith(b"padding")


@given(st.binary(min_size=1, max_size=9000), st.integers(1, 3000))
def test_segments_of_ipv6_are_the_whole(payload: bytes, size: int) -> None:
    large = ip6(6, tcp(payload, sequence=0xFFFFFF00, flags=0x99))
    frames = list(Packet(large, blank=True, gso=size).wire())
    assert b"".join(frame[74:] for frame in frames) == payload
    assert all(valid(frame) and len(frame) <= 74 + size for frame in frames)
    assert [frame[67] for frame in frames] == [
        0x10 | (0x09 if i == len(frames) - 1 else 0) | (0x80 if i == 0 else 0) for i in range(len(frames))
    ]


def test_udp_zero_is_ones() -> None:
    """A UDP checksum that comes out as 0 is sent as 65535: 0 means none."""
    for word in range(65536):
        body = struct.pack(">HHHHH", 0, 0, 10, 0, word)
        if model(SOURCE + TARGET + struct.pack(">BBH", 0, 17, 10) + body) == 0:
            break
    (frame,) = Packet(ip(17, body), blank=True).wire()
    assert frame[40:42] == b"\xff\xff"


@given(st.binary(min_size=1, max_size=9000), st.integers(1, 3000), st.sampled_from([b"", b"\1" * 12]))
def test_segments_are_the_whole(payload: bytes, size: int, options: bytes) -> None:
    large = ip(6, tcp(payload, sequence=0xFFFFFF00, flags=0x99, options=options))
    frames = list(Packet(large, blank=True, gso=size).wire())
    head = 54 + len(options)
    assert b"".join(frame[head:] for frame in frames) == payload
    assert all(valid(frame) and len(frame) <= head + size for frame in frames)
    for i, frame in enumerate(frames):
        sequence = struct.unpack_from(">I", frame, 38)[0]
        identity = struct.unpack_from(">H", frame, 18)[0]
        last = i == len(frames) - 1
        assert (sequence, identity) == ((0xFFFFFF00 + i * size) & 0xFFFFFFFF, 7 + i)
        assert frame[47] == 0x10 | (0x09 if last else 0) | (0x80 if i == 0 else 0)


BROKEN = {
    "short": b"\2" * 20,
    "no ip": b"\2" * 12 + b"\x86\xdd" + bytes(60),
    "ip header of 4": ip(6, tcp(b"x")).replace(b"\x45\0", b"\x41\0", 1),
    "longer than the frame": ip(6, tcp(b"x" * 100))[:60],
    "a fragment": ip(6, tcp(b"x")).replace(b"\0\7\x40\0", b"\0\7\x20\0", 1),
    "short ipv6": ip6(6, b"")[:50],
    "ipv6 of version 4": ip6(6, tcp(b"x")).replace(b"\x60", b"\x40", 1),
    "ipv6 longer than the frame": ip6(6, tcp(b"x" * 100))[:90],
    "an ipv6 fragment": ip6(44, b"\6" + bytes(7) + tcp(b"x")),
    "an extension beyond the end": ip6(6, b"", b"\6\xff" + bytes(6)),
    "extensions without end": ip6(6, tcp(b"x"), b"\x3c\0" + bytes(6)),
    "many extensions": ip6(6, tcp(b"x"), (b"\x3c\0" + bytes(6)) * 20),
    "icmp": ip(1, b"\x08\0" + bytes(6)),
    "half a tcp header": ip(6, tcp(b"")[:10]),
    "tcp offset 0": ip(6, tcp(b"x").replace(b"\x50\x18", b"\x00\x18")),
    "tcp offset 60": ip(6, tcp(b"x").replace(b"\x50\x18", b"\xf0\x18")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_can_not_be_finished_goes_on(name: str) -> None:
    for packet in (Packet(BROKEN[name], blank=True), Packet(BROKEN[name], blank=True, gso=100)):
        frames = list(packet.wire())
        assert len(frames) == 1 and len(frames[0]) == len(BROKEN[name])


@given(st.binary(max_size=200), st.booleans(), st.integers(0, 65535))
def test_any_bytes(data: bytes, blank: bool, gso: int) -> None:
    assert all(isinstance(frame, bytes) for frame in Packet(data, blank, gso).wire())
    flow(data)


def test_flow_is_the_connection() -> None:
    one, other = ip(6, tcp(b"a", sequence=1)), ip(6, tcp(b"bb", sequence=2))
    assert flow(one) == flow(other) == SOURCE + TARGET + struct.pack(">HH", 1234, 80)
    one, other = ip6(6, tcp(b"a", sequence=1)), ip6(6, tcp(b"bb", sequence=2), b"\6\0" + bytes(6))
    assert flow(one) == flow(other) == SOURCE * 4 + TARGET * 4 + struct.pack(">HH", 1234, 80)
