"""The gateway: what passes its filter, and real servers on the host's loopback through libslirp."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import pytest
from test_packet import model

import hv
from hv.backends.gateway import Gateway, allowed
from hv.backends.packet import Packet
from hv.backends.switch import Switch

pytestmark = pytest.mark.usefixtures("libslirp")
GUEST, GATEWAY, DNS = (bytes((10, 0, 2, last)) for last in (15, 2, 3))
ELSEWHERE = bytes((8, 8, 8, 8))
MAC = bytes.fromhex("00163e000001")


def frame(protocol: int, target: bytes, payload: bytes, *, fragment: int = 0, source: bytes = GUEST) -> bytes:
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, fragment, 64, protocol, 0, source, target)
    header = header[:10] + struct.pack(">H", model(header)) + header[12:]
    return b"\x52\x55\x0a\0\2\2" + MAC + b"\x08\0" + header + payload


def ports(target: int, payload: bytes = b"", source: int = 4000) -> bytes:
    return struct.pack(">HHHH", source, target, 8 + len(payload), 0) + payload


def segment(target: int, sequence: int, ack: int, flags: int, payload: bytes = b"") -> bytes:
    body = struct.pack(">HHIIBBHHH", 4000, target, sequence, ack, 0x50, flags, 8192, 0, 0) + payload
    pseudo = GUEST + GATEWAY + struct.pack(">BBH", 0, 6, len(body))
    return body[:16] + struct.pack(">H", model(pseudo + body)) + body[18:]


PASSES = {
    "arp": (b"\xff" * 6 + MAC + b"\x08\x06" + bytes(28), True),
    "dhcp": (frame(17, b"\xff" * 4, ports(67)), True),
    "dhcp to the gateway": (frame(17, GATEWAY, ports(67)), True),
    "dhcp elsewhere": (frame(17, ELSEWHERE, ports(67)), False),
    "ping": (frame(1, GATEWAY, b"\x08\0" + bytes(6)), True),
    "ping elsewhere": (frame(1, ELSEWHERE, b"\x08\0" + bytes(6)), False),
    "icmp redirect": (frame(1, GATEWAY, b"\x05\0" + bytes(6)), False),
    "tcp allowed": (frame(6, GATEWAY, segment(8080, 0, 0, 2)), True),
    "udp allowed": (frame(17, GATEWAY, ports(8080)), True),
    "another port": (frame(6, GATEWAY, segment(8081, 0, 0, 2)), False),
    "port 0": (frame(6, GATEWAY, segment(0, 0, 0, 2)), False),
    "the same port elsewhere": (frame(6, ELSEWHERE, segment(8080, 0, 0, 2)), False),
    "another host, allowed": (frame(6, bytes((192, 0, 2, 1)), segment(25, 0, 0, 2)), True),
    "its other ports": (frame(6, bytes((192, 0, 2, 1)), segment(8080, 0, 0, 2)), False),
    "loopback itself": (frame(6, bytes((127, 0, 0, 1)), segment(8080, 0, 0, 2)), False),
    "dns": (frame(17, DNS, ports(53)), False),
    "tftp": (frame(17, GATEWAY, ports(69)), False),
    "a first fragment": (frame(6, GATEWAY, segment(8080, 0, 0, 2), fragment=0x2000), False),
    "a later fragment": (frame(6, GATEWAY, segment(8080, 0, 0, 2), fragment=1), False),
    "another protocol": (frame(47, GATEWAY, bytes(20)), False),
    "ipv6": (b"\xff" * 6 + MAC + b"\x86\xdd" + bytes(60), False),
    "short": (b"\xff" * 6 + MAC + b"\x08\0\x45", False),
    "header without end": (frame(6, GATEWAY, b"")[:14] + b"\x4f" + frame(6, GATEWAY, b"")[15:], False),
    "nothing": (b"", False),
}


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway(Switch("s"), ["127.0.0.1:8080", "192.0.2.1:25"])
    yield gateway
    gateway.close()


@pytest.mark.parametrize("name", PASSES)
def test_filter(name: str, gateway: Gateway) -> None:
    assert gateway.permits(PASSES[name][0]) == PASSES[name][1]
    if not PASSES[name][1]:
        gateway.deliver(Packet(PASSES[name][0]))
        assert gateway.refused == 1 and not gateway.busy


def test_servers() -> None:
    assert allowed("localhost:80") == allowed("127.0.0.1:80") == (GATEWAY, 80)
    assert allowed("192.0.2.7:65535") == (bytes((192, 0, 2, 7)), 65535)


NO_SERVERS = ["", "80", ":80", "host:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:x", "no such:1"]


@pytest.mark.parametrize("text", NO_SERVERS)
def test_no_servers(text: str) -> None:
    with pytest.raises(hv.ConfigError):
        allowed(text)


class Guest:
    """A guest's stack, as much as the tests need of it."""

    def __init__(self, *allow: str) -> None:
        self.switch = Switch("s")
        self.got: list[bytes] = []
        self.switch.plug(self)
        self.gateway = Gateway(self.switch, allow)

    def deliver(self, packet: Packet) -> None:
        data = packet.data
        if data[12:14] == b"\x08\x06" and data[20:22] == b"\0\1":  # who has us?
            answer = data[6:12] + MAC + data[12:20] + b"\0\2" + MAC + data[38:42] + data[22:32]
            self.switch.forward(self, Packet(answer))
            return
        self.got.append(data)

    def send(self, data: bytes) -> None:
        self.switch.forward(self, Packet(data))

    def wait(self, wanted: int) -> bytes:
        """The next IPv4 payload of that protocol."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for data in self.got:
                if data[12:14] == b"\x08\0" and data[23] == wanted:
                    self.got.remove(data)
                    return data[34:]
            self.gateway.poll()
        raise AssertionError("nothing came")


def test_ping_and_dhcp() -> None:
    guest = Guest()
    body = b"\x08\0\0\0\1\2\3\4ping"
    guest.send(frame(1, GATEWAY, body[:2] + struct.pack(">H", model(body)) + body[4:]))
    assert guest.wait(1)[:1] == b"\0"
    discover = struct.pack(">BBBBIHH16s16s192s4s", 1, 1, 6, 0, 0x1234, 0, 0, b"", MAC, b"", b"\x63\x82\x53\x63")
    guest.send(frame(17, b"\xff" * 4, ports(67, discover + b"\x35\1\1\xff", 68), source=bytes(4)))
    offer = guest.wait(17)
    assert offer[8:16] == discover[:0] + b"\2\1\6\0" + b"\0\0\x12\x34"
    assert offer[24:28] == GUEST
    guest.gateway.close()


def test_udp_server() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        port = server.getsockname()[1]
        guest = Guest(f"127.0.0.1:{port}")
        guest.send(frame(17, GATEWAY, ports(port, b"question")))
        data, client = server.recvfrom(100)
        server.sendto(data + b" answered", client)
        assert guest.wait(17)[8:] == b"question answered"
        guest.gateway.close()


@pytest.mark.parametrize("allow", [True, False])
def test_tcp_server(allow: bool) -> None:
    """A connection, both directions, and its end; or nothing at all that reaches the server."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        guest = Guest(*([f"127.0.0.1:{port}"] if allow else ["127.0.0.1:1"]))
        guest.send(frame(6, GATEWAY, segment(port, 100, 0, 0x02)))
        if not allow:
            server.settimeout(0.2)
            guest.gateway.poll()
            with pytest.raises(TimeoutError):
                server.accept()
            assert guest.got == [] and guest.gateway.refused == 1
            guest.gateway.close()
            return
        answer = guest.wait(6)
        sequence, ack = struct.unpack_from(">II", answer, 4)
        assert (answer[13] & 0x12, ack) == (0x12, 101)
        guest.send(frame(6, GATEWAY, segment(port, 101, sequence + 1, 0x10)))
        guest.send(frame(6, GATEWAY, segment(port, 101, sequence + 1, 0x18, b"hello")))
        server.settimeout(10)
        connection = server.accept()[0]
        with connection:
            connection.settimeout(10)
            guest.gateway.poll()
            assert connection.recv(100) == b"hello"
            connection.sendall(b"world")
            while not (answer := guest.wait(6))[20:]:
                pass
            assert answer[20:] == b"world"
        guest.gateway.close()
