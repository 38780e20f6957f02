"""The gateway: what passes its filter, and real servers on the host's loopback through libslirp."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_packet import model

import hv
from hv.backends.forward import parse
from hv.backends.gateway import Gateway, allowed
from hv.backends.packet import Packet
from hv.backends.switch import Switch

pytestmark = pytest.mark.usefixtures("libslirp")
GUEST, OTHER, GATEWAY, DNS = (bytes((10, 0, 2, last)) for last in (15, 16, 2, 3))
ELSEWHERE = bytes((8, 8, 8, 8))
MAC = bytes.fromhex("00163e000001")


def frame(protocol: int, target: bytes, payload: bytes, *, fragment: int = 0, source: bytes = GUEST) -> bytes:
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, fragment, 64, protocol, 0, source, target)
    header = header[:10] + struct.pack(">H", model(header)) + header[12:]
    return b"\x52\x55\x0a\0\2\2" + MAC + b"\x08\0" + header + payload


def ports(target: int, payload: bytes = b"", source: int = 4000) -> bytes:
    return struct.pack(">HHHH", source, target, 8 + len(payload), 0) + payload


def segment(target: int, sequence: int, ack: int, flags: int, payload: bytes = b"", source: int = 4000) -> bytes:
    body = struct.pack(">HHIIBBHHH", source, target, sequence, ack, 0x50, flags, 8192, 0, 0) + payload
    pseudo = GUEST + GATEWAY + struct.pack(">BBH", 0, 6, len(body))
    return body[:16] + struct.pack(">H", model(pseudo + body)) + body[18:]


PASSES = {
    "arp": (b"\xff" * 6 + MAC + b"\x08\x06" + bytes(28), True),
    "short arp": (b"\xff" * 6 + MAC + b"\x08\x06" + bytes(27), False),
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
    "not for the gateway": (b"\2" * 6 + frame(6, GATEWAY, segment(8080, 0, 0, 2))[6:], False),
    "from a forwarded port": (frame(6, GATEWAY, segment(9999, 1, 1, 0x10, source=22)), True),
    "its reset": (frame(6, GATEWAY, segment(9999, 1, 1, 4, source=22)), True),
    "its answer to a connection": (frame(6, GATEWAY, segment(9999, 1, 1, 0x12, source=22)), True),
    "a connection from a forwarded port": (frame(6, GATEWAY, segment(9999, 1, 1, 2, source=22)), False),
    "a connection from it to a server": (frame(6, GATEWAY, segment(8080, 1, 1, 2, source=22)), True),
    "half a header from it": (frame(6, GATEWAY, segment(9999, 1, 1, 2, source=22)[:12]), False),
    "another guest, the same port": (frame(6, GATEWAY, segment(9999, 1, 1, 0x10, source=22), source=OTHER), False),
    "udp from a forwarded port, unasked": (frame(17, GATEWAY, ports(9999, source=53)), False),
    "udp from the tcp one": (frame(17, GATEWAY, ports(9999, source=22)), False),
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    forward = [f"{free_port()}-:22", f"udp::{free_port()}-:53"]
    gateway = Gateway(Switch("s"), ["127.0.0.1:8080", "192.0.2.1:25"], forward)
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

    def __init__(self, *allow: str, forward: tuple[str, ...] = ()) -> None:
        self.switch = Switch("s")
        self.got: list[bytes] = []
        self.switch.plug(self)
        self.gateway = Gateway(self.switch, allow, forward)

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


def hello_and_world(guest: Guest, stream: socket.socket) -> None:
    """What the guest has sent arrives at the host's end of a connection, and the answer at the guest's."""
    guest.gateway.poll()
    assert stream.recv(100) == b"hello"
    stream.sendall(b"world")
    while not (answer := guest.wait(6))[20:]:
        pass
    assert answer[20:] == b"world"


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
            answer = guest.wait(6)
            assert struct.unpack_from(">II", answer, 4) == (0, 101) and answer[13] == 0x14  # reset: refused
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
            hello_and_world(guest, connection)
        guest.gateway.close()


# --- what is refused is answered


def unreachable(code: int) -> tuple[int, int]:
    return 3, code


REFUSALS = {
    "tcp": (PASSES["another port"][0], "reset"),
    "tcp elsewhere": (PASSES["the same port elsewhere"][0], "reset"),
    "tcp to the host's loopback": (PASSES["loopback itself"][0], None),  # no address of a cable
    "an unknown connection": (frame(6, GATEWAY, segment(8081, 5, 77, 0x10, b"x")), "reset at 77"),
    "a reset": (frame(6, GATEWAY, segment(8081, 5, 77, 0x04)), None),
    "dns": (PASSES["dns"][0], unreachable(3)),
    "dns elsewhere": (frame(17, ELSEWHERE, ports(53, b"question")), unreachable(3)),
    "tftp": (PASSES["tftp"][0], unreachable(3)),
    "ping elsewhere": (PASSES["ping elsewhere"][0], unreachable(13)),
    "another protocol": (PASSES["another protocol"][0], unreachable(13)),
    "icmp redirect": (PASSES["icmp redirect"][0], None),
    "an unreachable": (frame(1, GATEWAY, b"\x03\x03" + bytes(30)), None),
    "a first fragment": (PASSES["a first fragment"][0], None),
    "a later fragment": (PASSES["a later fragment"][0], None),
    "to everybody": (frame(17, b"\xff" * 4, ports(5000)), None),
    "to the subnet": (frame(17, bytes((10, 0, 2, 255)), ports(5000)), None),
    "to a group": (frame(17, bytes((224, 0, 0, 251)), ports(5353)), None),
    "from nobody": (frame(17, ELSEWHERE, ports(53), source=bytes(4)), None),
    "from a group": (frame(17, ELSEWHERE, ports(53), source=bytes((224, 0, 0, 1))), None),
    "half a header": (frame(6, ELSEWHERE, segment(80, 0, 0, 2)[:12]), None),
    "not for the gateway": (PASSES["not for the gateway"][0], None),
    "ipv6": (PASSES["ipv6"][0], None),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(name: str) -> None:
    """A reset or an ICMP error from whom the packet was for; its checksums are right; or nothing."""
    sent, expected = REFUSALS[name]
    guest = Guest("127.0.0.1:8080")
    guest.send(sent)
    guest.gateway.close()
    assert guest.gateway.refused == 1
    if expected is None:
        assert guest.got == []
        return
    (answer,) = guest.got
    assert (answer[:6], answer[6:12]) == (sent[6:12], sent[:6])
    assert (answer[26:30], answer[30:34]) == (sent[30:34], sent[26:30])
    assert model(answer[14:34]) == 0 and len(answer) <= len(sent) + 28
    body = answer[34:]
    if isinstance(expected, tuple):
        assert tuple(body[:2]) == expected and model(body) == 0
        assert body[8:] == sent[14 : 14 + len(body) - 8]
        return
    assert body[:4] == sent[36:38] + sent[34:36]
    assert model(answer[26:34] + struct.pack(">BBH", 0, 6, len(body)) + body) == 0
    assert (body[13], body[4:8]) == ((4, struct.pack(">I", 77)) if "at 77" in expected else (0x14, bytes(4)))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(PASSES)), st.integers(0, 80), st.binary(max_size=24), st.integers(0, 3000), st.data())
def test_any_frame(name: str, at: int, patch: bytes, length: int, data: st.DataObject) -> None:
    """Frames that are nearly right, some longer or cut off: whatever passes, the stack lives; answers are frames."""
    whole = bytearray(PASSES[name][0].ljust(length, b"\0"))
    whole[at : at + len(patch)] = patch
    guest = Guest("127.0.0.1:8080", "192.0.2.1:25")
    gso = data.draw(st.sampled_from([0, 0, 1, 500]))
    guest.switch.forward(guest, Packet(bytes(whole[: data.draw(st.integers(14, 3100))]).ljust(14, b"\0"), gso > 0, gso))
    guest.gateway.poll()
    assert all(len(answer) >= 14 for answer in guest.got)
    guest.gateway.close()


# --- forwarded ports

NO_FORWARDS = ["", "22", "2222:22", "-:22", "0-:22", "2222-:0", "70000-:22", "icmp::1-:2", "1.2.3:22-:22", "tcp:x:1-:2"]


@pytest.mark.parametrize("text", NO_FORWARDS)
def test_no_forwards(text: str) -> None:
    with pytest.raises(hv.ConfigError):
        Gateway(Switch("s"), (), [text])


def test_a_port_in_use_is_no_forward() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(hv.ConfigError, match="can not listen"):
        Gateway(Switch("s"), (), [f"{server.getsockname()[1]}-:22"])


FORWARDS = [
    ("2222-:22", 6, ("127.0.0.1", 2222), ("10.0.2.15", 22)),
    ("udp:2222-10.0.2.16:22", 17, ("127.0.0.1", 2222), ("10.0.2.16", 22)),
    ("tcp:0.0.0.0:80-:8080", 6, ("0.0.0.0", 80), ("10.0.2.15", 8080)),
    ("tcp::80-:8080", 6, ("127.0.0.1", 80), ("10.0.2.15", 8080)),
]


@pytest.mark.parametrize(("text", "protocol", "host", "inside"), FORWARDS)
def test_forward_syntax(text: str, protocol: int, host: tuple[str, int], inside: tuple[str, int]) -> None:
    one = parse(text, GUEST)
    assert one.protocol == protocol
    assert [(socket.inet_ntoa(where), port) for where, port in (one.host, one.guest)] == [host, inside]


def test_tcp_forward() -> None:
    """A client on the host's loopback reaches a guest's port; the guest can open nothing through it."""
    port = free_port()
    guest = Guest(forward=(f"{port}-:22",))
    assert not guest.gateway.busy
    with socket.create_connection(("127.0.0.1", port)) as client:
        asked = guest.wait(6)
        source, target, sequence = struct.unpack_from(">HHI", asked)
        assert (target, asked[13]) == (22, 2)
        guest.send(frame(6, GATEWAY, segment(source, 500, sequence + 1, 0x12, source=22)))
        guest.send(frame(6, GATEWAY, segment(source, 501, sequence + 1, 0x18, b"hello", source=22)))
        client.settimeout(10)
        hello_and_world(guest, client)
    guest.gateway.close()


def test_udp_forward() -> None:
    """A guest may answer who has sent to it, and nobody else on the host."""
    port = free_port()
    guest = Guest(forward=(f"udp::{port}-:53",))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        other.bind(("127.0.0.1", 0))
        client.bind(("127.0.0.1", 0))
        client.sendto(b"question", ("127.0.0.1", port))
        asked = guest.wait(17)
        assert asked[8:] == b"question"
        (source,) = struct.unpack_from(">H", asked)
        for target in (other.getsockname()[1], source):
            guest.send(frame(17, GATEWAY, ports(target, b"answer", source=53)))
        assert guest.gateway.refused == 1
        for one in (client, other):
            one.settimeout(10 if one is client else 0.1)
        assert client.recv(100) == b"answer"
        with pytest.raises(TimeoutError):
            other.recv(100)
    guest.gateway.close()
