"""The codec: any fragmentation, oversized messages."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hv.core.xenstore import Decoder, Packet, ProtocolError, encode

u32 = st.integers(0, 0xFFFFFFFF)
packets = st.builds(Packet, u32, u32, u32, st.binary(max_size=60))


def test_encoding_is_that_of_the_real_client() -> None:
    # What Debian's xenstore-ls sends first.
    expected = bytes.fromhex("01000000 00000000 00000000 02000000 2f00")
    assert encode(Packet(1, 0, 0, b"/\0")) == expected


@given(st.lists(packets, max_size=6), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_any_fragmentation_gives_the_same_packets(sent: list[Packet], sizes: list[int]) -> None:
    stream = b"".join(map(encode, sent))
    decoder = Decoder()
    received: list[Packet] = []
    while stream:
        for size in sizes:
            received += decoder.feed(memoryview(stream)[:size])
            stream = stream[size:]
    assert received == sent


@given(packets)
def test_wanted_never_goes_past_the_message(packet: Packet) -> None:
    decoder = Decoder()
    stream = encode(packet) + b"next"
    received: list[Packet] = []
    while not received:
        wanted = decoder.wanted
        received += decoder.feed(stream[:wanted])
        stream = stream[wanted:]
    assert received == [packet]
    assert stream == b"next"


def test_a_payload_of_4096_bytes_is_the_largest() -> None:
    largest = Packet(2, 1, 0, bytes(4096))
    assert list(Decoder().feed(encode(largest))) == [largest]
    with pytest.raises(ProtocolError):
        list(Decoder().feed(struct.pack("<4I", 2, 1, 0, 4097)))


def test_packets_before_an_oversized_one_still_count() -> None:
    good = Packet(2, 1, 0, b"/\0")
    stream = Decoder().feed(encode(good) + struct.pack("<4I", 2, 1, 0, 0xFFFFFFFF))
    assert next(stream) == good
    with pytest.raises(ProtocolError):
        next(stream)
