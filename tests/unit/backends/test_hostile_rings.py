"""Frontends that write anything: every request is answered or costs the device; nothing else happens, nothing leaks."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

from frontend import FrontRing, frontend_state, plugged
from hypothesis import given, settings
from hypothesis import strategies as st
from test_net import Interface

from hv.backends.block import Block
from hv.backends.image_file import ImageFile
from hv.backends.packet import Packet

SMALL = st.sampled_from([0, 1, 2, 7, 8, 11, 12, 255])
WORDS = st.sampled_from([0, 1, 60, 4095, 4096, 65535, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1])
REFS = st.sampled_from([0, 1, 50, 100, 101, 9999, (1 << 32) - 1])
INDEXES = st.sampled_from([0, 1, 31, 32, 33, 256, 257, 1 << 31, (1 << 32) - 1])


@st.composite
def block_requests(draw: st.DrawFn) -> bytes:
    """Mostly well-shaped, with members at their edges; sometimes any bytes."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.binary(min_size=112, max_size=112))
    head = struct.pack("<BBHxxxxQQ", draw(SMALL), draw(SMALL), draw(SMALL), draw(WORDS), draw(WORDS))
    segments = b"".join(struct.pack("<IBBxx", draw(REFS), draw(SMALL), draw(SMALL)) for _ in range(11))
    return (head + segments)[:112]


@settings(max_examples=150, deadline=None)
@given(st.lists(block_requests(), max_size=12), st.booleans(), st.none() | INDEXES)
def test_block(requests: list[bytes], persistent: bool, index: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(bytes(64 * 512))
        device = Block(ImageFile(str(path)), "xvda", 51712)
        peer, nodes = plugged(device)
        ring = FrontRing([peer.grant(1)], 112)
        for ref in (50, 100, 101):
            peer.grant(ref, struct.pack("<IBBxx", 100, 0, 7) * 512)
        nodes.front_values |= {"ring-ref": "1", "event-channel": "3", "feature-persistent": str(int(persistent))}
        frontend_state(device, nodes, 3)
        for request in requests:
            ring.put(request)
        if index is not None:
            ring.set_word(0, index)
        peer.handlers[3]()
        if device.state == 4 and index is None:
            answers = [ring.take(12) for _ in requests]
            for request, answer in zip(requests, answers, strict=True):
                assert answer is not None
                assert answer[:8] == request[8:16] and struct.unpack("<h", answer[10:12])[0] in (0, -1, -2)
        else:
            assert index is not None
        assert path.stat().st_size == 64 * 512
        device.detach()
        assert not peer.leaks
        device.close()


@st.composite
def net_requests(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 3)) == 0:
        return draw(st.binary(min_size=12, max_size=12))
    sizes = st.sampled_from([0, 1, 13, 14, 60, 1514, 4096, 65535])
    return struct.pack("<IHHHH", draw(REFS), draw(st.sampled_from([0, 1, 4095, 65535])),
                       draw(st.integers(0, 15)), draw(SMALL), draw(sizes))  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(net_requests(), max_size=30), st.lists(st.binary(min_size=8, max_size=8), max_size=20),
       st.none() | INDEXES, st.binary(min_size=14, max_size=9000), st.integers(0, 3000))  # fmt: skip
def test_net(sent: list[bytes], buffers: list[bytes], index: int | None, frame: bytes, gso: int) -> None:
    interface = Interface()
    for ref in (50, 100, 101):
        interface.peer.grant(ref, bytes(range(256)) * 16)
    for request in sent:
        interface.tx[0].put(request)
    for buffer in buffers:
        interface.rx[0].put(buffer)
    if index is not None:
        interface.rx[0].set_word(0, index)
    interface.peer.handlers[3]()
    for packet in (Packet(frame), Packet(frame, True), Packet(frame, True, gso)):
        interface.switch.forward(interface.cable, packet)
    if interface.device.state == 4:
        answers = 0
        while interface.tx[0].take(4) is not None:
            answers += 1
        assert answers == len(sent)  # one for each slot
        for _, offset, _, status in interface.received():
            assert offset == 0 or status == 0 or status <= 4096
    else:
        assert interface.device.error
    interface.device.detach()
    assert not interface.peer.leaks
