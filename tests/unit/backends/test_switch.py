"""The learning switch, and captures."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import hv
from hv.backends.packet import Packet
from hv.backends.pcap import Capture
from hv.backends.switch import MOST_ADDRESSES, Switch

A, B, C = (bytes([2, 0, 0, 0, 0, last]) for last in (1, 2, 3))
ALL = b"\xff" * 6


class Station:
    def __init__(self, switch: Switch) -> None:
        self.got: list[bytes] = []
        self.switch = switch
        switch.plug(self)

    def deliver(self, packet: Packet) -> None:
        self.got.append(packet.data)

    def send(self, source: bytes, target: bytes) -> bytes:
        frame = target + source + b"\x08\0data"
        self.switch.forward(self, Packet(frame))
        return frame


@pytest.fixture
def stations() -> list[Station]:
    switch = Switch("s")
    return [Station(switch) for _ in range(3)]


def test_learning(stations: list[Station]) -> None:
    a, b, c = stations
    first = a.send(A, B)
    assert (a.got, b.got, c.got) == ([], [first], [first])
    answer = b.send(B, A)
    assert (a.got, c.got) == ([answer], [first])
    again = a.send(A, B)
    assert (b.got, c.got) == ([first, again], [first])
    everybody = c.send(C, ALL)
    assert a.got[-1] == b.got[-1] == everybody != c.got[-1]


def test_a_station_moves(stations: list[Station]) -> None:
    a, b, c = stations
    a.send(A, ALL)
    c.send(A, ALL)
    frame = b.send(B, A)
    assert c.got[-1] == frame != a.got[-1]


def test_unplugged_is_forgotten(stations: list[Station]) -> None:
    a, b, c = stations
    a.send(A, ALL)
    a.switch.unplug(a)
    a.switch.unplug(a)
    frame = b.send(B, A)
    assert c.got[-1] == frame and frame not in a.got


def test_nothing_comes_back(stations: list[Station]) -> None:
    a = stations[0]
    a.send(A, ALL)
    a.send(B, A)
    assert a.got == []


def test_flood_of_addresses_is_bounded(stations: list[Station]) -> None:
    a, b, c = stations
    for number in range(100, 5100):
        a.send(struct.pack(">HI", 0x0200, number), ALL)
    assert len(a.switch._seen) == MOST_ADDRESSES
    frame = b.send(B, C)
    assert frame in a.got and frame in c.got


def test_multicast_is_no_source(stations: list[Station]) -> None:
    stations[0].send(b"\x03" + A[1:], B)
    assert not stations[0].switch._seen


def test_capture(tmp_path: Path, stations: list[Station]) -> None:
    """The classic format with ns; large frames as the segments that a cable would see."""
    path = tmp_path / "x.pcap"
    capture = Capture(str(path), lambda: 3_000_000_007)
    stations[0].switch.taps.append(capture.frame)
    frame = stations[0].send(A, B)
    capture.close()
    data = path.read_bytes()
    assert data[:24] == struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1)
    assert data[24:] == struct.pack("<IIII", 3, 7, len(frame), len(frame)) + frame


def test_capture_that_can_not_be(tmp_path: Path) -> None:
    with pytest.raises(hv.ConfigError, match="the capture cannot be written"):
        Capture(str(tmp_path), lambda: 0)
