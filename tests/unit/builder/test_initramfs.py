"""Initial ramdisks: what is written can be read back, by a reader of the specification's own words."""

from __future__ import annotations

import stat

from hv.builder.initramfs import archive, character_device, file, folder, link, program


def members(data: bytes) -> dict[str, tuple[int, bytes, tuple[int, int]]]:
    """path -> (mode, content, device), in order; the trailer must be the last and end the archive."""
    found: dict[str, tuple[int, bytes, tuple[int, int]]] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = data[at + 110 : at + 110 + fields[11]]
        assert name.endswith(b"\0")
        body = at + (110 + fields[11] + 3) // 4 * 4
        at = body + (fields[6] + 3) // 4 * 4
        if name == b"TRAILER!!!\0":
            assert at == len(data)
            return found
        path = name[:-1].decode()
        assert path not in found
        found[path] = (fields[1], data[body : body + fields[6]], (fields[9], fields[10]))


def test_every_kind_of_file() -> None:
    nodes = [
        program("init", b"#!/bin/sh\n"),
        link("bin/sh", "busybox"),
        file("etc/a/b", bytes(range(256))),
        folder("proc"),
        character_device("dev/console", 5, 1),
    ]
    found = members(archive(nodes))
    assert list(found) == ["init", "bin", "bin/sh", "etc", "etc/a", "etc/a/b", "proc", "dev", "dev/console"]
    assert found["init"] == (stat.S_IFREG | 0o755, b"#!/bin/sh\n", (0, 0))
    assert found["bin/sh"] == (stat.S_IFLNK | 0o777, b"busybox", (0, 0))
    assert found["etc/a/b"] == (stat.S_IFREG | 0o644, bytes(range(256)), (0, 0))
    assert found["dev/console"] == (stat.S_IFCHR | 0o600, b"", (5, 1))
    assert {found[path][0] for path in ("bin", "etc", "etc/a", "proc", "dev")} == {stat.S_IFDIR | 0o755}


def test_a_folder_that_was_named_comes_once() -> None:
    assert list(members(archive([folder("tmp"), file("tmp/x", b"")]))) == ["tmp", "tmp/x"]


def test_nothing_in_it() -> None:
    assert members(archive([])) == {}


def test_same_files_same_bytes() -> None:
    assert archive([file("a", b"1")]) == archive([file("a", b"1")])
