"""The file behind a disk: opened, locked, read and written without going through Python's buffers.

Rules:

1. A writable image belongs to one disk, on the whole host: whoever else opens it, to write or to read, is refused, and
   the other way round. Several may read one image. The locks are those of QEMU (block/file-posix.c): a lock on byte
   100 + n says "I do n", one on byte 200 + n "nobody else may do n". So QEMU and its tools keep out too.
2. What `flush` has returned from is on the medium: it survives the end of the process and, as far as the disk is
   honest, of the host.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Callable

from hv.errors import ConfigError

SECTOR = 512
MAGICS = {b"QFI\xfb": "qcow2", b"conectix": "vhd", b"QED\0": "qed", b"KDMV": "vmdk", b"vhdxfile": "vhdx"}
DOES, ALONE = 100, 200
READS, WRITES, RESIZES = 0, 1, 3
_FLOCK = struct.Struct("hhxxxxqqixxxx")  # l_type, l_whence, l_start, l_len, l_pid
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
_MOST = os.sysconf("SC_IOV_MAX")
_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class ImageFile:
    """A raw image. `sectors` of 512 bytes; what is behind the last whole one is not used."""

    def __init__(self, path: str, *, read_only: bool = False, raw: bool = False) -> None:
        """`raw`: it is, even if it begins as an image of another format does. ConfigError."""
        self.path = path
        self.read_only = read_only
        try:
            self._descriptor = os.open(path, (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC)
        except OSError as error:
            remedy = ": open it read-only (r)" if isinstance(error, PermissionError) and not read_only else ""
            raise ConfigError(f"{path}: the disk image cannot be opened: {error.strerror}{remedy}") from None
        try:
            self._check(raw)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _check(self, raw: bool) -> None:
        self._lock()
        head = b"" if raw else os.pread(self._descriptor, 8, 0)
        for magic, name in MAGICS.items():
            if head.startswith(magic):
                raise ConfigError(
                    f"{self.path}: this is a {name} image, and hv reads raw images: "
                    f"qemu-img convert -O raw {self.path} {self.path}.raw makes one of it"
                )
        self.measure()
        if not self.sectors:
            raise ConfigError(f"{self.path}: the disk image is empty: truncate -s 1G {self.path} makes room")

    def _lock(self) -> None:
        own = (READS,) if self.read_only else (READS, WRITES)
        try:
            for byte in (*(DOES + n for n in own), ALONE + WRITES, ALONE + RESIZES):
                self._lock_call(fcntl.F_OFD_SETLK, fcntl.F_RDLCK, byte)
            others = [
                self._lock_call(fcntl.F_OFD_GETLK, fcntl.F_WRLCK, byte) != fcntl.F_UNLCK
                for byte in (*(ALONE + n for n in own), DOES + WRITES, DOES + RESIZES)
            ]
        except OSError as error:
            raise ConfigError(
                f"{self.path}: the disk image cannot be locked: {error.strerror}: put it into a local folder"
            ) from None
        if any(others):
            raise ConfigError(
                f"{self.path}: the disk image is in use by another disk, and one of them would write: give each its own"
            )

    def _lock_call(self, command: int, kind: int, byte: int) -> int:
        answer = fcntl.fcntl(self._descriptor, command, _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0))
        return int(_FLOCK.unpack(answer)[0])

    def measure(self) -> None:
        """Look how large it is: somebody may have changed that."""
        self.sectors = os.lseek(self._descriptor, 0, os.SEEK_END) // SECTOR

    def read(self, sector: int, into: list[memoryview]) -> None:
        """Fill the buffers from `sector` on. OSError where the medium fails."""
        self._move(os.preadv, sector, into)

    def write(self, sector: int, data: list[memoryview]) -> None:
        """Write the buffers from `sector` on. OSError where the medium fails or is full."""
        self._move(os.pwritev, sector, data)

    def _move(self, call: Callable[[int, list[memoryview], int], int], sector: int, buffers: list[memoryview]) -> None:
        offset, waiting = sector * SECTOR, buffers
        while waiting:
            moved = call(self._descriptor, waiting[:_MOST], offset)
            if moved == 0:
                raise OSError(f"{self.path} ends before sector {offset // SECTOR}")
            offset += moved
            waiting = _behind(waiting, moved)

    def flush(self) -> None:
        """Everything written so far is on the medium when this returns."""
        os.fdatasync(self._descriptor)

    def discard(self, sector: int, count: int) -> None:
        """Give sectors back to the host; they read as zeros. OSError (EOPNOTSUPP) where the file system can not."""
        mode = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
        if _fallocate(self._descriptor, mode, sector * SECTOR, count * SECTOR):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Also gives up the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _behind(buffers: list[memoryview], moved: int) -> list[memoryview]:
    """What is left after the first `moved` bytes."""
    for i, buffer in enumerate(buffers):
        if moved < len(buffer):
            return [buffer[moved:], *buffers[i + 1 :]] if moved else buffers[i:]
        moved -= len(buffer)
    return []
