"""Debian's own xenstored 4.17, without Xen: what hv's store is compared with."""

from __future__ import annotations

import functools
import mmap
import os
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hv.abi.io.xs_wire import xenstore_domain_interface
from hv.core.xenstore import Decoder, Packet, encode

# xenstored's libraries, and what those need.
PACKAGES = (
    "libxenstore4", "libxentoolcore1", "libxentoollog1", "libxenevtchn1", "libxengnttab1", "libxencall1",
    "libxenforeignmemory1", "libxendevicemodel1", "libxenmisc4.17", "libxenhypfs1", "libsystemd0",
)  # fmt: skip


@functools.cache
def _shim(include: Path) -> bytes:
    """The library that makes it run without Xen."""
    source = Path(__file__).with_name("xenstored_shim.c")
    with tempfile.TemporaryDirectory() as folder:
        shim = Path(folder) / "shim.so"
        compiler = [os.environ.get("CC", "cc"), "-O1", "-shared", "-fPIC", "-I", include, source, "-o", shim, "-ldl"]
        subprocess.run(compiler, check=True)
        return shim.read_bytes()


class Xenstored:
    """The daemon in `folder`, whose files it uses."""

    def __init__(self, folder: Path, package: Callable[[str], Path]) -> None:
        shim = folder / "shim.so"
        shim.write_bytes(_shim(package("libxen-dev") / "usr/include"))
        utils = package("xen-utils-4.17") / "usr/lib/xen-4.17"
        folders = [place for name in PACKAGES for place in package(name).glob("**/x86_64-linux-gnu") if place.is_dir()]
        environment = {
            **os.environ,
            "LD_PRELOAD": str(shim),
            "LD_LIBRARY_PATH": ":".join(map(str, [*folders, utils / "lib/x86_64-linux-gnu"])),
            "XENSTORED_RUNDIR": str(folder),
        }
        self.path = folder / "socket"
        self.process = subprocess.Popen([utils / "bin/xenstored", "-N"], cwd=folder, env=environment)
        deadline = time.monotonic() + 20
        while not self.path.exists() or self.process.poll() is not None:
            assert self.process.poll() is None and time.monotonic() < deadline, "xenstored does not start"
            time.sleep(0.01)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class SocketPeer:
    """A client of a service's socket."""

    def __init__(self, path: Path) -> None:
        self._endpoint = socket.socket(socket.AF_UNIX)
        self._endpoint.connect(os.fspath(path))
        self._endpoint.settimeout(10)
        self._decoder = Decoder()
        self._packets: list[Packet] = []

    def ask(self, packet: Packet) -> list[Packet]:
        """Send a request; everything that comes up to its reply."""
        self._endpoint.sendall(encode(packet))
        while True:
            received = list(self._decoder.feed(self._endpoint.recv(65536)))
            self._packets += received
            if any(p.req_id == packet.req_id and p.type != 15 for p in received):
                packets, self._packets = self._packets, []
                return packets

    def close(self) -> None:
        self._endpoint.close()


class RingPeer:
    """A guest of the daemon: its ring page is a file. The daemon looks at it whenever anybody else asks something."""

    def __init__(self, folder: Path, domid: int, poke: Callable[[], None]) -> None:
        with open(folder / f"ring.{domid}", "r+b") as file:
            self.page = mmap.mmap(file.fileno(), 4096)
        self.poke = poke
        self._decoder = Decoder()

    def ask(self, packet: Packet) -> list[Packet]:
        """As `SocketPeer.ask`. A guest that writes much is slowed down by the daemon: then it takes a while."""
        self._put(encode(packet))
        packets: list[Packet] = []
        deadline = time.monotonic() + 20
        while not any(p.req_id == packet.req_id and p.type != 15 for p in packets):
            self.poke()
            packets += self._decoder.feed(self._take())
            assert time.monotonic() < deadline, f"no reply to {packet}"
        return packets

    def _index(self, name: str, value: int | None = None) -> int:
        offset: int = getattr(xenstore_domain_interface, name).offset
        if value is not None:
            struct.pack_into("<I", self.page, offset, value & 0xFFFFFFFF)
        number: int = struct.unpack_from("<I", self.page, offset)[0]
        return number

    def _put(self, data: bytes) -> None:
        producer = self._index("req_prod")
        for count, byte in enumerate(data):
            self.page[(producer + count) % 1024] = byte
        self._index("req_prod", producer + len(data))

    def _take(self) -> bytes:
        consumer, producer = self._index("rsp_cons"), self._index("rsp_prod")
        data = bytes(self.page[1024 + (consumer + n) % 1024] for n in range((producer - consumer) & 0xFFFFFFFF))
        self._index("rsp_cons", producer)
        return data
