"""An initramfs: the archive of files that Linux unpacks as its first root file system.

The form is cpio's "newc": a header of 13 hexadecimal numbers of 8 digits behind the magic 070701, the name with its
NUL, the content; name and content are padded to 4 bytes. Numbers of inodes count up and all times are 0, so that the
same files make the same bytes. Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

MAGIC = b"070701"
TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Node:
    """A file of the archive: its path without a leading slash, its mode with the type bits, and what it holds."""

    path: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)  # major and minor of a device node


def file(path: str, content: bytes, mode: int = 0o644) -> Node:
    """A regular file."""
    return Node(path, stat.S_IFREG | mode, content)


def program(path: str, content: bytes) -> Node:
    """A file that can be executed."""
    return file(path, content, 0o755)


def link(path: str, target: str) -> Node:
    """A symbolic link."""
    return Node(path, stat.S_IFLNK | 0o777, target.encode())


def folder(path: str) -> Node:
    """A folder that need not have anything in it."""
    return Node(path, stat.S_IFDIR | 0o755)


def character_device(path: str, major: int, minor: int, mode: int = 0o600) -> Node:
    """A device node, for what init needs before it has mounted devtmpfs."""
    return Node(path, stat.S_IFCHR | mode, device=(major, minor))


def archive(nodes: Iterable[Node]) -> bytes:
    """The archive; folders that paths need and nobody named are added."""
    members = (_member(number, node) for number, node in enumerate(_with_folders(nodes), start=1))
    return b"".join((*members, _member(0, Node(TRAILER, 0))))


def _with_folders(nodes: Iterable[Node]) -> Iterator[Node]:
    there = {"."}
    for node in nodes:
        parents = [str(parent) for parent in PurePosixPath(node.path).parents]
        yield from (folder(parent) for parent in reversed(parents) if parent not in there)
        there.update(parents, [node.path])
        yield node


def _member(number: int, node: Node) -> bytes:
    name = node.path.encode() + b"\0"
    fields = (number, node.mode, 0, 0, 1, 0, len(node.content), 0, 0, *node.device, len(name), 0)
    header = MAGIC + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(node.content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
