"""The guest's image as a file that gdb can read through its connection: so it has the symbols without being told where.

One file, read only, whose descriptor is always 0. Numbers and errno are those of the protocol's File-I/O extension:
hexadecimal in requests, `struct stat` in big-endian order.
"""

from __future__ import annotations

import struct

from hv.debug.gdb.packets import MOST, escaped

STAT = struct.Struct(">7I3Q3I")  # dev, ino, mode, nlink, uid, gid, rdev, size, blksize, blocks, atime, mtime, ctime
REGULAR_READABLE = 0o100444
ENOENT, EBADF, EROFS = 2, 9, 9999  # the protocol has no number for the last: it is EUNKNOWN
PART = MOST // 2 - 16  # every byte may need an escape


class ImageFile:
    """`name` is only a name, `contents` the ELF file that the domain was built from."""

    def __init__(self, name: str, contents: bytes) -> None:
        self.path = b"/" + name.encode("utf-8", "replace").replace(b"/", b"_")
        self._contents = contents

    def open(self, path: bytes, flags: bytes) -> bytes:
        if bytes.fromhex(path.decode()) != self.path:
            return _failed(ENOENT)
        return _failed(EROFS) if int(flags, 16) & 3 else b"F0"

    def read(self, descriptor: bytes, count: bytes, offset: bytes) -> bytes:
        if int(descriptor, 16):
            return _failed(EBADF)
        at = int(offset, 16)
        part = self._contents[at : at + min(int(count, 16), PART)]
        return b"F%x;" % len(part) + escaped(bytes(part))

    def status(self, descriptor: bytes) -> bytes:
        if int(descriptor, 16):
            return _failed(EBADF)
        size = len(self._contents)
        packed = STAT.pack(0, 0, REGULAR_READABLE, 1, 0, 0, 0, size, 512, -(-size // 512), 0, 0, 0)
        return b"F%x;" % len(packed) + escaped(packed)


def _failed(errno: int) -> bytes:
    return b"F-1,%x" % errno
