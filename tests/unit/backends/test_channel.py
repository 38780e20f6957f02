"""A channel's host end: sockets and pseudo-terminals, who is slow, who comes late, who leaves."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from frontend import frontend_state, plugged

import hv
from hv.abi.io.console import xencons_interface
from hv.backends.channel import LIMIT, Channel
from hv.machine.xl_devices import ChannelSpec, channel

PORT, RING = 3, 7


class Guest:
    """The frontend of a channel that is connected."""

    def __init__(self, device: Channel) -> None:
        self.device = device
        self.peer, self.nodes = plugged(device)
        self.ring = xencons_interface.from_buffer(self.peer.grant(RING))
        self.nodes.front_values |= {"ring-ref": str(RING), "port": str(PORT)}
        frontend_state(device, self.nodes, 4)

    def say(self, data: bytes) -> None:
        for at in range(0, len(data), 1024):
            for byte in data[at : at + 1024]:
                self.ring.out[self.ring.out_prod % 2048] = byte
                self.ring.out_prod += 1
            self.peer.handlers[PORT]()

    def hear(self) -> bytes:
        heard = bytearray()
        while self.ring.in_cons != self.ring.in_prod:
            while self.ring.in_cons != self.ring.in_prod:
                heard.append(self.ring.in_[self.ring.in_cons % 1024])
                self.ring.in_cons += 1
            self.peer.handlers[PORT]()
        return bytes(heard)


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    device = Channel(1, "org.example.agent", str(tmp_path / "socket"))
    yield Guest(device)
    device.detach()
    device.close()


def client(guest: Guest) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(guest.device.path or "")
    settle(guest)
    return connected


def settle(guest: Guest) -> None:
    """What the machine does with its inputs: as long as there is something to do, do it."""
    while select.select([guest.device], [], [], 0)[0]:
        before = guest.device.waiting, guest.peer.notified[:]
        guest.device.poll()
        if (guest.device.waiting, guest.peer.notified) == before:
            break


def test_what_stands_in_xenstore(guest: Guest) -> None:
    front, back = guest.device.frontend_keys(), guest.device.backend_keys()
    assert (front["name"], front["type"], front["output"]) == ("org.example.agent", "ioemu", "chardev:libxl-channel1")
    assert (back["name"], back["connection"], back["path"]) == ("org.example.agent", "socket", guest.device.path)
    assert guest.nodes.states == ["2", "4"]


def test_both_directions(guest: Guest) -> None:
    with client(guest) as outside:
        guest.say(b"from the guest")
        assert outside.recv(100) == b"from the guest"
        outside.send(b"from outside")
        settle(guest)
        assert guest.hear() == b"from outside"


def test_one_client_after_the_other(guest: Guest) -> None:
    """What is said between them is the next one's."""
    for turn in range(50):
        guest.say(b"%d" % turn)
        with client(guest) as outside:
            assert outside.recv(100) == b"%d" % turn
        settle(guest)


def test_a_client_that_does_not_read(guest: Guest) -> None:
    """The guest is never held up; of more than LIMIT the oldest goes, in order."""
    with client(guest) as outside:
        data = b"".join(b"%7d\n" % i for i in range((LIMIT + (1 << 19)) // 8))
        guest.say(data)
        received = bytearray()
        outside.setblocking(False)
        while select.select([guest.device], [], [], 0)[0] or select.select([outside], [], [], 0)[0]:
            try:
                received += outside.recv(1 << 16)
            except BlockingIOError:
                pass
            guest.device.poll()
        assert received.endswith(data[-LIMIT:])
        assert data.startswith(received[: 1 << 16])


def test_a_guest_that_does_not_read(guest: Guest) -> None:
    """What it has not read stays where it comes from, beyond LIMIT; nothing spins, nothing is lost."""
    with client(guest) as outside:
        outside.setblocking(False)
        sent = 0
        for _ in range(10_000):
            try:
                sent += outside.send(bytes(4096))
            except BlockingIOError:
                if not select.select([guest.device], [], [], 0)[0]:
                    break
            guest.device.poll()
        assert LIMIT <= guest.device.waiting < LIMIT + 8192
        heard = 0
        while more := guest.hear():
            heard += len(more)
            settle(guest)
        assert heard == sent


def test_pty() -> None:
    """Programs come and go. The kernel passes a terminal's bytes on in its own time."""
    device = Channel(2, "terminal")
    try:
        guest = Guest(device)
        assert device.frontend_keys()["tty"] == device.tty and device.frontend_keys()["output"] == "pty"
        guest.say(b"early\n")
        said = b"early\nline\n"
        for _ in range(3):
            terminal = os.open(device.tty, os.O_RDWR | os.O_NOCTTY)
            guest.say(b"line\n")
            read, heard = b"", b""
            while len(read) < len(said):
                read += os.read(terminal, 100)
            os.write(terminal, b"typed\n")
            while len(heard) < len(b"typed\n"):
                assert select.select([device], [], [], 10)[0]
                settle(guest)
                heard += guest.hear()
            assert (read, heard) == (said, b"typed\n")
            os.close(terminal)
            said = b"line\n"
    finally:
        device.detach()
        device.close()


def test_a_path_that_is_taken(tmp_path: Path) -> None:
    first = Channel(1, "a", str(tmp_path / "s"))
    with pytest.raises(hv.ConfigError, match="in use by another service"):
        Channel(2, "b", str(tmp_path / "s"))
    first.close()
    assert not (tmp_path / "s").exists()


def test_nothing_stays_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in (str(tmp_path / "s"), None):
        for number in range(100):
            device = Channel(number, "x", path)
            guest = Guest(device)
            outside = client(guest) if path else None
            device.detach()
            device.close()
            device.close()
            if outside:
                outside.close()
    assert len(os.listdir("/proc/self/fd")) == before


SPECS = {
    "connection=pty,name=a": ChannelSpec(name="a"),
    " connection = socket , path = /tmp/s , name = org.x.1 ": ChannelSpec(name="org.x.1", path="/tmp/s"),
    "connection=pty,name=a,path=/ignored,backend=0,other=1": ChannelSpec(name="a"),
    "name=a": "its connection is None",
    "connection=tcp,name=a": "its connection is 'tcp'",
    "connection=pty": "it has no name",
    "connection=socket,name=a": "a socket has a path",
    "connection=pty,name": "'name' is no setting",
    "connection=pty,name=a=b": "is no setting",
    "": "is no setting",
}


@pytest.mark.parametrize("text", SPECS)
def test_specifications(text: str) -> None:
    expected = SPECS[text]
    if isinstance(expected, str):
        with pytest.raises(hv.ConfigError, match=expected):
            channel(text, print)
    else:
        assert channel(text, print) == expected


