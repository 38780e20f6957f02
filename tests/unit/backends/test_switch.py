"""The learning switch, and captures."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from guest_kit import need_program
from test_packet import ip, ip6, tcp

import hv
from hv.backends.packet import Packet
from hv.backends.pcap import Capture
from hv.backends.switch import AGE_NS, MOST_ADDRESSES, Switch

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
    assert len(a.switch.addresses) == MOST_ADDRESSES
    frame = b.send(B, C)
    assert frame in a.got and frame in c.got


def test_multicast_is_no_source(stations: list[Station]) -> None:
    stations[0].send(b"\x03" + A[1:], B)
    assert not stations[0].switch.addresses


def test_addresses_age() -> None:
    """Five minutes after its last frame a station is forgotten, and what is for it is flooded again."""
    now = [0]
    switch = Switch("s", lambda: now[0])
    a, b, c = (Station(switch) for _ in range(3))
    a.send(A, ALL)
    b.send(B, ALL)
    for seconds, flooded in ((299, False), (300, True), (301, True)):
        now[0] = seconds * 10**9
        c.got.clear()
        b.send(B, A)
        assert bool(c.got) == flooded
        assert switch.addresses == ({B: b} if flooded else {A: a, B: b})
    a.send(A, ALL)
    c.got.clear()
    b.send(B, A)
    assert c.got == []


def test_a_full_table_has_room_again() -> None:
    now = [0]
    switch = Switch("s", lambda: now[0])
    a, b, _ = (Station(switch) for _ in range(3))
    for number in range(2 * MOST_ADDRESSES):
        a.send(struct.pack(">HI", 0x0200, number), ALL)
    now[0] = AGE_NS
    b.send(B, ALL)
    assert switch.addresses == {B: b}


def test_switches_are_apart() -> None:
    one, other = Switch("one"), Switch("other")
    a, b = Station(one), Station(other)
    a.send(A, ALL)
    b.send(B, A)
    assert a.got == b.got == []


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


def test_capture_for_tshark(tmp_path: Path) -> None:
    """Wireshark's reader finds the frames, their times, and no checksum wrong, whatever the sender left to do."""
    tshark = need_program("tshark", "tshark")
    switch, path, times = Switch("s"), tmp_path / "x.pcap", iter(range(1_000_000_007, 10**12, 10**9))
    capture = Capture(str(path), lambda: next(times))
    switch.taps.append(capture.frame)
    station = Station(switch)
    udp = struct.pack(">HHHH", 4000, 4001, 12, 0xBEEF) + b"data"
    for network in (ip, ip6):
        switch.forward(station, Packet(network(6, tcp(bytes(3000))), blank=True, gso=1400))
        switch.forward(station, Packet(network(17, udp), blank=True))
    capture.close()
    checks = [f"-o{name}.check_checksum:TRUE" for name in ("ip", "tcp", "udp")]
    fields = ["frame.time_epoch", "frame.len", "tcp.checksum.status", "udp.checksum.status", "ip.checksum.status"]
    command = [tshark, "-r", path, *checks, "-Tfields", "-Eseparator=,", *[f"-e{name}" for name in fields]]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [line.split(",") for line in output.splitlines()]
    sizes = [1454, 1454, 254, 46, 1474, 1474, 274, 66]
    assert [row[:2] for row in rows] == [[f"{at}.000000007", str(size)] for at, size in enumerate(sizes, start=1)]
    assert {tuple(row[2:]) for row in rows} == {("1", "", "1"), ("", "1", "1"), ("1", "", ""), ("", "1", "")}  # 1: good


def test_capture_that_can_not_be(tmp_path: Path) -> None:
    with pytest.raises(hv.ConfigError, match="the capture cannot be written"):
        Capture(str(tmp_path), lambda: 0)
