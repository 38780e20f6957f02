"""XenStore's socket: its file, many clients at once, and what a client may do to the others (nothing)."""

from __future__ import annotations

import os
import select
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hv.abi.io import xs_wire as xs
from hv.backends import xenstore_socket
from hv.backends.store import StoreBackend
from hv.backends.xenstore_socket import SocketService
from hv.core.xenstore import Decoder, Packet, Store, encode
from hv.errors import ConfigError


class Client:
    """A client whose service runs in this process, whenever the client waits."""

    def __init__(self, service: SocketService) -> None:
        self.service = service
        self.endpoint = socket.socket(socket.AF_UNIX)
        self.endpoint.connect(service.path)
        self.endpoint.setblocking(False)
        self.decoder = Decoder()
        self.packets: list[Packet] = []
        self.ended = False

    def send(self, *packets: Packet) -> None:
        self.endpoint.setblocking(True)
        self.endpoint.sendall(b"".join(map(encode, packets)))
        self.endpoint.setblocking(False)

    def receive(self) -> list[Packet]:
        """What comes, until nothing more does."""
        quiet = 0  # to accept takes a round, to answer another
        while quiet < 3:
            self.service.serve(0)
            try:
                data = self.endpoint.recv(65536)
            except BlockingIOError:
                quiet += 1
                continue
            except ConnectionResetError:
                data = b""
            if not data:
                self.ended = True
                break
            self.packets += self.decoder.feed(data)
        packets, self.packets = self.packets, []
        return packets

    def ask(self, kind: int, payload: bytes) -> bytes:
        self.send(Packet(kind, 0, 0, payload))
        (packet,) = self.receive()
        return packet.payload


@pytest.fixture
def service(tmp_path: Path) -> Iterator[SocketService]:
    with SocketService(StoreBackend(Store()), tmp_path / "socket") as service:
        yield service


def test_the_file(service: SocketService) -> None:
    status = os.stat(service.path)
    assert stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600
    assert os.listdir(os.path.dirname(service.path)) == ["socket"]
    service.close()
    assert not os.path.exists(service.path)


def test_a_socket_in_use_is_refused(service: SocketService) -> None:
    with pytest.raises(ConfigError, match="is in use by another service: stop that"):
        SocketService(StoreBackend(Store()), service.path)
    assert Client(service).ask(xs.XS_READ, b"/tool\0") == b""


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(os.fspath(path))
    stale.close()
    with SocketService(StoreBackend(Store()), path) as service:
        assert Client(service).ask(xs.XS_READ, b"/tool\0") == b""


def test_another_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is no socket: remove it"):
        SocketService(StoreBackend(Store()), path)
    with pytest.raises(ConfigError, match="cannot be made there: No such file"):
        SocketService(StoreBackend(Store()), tmp_path / "no" / "socket")
    assert path.read_text() == "precious"


def test_a_new_service_s_socket_is_not_removed_by_the_old_one(service: SocketService) -> None:
    os.unlink(service.path)
    with SocketService(StoreBackend(Store()), service.path) as second:
        service.close()
        assert os.path.exists(second.path)


def test_any_fragmentation(service: SocketService) -> None:
    client = Client(service)
    message = encode(Packet(xs.XS_WRITE, 7, 0, b"/k\0value"))
    for byte in message * 3:
        client.endpoint.send(bytes([byte]))
        service.serve(0)
    assert client.receive() == [Packet(xs.XS_WRITE, 7, 0, b"OK\0")] * 3


def test_many_clients_and_a_watch_between_them(service: SocketService) -> None:
    watcher, *clients = [Client(service) for _ in range(120)]
    watcher.send(Packet(xs.XS_WATCH, 1, 0, b"/k\0token\0"))
    assert [packet.payload for packet in watcher.receive()] == [b"OK\0", b"/k\0token\0"]
    for number, client in enumerate(clients):
        client.send(Packet(xs.XS_WRITE, number, 0, b"/k/%d\0" % number))
    answers = [client.receive() for client in clients]
    assert answers == [[Packet(xs.XS_WRITE, number, 0, b"OK\0")] for number in range(len(clients))]
    assert {packet.payload for packet in watcher.receive()} == {b"/k/%d\0token\0" % n for n in range(len(clients))}


def test_a_client_that_is_gone_leaves_nothing(service: SocketService) -> None:
    client, other = Client(service), Client(service)
    client.send(Packet(xs.XS_WATCH, 1, 0, b"/\0t\0"), Packet(xs.XS_TRANSACTION_START, 1, 0, b"\0"))
    number = client.receive()[-1].payload[:-1]
    client.send(Packet(xs.XS_WRITE, 1, int(number), b"/half\0"))
    client.receive()
    client.endpoint.close()
    service.serve(0)
    assert other.ask(xs.XS_DIRECTORY, b"/\0") == b"tool\0"
    assert not service.backend.store.pending_connections


def test_an_impossible_message_ends_only_its_client(service: SocketService) -> None:
    client, other = Client(service), Client(service)
    client.send(Packet(xs.XS_READ, 1, 0, b"/tool\0"), Packet(xs.XS_READ, 2, 0, b"/tool\0" * 1000))
    assert client.receive() == [Packet(xs.XS_READ, 1, 0, b"")] and client.ended
    assert other.ask(xs.XS_READ, b"/tool\0") == b""


def test_a_client_that_never_reads_is_not_asked_further(service: SocketService) -> None:
    service.backend.store.write("/long", b"x" * 4000)
    client, other = Client(service), Client(service)
    message = encode(Packet(xs.XS_READ, 0, 0, b"/long\0"))
    sent, count = True, 0
    while sent:
        _, sent, _ = select.select([], [client.endpoint], [], 0)
        if sent:
            count += client.endpoint.send(message) == len(message)
        service.serve(0)
        assert count < 50_000
    assert other.ask(xs.XS_READ, b"/tool\0") == b""
    got = 0
    while packets := client.receive():
        got += len(packets)
    assert got == count


def test_a_client_that_leaves_events_unread_is_dropped(
    service: SocketService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xenstore_socket, "MAX_UNREAD", 100_000)
    client, other = Client(service), Client(service)
    client.send(Packet(xs.XS_WATCH, 1, 0, b"/k\0" + b"t" * 3000 + b"\0"))
    client.receive()
    for number in range(400):
        assert other.ask(xs.XS_WRITE, b"/k/%d\0" % number) == b"OK\0"
    client.receive()
    assert client.ended


def test_too_many_clients_wait_until_some_leave(service: SocketService) -> None:
    import resource

    first = Client(service)
    assert first.ask(xs.XS_READ, b"/tool\0") == b""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    late = Client(service)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (late.endpoint.fileno() + 1, hard))
        for _ in range(3):
            service.serve(0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    late.send(Packet(xs.XS_READ, 1, 0, b"/tool\0"))
    assert late.receive() == []
    first.endpoint.close()
    service.serve(0)
    assert [packet.payload for packet in late.receive()] == [b""]
