"""The block backend against a frontend in Python: every operation, every mistake, every failure of the medium."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from frontend import FrontRing, frontend_state, plugged

import hv
from hv.backends.block import Answered, Block, Taken, Told
from hv.backends.image_file import ImageFile

READ, WRITE, BARRIER, FLUSH, RESERVED, DISCARD, INDIRECT = range(7)
OKAY, ERROR, UNSUPPORTED = 0, -1, -2
SECTORS = 2048
RING, PORT = 1, 3
DATA = 100  # first reference of data pages


def content(sector: int, count: int = 1) -> bytes:
    return b"".join(struct.pack("<Q", number) * 64 for number in range(sector, sector + count))


class Disk:
    """A disk of 1 MiB whose sectors hold their number, with a connected frontend."""

    def __init__(
        self, path: Path, *, read_only: bool = False, order: int = 0, queues: int = 1, persistent: bool = False
    ) -> None:
        path.write_bytes(content(0, SECTORS))
        self.path = path
        self.device = Block(ImageFile(str(path), read_only=read_only), "xvda", 51712, queues=queues)
        self.peer, self.nodes = plugged(self.device)
        self.rings: list[FrontRing] = []
        values = {"protocol": "x86_64-abi", "feature-persistent": str(int(persistent))}
        if order:
            values["ring-page-order"] = str(order)
        if queues > 1:
            values["multi-queue-num-queues"] = str(queues)
        for queue in range(queues):
            prefix = f"queue-{queue}/" if queues > 1 else ""
            refs = [RING + 16 * queue + i for i in range(1 << order)]
            self.rings.append(FrontRing([self.peer.grant(ref) for ref in refs], 112))
            names = [f"ring-ref{i}" for i in range(1 << order)] if order else ["ring-ref"]
            values |= {prefix + name: str(ref) for name, ref in zip(names, refs, strict=True)}
            values[f"{prefix}event-channel"] = str(PORT + queue)
        self.nodes.front_values |= values
        self.nodes.front_values["state"] = "3"
        self.device.frontend_changed()

    def ask(self, request: bytes, queue: int = 0) -> int:
        """The status of one request."""
        ring = self.rings[queue]
        ring.put(request)
        self.peer.handlers[PORT + queue]()
        response = ring.take(12)
        assert response is not None, self.nodes.errors
        identity, operation, status = struct.unpack("<QBxh", response)
        assert (identity, operation) == (0xABC, request[1] if request[0] == INDIRECT else request[0])
        return int(status)

    def move(self, operation: int, sector: int, *segments: tuple[int, int, int], queue: int = 0) -> int:
        return self.ask(request(operation, sector, *segments), queue)


def request(operation: int, sector: int, *segments: tuple[int, int, int], count: int | None = None) -> bytes:
    count = len(segments) if count is None else count
    head = struct.pack("<BBH4xQQ", operation, count, 0, 0xABC, sector)
    return head + b"".join(struct.pack("<IBB2x", *segment) for segment in segments)


def discard(sector: int, count: int, flag: int = 0) -> bytes:
    return struct.pack("<BBH4xQQQ", DISCARD, flag, 0, 0xABC, sector, count)


def indirect(operation: int, count: int, sector: int, *refs: int) -> bytes:
    refs = (*refs, *[0] * 8)[:8]
    return struct.pack("<BBH4xQQH2x8I", INDIRECT, operation, count, 0xABC, sector, 0, *refs)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk.raw")
    assert disk.nodes.states == ["2", "4"]
    yield disk
    frontend_state(disk.device, disk.nodes, 6)
    assert not disk.peer.leaks
    disk.device.close()


def test_what_stands_in_xenstore(disk: Disk) -> None:
    back = disk.nodes.back_values
    assert (back["sectors"], back["sector-size"], back["info"], back["mode"]) == ("2048", "512", "0", "w")
    assert back["feature-max-indirect-segments"] == "256" and back["feature-discard"] == "1"
    assert disk.device.frontend_keys() == {"virtual-device": "51712", "device-type": "disk"}


def test_read(disk: Disk) -> None:
    for ref in range(DATA, DATA + 11):
        disk.peer.grant(ref)
    assert disk.move(READ, 8, (DATA, 0, 7), (DATA + 1, 2, 3), (DATA + 2, 7, 7)) == OKAY
    assert disk.peer.pages[DATA] == content(8, 8)
    assert disk.peer.pages[DATA + 1] == bytes(1024) + content(16, 2) + bytes(2048)
    assert disk.peer.pages[DATA + 2] == bytes(3584) + content(18)
    assert disk.peer.dirty == {DATA, DATA + 1, DATA + 2}
    assert not any(disk.peer.mapped[ref] for ref in range(DATA, DATA + 3))
    assert disk.move(READ, SECTORS - 88, *((ref, 0, 7) for ref in range(DATA, DATA + 11))) == OKAY
    assert disk.peer.pages[DATA + 10] == content(SECTORS - 8, 8)


def test_write(disk: Disk) -> None:
    disk.peer.grant(DATA, b"a" * 4096, readonly=True)
    disk.peer.grant(DATA + 1, b"b" * 4096, readonly=True)
    assert disk.move(WRITE, 100, (DATA, 0, 0), (DATA + 1, 0, 7)) == OKAY
    assert disk.path.read_bytes()[100 * 512 : 110 * 512] == b"a" * 512 + b"b" * 4096 + content(109)


@pytest.mark.parametrize("operation", [BARRIER, FLUSH])
def test_ordered(operation: int, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush is on the medium when it is answered; a barrier with data has one before and one behind it."""
    calls: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: calls.append("sync"))
    disk.peer.grant(DATA, b"c" * 4096)
    for sector in (0, 2**64 - 1):  # of an empty one it says nothing: Linux gives -1
        calls.clear()
        assert disk.move(operation, sector) == OKAY
        assert "sync" in calls
    calls.clear()
    write = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda *arguments: calls.append("write") or write(*arguments))
    assert disk.move(operation, 5, (DATA, 0, 0)) == OKAY
    assert calls == ["sync", "write", "sync"]


def test_discard(disk: Disk) -> None:
    assert disk.ask(discard(8, 16)) == OKAY
    data = disk.path.read_bytes()
    assert data[8 * 512 : 24 * 512] == bytes(8192) and data[: 8 * 512] == content(0, 8) and len(data) == SECTORS * 512
    assert disk.ask(discard(0, 0)) == OKAY
    assert disk.ask(discard(0, 1, flag=1)) == UNSUPPORTED
    assert disk.ask(discard(SECTORS, 1)) == ERROR
    assert disk.ask(discard(1, 0xFFFFFFFFFFFFFFFF)) == ERROR


@pytest.mark.parametrize("count", [1, 12, 256])
def test_indirect(count: int, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk.raw")
    table = b"".join(struct.pack("<IBB2x", DATA + i, 0, 7) for i in range(count))
    disk.peer.grant(50, table, readonly=True)
    for i in range(count):
        disk.peer.grant(DATA + i)
    assert disk.ask(indirect(READ, count, 0, 50)) == OKAY
    assert b"".join(disk.peer.pages[DATA + i] for i in range(count)) == content(0, 8 * count)
    for i in range(count):
        disk.peer.grant(DATA + i, bytes([i]) * 4096)
    assert disk.ask(indirect(WRITE, count, 0, 50)) == OKAY
    assert disk.path.read_bytes()[: 4096 * count] == b"".join(bytes([i]) * 4096 for i in range(count))
    disk.device.detach()
    assert not disk.peer.leaks


BAD = {
    "no segments": request(READ, 0),
    "no segments to write": request(WRITE, 0),
    "twelve segments": request(READ, 0, *[(DATA, 0, 0)] * 11, count=12),
    "255 segments": request(READ, 0, *[(DATA, 0, 0)] * 11, count=255),
    "last before first": request(READ, 0, (DATA, 3, 2)),
    "beyond the page": request(READ, 0, (DATA, 0, 8)),
    "far beyond the page": request(READ, 0, (DATA, 255, 255)),
    "beyond the end": request(READ, SECTORS, (DATA, 0, 0)),
    "over the end": request(WRITE, SECTORS - 1, (DATA, 0, 1)),
    "sector 2^64 - 1": request(READ, 0xFFFFFFFFFFFFFFFF, (DATA, 0, 1)),
    "sector 2^63": request(WRITE, 1 << 63, (DATA, 0, 0)),
    "no such grant": request(READ, 0, (DATA, 0, 7), (9999, 0, 0)),
    "grant 2^32 - 1": request(WRITE, 0, (0xFFFFFFFF, 0, 0)),
    "read into a read-only grant": request(READ, 0, (99, 0, 0)),
    "indirect flush": indirect(FLUSH, 1, 0, 50),
    "indirect indirect": indirect(INDIRECT, 1, 0, 50),
    "indirect of none": indirect(READ, 0, 0, 50),
    "indirect of 257": indirect(READ, 257, 0, 50),
    "indirect of 65535": indirect(READ, 65535, 0, 50),
    "indirect by no grant": indirect(READ, 1, 0, 51),
    "indirect with a bad segment": indirect(READ, 2, 0, 50),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests(name: str, disk: Disk) -> None:
    """An error, nothing read or written, and the next request is served."""
    before = disk.path.read_bytes()
    disk.peer.grant(DATA, b"x" * 4096)
    disk.peer.grant(99, readonly=True)
    disk.peer.grant(50, struct.pack("<IBB2x", DATA, 0, 0) + struct.pack("<IBB2x", DATA, 9, 1))
    assert disk.ask(BAD[name]) == ERROR
    assert disk.path.read_bytes() == before
    assert disk.peer.pages[DATA] == b"x" * 4096
    assert disk.move(READ, 1, (DATA, 0, 0)) == OKAY


@pytest.mark.parametrize("operation", [RESERVED, 7, 100, 255])
def test_unknown_operations(operation: int, disk: Disk) -> None:
    assert disk.ask(request(operation, 0, (DATA, 0, 0))) == UNSUPPORTED


def test_read_only(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk.raw", read_only=True)
    disk.peer.grant(DATA, b"x" * 4096)
    assert disk.nodes.back_values["info"] == "4" and "feature-discard" not in disk.nodes.back_values
    for operation in (WRITE, BARRIER, FLUSH):
        assert disk.move(operation, 0, (DATA, 0, 0)) == ERROR
    assert disk.ask(discard(0, 1)) == UNSUPPORTED
    assert disk.move(READ, 0, (DATA, 0, 0)) == OKAY
    assert disk.path.read_bytes() == content(0, SECTORS)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_failures_of_the_medium_reach_the_guest(number: int, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    disk.peer.grant(DATA)
    monkeypatch.setattr(os, "preadv", fails)
    monkeypatch.setattr(os, "pwritev", fails)
    assert disk.move(READ, 0, (DATA, 0, 0)) == ERROR
    assert disk.move(WRITE, 0, (DATA, 0, 0)) == ERROR
    monkeypatch.undo()
    monkeypatch.setattr(os, "fdatasync", fails)
    assert disk.move(FLUSH, 0) == ERROR
    monkeypatch.undo()
    assert disk.move(READ, 0, (DATA, 0, 0)) == OKAY


def test_disk_full(tmp_path: Path) -> None:
    """A real full medium: RLIMIT_FSIZE makes the file impossible to grow, as a full file system does."""
    code = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from hv.backends.image_file import ImageFile
image = ImageFile(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
image.write(0, [memoryview(bytes(512))])
try:
    image.write(8, [memoryview(bytes(512))])
except OSError as error:
    print(error.strerror)
"""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 20)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stdout == "File too large\n", done.stderr


def test_image_that_shrinks(disk: Disk) -> None:
    os.truncate(disk.path, 512)
    disk.peer.grant(DATA)
    assert disk.move(READ, 0, (DATA, 0, 1)) == ERROR
    assert disk.move(READ, 0, (DATA, 0, 0)) == OKAY


def test_short_transfers_are_finished(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.preadv
    monkeypatch.setattr(os, "preadv", lambda descriptor, views, at: read(descriptor, [views[0][:100]], at))
    for ref in (DATA, DATA + 1):
        disk.peer.grant(ref)
    assert disk.move(READ, 3, (DATA, 0, 7), (DATA + 1, 0, 7)) == OKAY
    assert disk.peer.pages[DATA] + disk.peer.pages[DATA + 1] == content(3, 16)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_ring_of_several_pages(order: int, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk.raw", order=order)
    disk.peer.grant(DATA)
    for lap in range(3 * disk.rings[0].size):
        assert disk.move(READ, lap % SECTORS, (DATA, 0, 0)) == OKAY
        assert disk.peer.pages[DATA][:512] == content(lap % SECTORS)


@pytest.mark.parametrize("queues", [2, 4])
def test_several_queues(queues: int, tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk.raw", queues=queues)
    disk.peer.grant(DATA)
    for queue in range(queues):
        assert disk.move(READ, queue, (DATA, 0, 0), queue=queue) == OKAY
        assert disk.peer.pages[DATA][:512] == content(queue)
    disk.device.detach()
    assert not disk.peer.leaks


def test_persistent_grants_are_mapped_once_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hv.backends.block.MAX_PERSISTENT", 3)
    disk = Disk(tmp_path / "disk.raw", persistent=True)
    for ref in range(DATA, DATA + 5):
        disk.peer.grant(ref)
    for _ in range(10):
        for ref in range(DATA, DATA + 5):
            assert disk.move(READ, 0, (ref, 0, 0)) == OKAY
            assert disk.move(WRITE, 0, (ref, 0, 0)) == OKAY
    assert [disk.peer.mapped[ref] for ref in range(DATA, DATA + 5)] == [1, 1, 1, 0, 0]
    frontend_state(disk.device, disk.nodes, 5)
    assert not disk.peer.leaks


def test_persistent_grants_only_where_they_were_offered(tmp_path: Path) -> None:
    """Linux writes that it can, whatever the backend has said, and uses a reference for another page then."""
    path = tmp_path / "disk.raw"
    path.write_bytes(content(0, SECTORS))
    device = Block(ImageFile(str(path)), "xvda", 51712)
    device.persistent = False
    peer, nodes = plugged(device)
    assert nodes.back_values["feature-persistent"] == "0"
    ring = FrontRing([peer.grant(RING)], 112)
    nodes.front_values |= {"ring-ref": str(RING), "event-channel": str(PORT), "feature-persistent": "1"}
    frontend_state(device, nodes, 3)
    for sector in (1, 2):
        page = peer.grant(DATA)
        ring.put(request(READ, sector, (DATA, 0, 0)))
        peer.handlers[PORT]()
        assert page[:512] == content(sector)
        assert peer.mapped[DATA] == 0


CONNECTIONS = {
    "protocol": "x86_32-abi",
    "ring-ref": "9",
    "event-channel": "99",
    "ring-page-order": "5",
    "multi-queue-num-queues": "2",
    "feature-persistent": "yes",
}


@pytest.mark.parametrize("key", CONNECTIONS)
def test_connections_that_can_not_be(key: str, disk: Disk) -> None:
    for state in (5, 6, 1):
        frontend_state(disk.device, disk.nodes, state)
    disk.nodes.front_values[key] = CONNECTIONS[key]
    frontend_state(disk.device, disk.nodes, 3)
    assert disk.nodes.states[-1] == "5" and disk.nodes.errors
    assert not disk.peer.leaks


@pytest.mark.parametrize("produced", [40, 0x80000000])
def test_corrupt_index_costs_the_device_only(produced: int, disk: Disk) -> None:
    disk.rings[0].set_word(0, produced)
    disk.peer.handlers[PORT]()
    assert disk.nodes.states == ["2", "4", "5"]
    assert "req_prod" in disk.nodes.errors[0]
    assert not disk.peer.leaks


def test_killed_backend_answers_after_it_is_back(disk: Disk) -> None:
    """What came in between is served from where the old one stopped."""
    disk.peer.grant(DATA)
    assert disk.move(READ, 1, (DATA, 0, 0)) == OKAY
    disk.device.kill()
    assert not disk.peer.leaks
    disk.rings[0].put(request(READ, 2, (DATA, 0, 0)))
    disk.device.reconnect()
    assert struct.unpack("<QBxh", disk.rings[0].take(12) or b"") == (0xABC, READ, OKAY)
    assert disk.peer.pages[DATA][:512] == content(2)


def test_observers_see_requests_and_responses(disk: Disk) -> None:
    seen: list[tuple[object, ...]] = []
    disk.device.observers.append(lambda step: seen.append((type(step), *step)))
    disk.peer.grant(DATA)
    disk.move(READ, 9, (DATA, 0, 7))
    disk.move(READ, SECTORS, (DATA, 0, 7))
    disk.ask(discard(8, 16))
    disk.ask(indirect(WRITE, 3, 5, 50))  # by no grant
    assert seen == [
        (Taken, 0xABC, READ, 9, 1, False), (Answered, 0xABC, READ, 8, OKAY), (Told, 1),
        (Taken, 0xABC, READ, SECTORS, 1, False), (Answered, 0xABC, READ, 0, ERROR), (Told, 1),
        (Taken, 0xABC, DISCARD, 8, 16, False), (Answered, 0xABC, DISCARD, 16, OKAY), (Told, 1),
        (Taken, 0xABC, WRITE, 5, 3, True), (Answered, 0xABC, WRITE, 0, ERROR), (Told, 1),
    ]  # fmt: skip


def test_image_locks(tmp_path: Path) -> None:
    """One writer or several readers, in one process and across processes."""
    path = tmp_path / "image"
    path.write_bytes(bytes(4096))
    code = "import sys; from hv.backends import image_file as i; i.ImageFile(sys.argv[1], read_only=sys.argv[2] == 'r')"

    def elsewhere(mode: str) -> bool:
        return subprocess.run([sys.executable, "-c", code, path, mode], capture_output=True).returncode == 0

    writer = ImageFile(str(path))
    for read_only in (False, True):
        with pytest.raises(hv.ConfigError, match="is in use by another disk"):
            ImageFile(str(path), read_only=read_only)
    assert not elsewhere("w") and not elsewhere("r")
    writer.close()
    readers = [ImageFile(str(path), read_only=True) for _ in range(2)]
    assert elsewhere("r") and not elsewhere("w")
    with pytest.raises(hv.ConfigError):
        ImageFile(str(path))
    for reader in readers:
        reader.close()
    assert elsewhere("w")


IMAGES = {
    b"QFI\xfb" + bytes(600): "this is a qcow2 image, and hv reads raw images: qemu-img convert -O raw",
    b"conectix" + bytes(600): "this is a vhd image",
    b"": "the disk image is empty: truncate",
    b"x" * 511: "the disk image is empty",
}


@pytest.mark.parametrize("data", IMAGES)
def test_images_that_are_none(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(data)
    with pytest.raises(hv.ConfigError) as error:
        ImageFile(str(path))
    assert IMAGES[data] in str(error.value)
    if len(data) > 512:
        ImageFile(str(path), raw=True).close()


def test_no_such_image(tmp_path: Path) -> None:
    with pytest.raises(hv.ConfigError, match="No such file"):
        ImageFile(str(tmp_path / "none"))
    with pytest.raises(hv.ConfigError, match="Is a directory"):
        ImageFile(str(tmp_path))

