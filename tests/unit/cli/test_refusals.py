"""A user's mistake ends with exit code 2, exactly one line on stderr that names the thing, and nothing on stdout."""

from __future__ import annotations

import gzip
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guest_kit import assemble

HELLO = 'main: println "hello"\n ret'


Command = Callable[..., tuple[int, str, str]]


def refused(command: Command, *arguments: str | Path) -> str:
    """The one line."""
    code, output, errors = command(*arguments)
    assert (code, output) == (2, ""), errors
    assert errors.endswith("\n")
    assert len(errors.splitlines()) == 1, errors
    return errors.rstrip("\n")


def elf(**changes: Any) -> bytes:
    """A good guest, changed: `at` -> bytes."""
    data = bytearray(assemble(HELLO))
    for at, value in changes.items():
        offset = int(at.removeprefix("at"))
        data[offset : offset + len(value)] = value
    return bytes(data)


def pvh_only() -> bytes:
    """An ELF64 whose only note is PHYS32_ENTRY."""
    note = struct.pack("<III", 4, 4, 18) + b"Xen\0" + struct.pack("<I", 0x100000)
    header = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x100000, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    )
    load = struct.pack("<IIQQQQQQ", 1, 7, 0, 0x100000, 0x100000, 0x1000, 0x1000, 0x1000)
    notes = struct.pack("<IIQQQQQQ", 4, 4, 176, 0, 0, len(note), len(note), 4)
    return (header + load + notes + note).ljust(4096, b"\0")


def elf32() -> bytes:
    header = (
        b"\x7fELF\x01\x01\x01"
        + bytes(9)
        + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, 0x100000, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    )
    return (header + struct.pack("<IIIIIIII", 1, 0, 0x100000, 0x100000, 0x1000, 0x1000, 7, 0x1000)).ljust(4096, b"\0")


IMAGES = {
    "empty": (lambda: b"", "image: the file is empty"),
    "text": (lambda: b"#!/bin/sh\necho hello\n", "not an ELF file, a compressed ELF file or a bzImage"),
    "zeros": (lambda: bytes(5000), "not an ELF file"),
    "one byte": (lambda: b"\x7f", "not an ELF file"),
    "the ELF magic alone": (lambda: b"\x7fELF", "ELF"),
    "a host program": (lambda: Path(sys.executable).read_bytes(), "Xen"),
    "PVH only": (pvh_only, "PVH only (PHYS32_ENTRY): not supported yet; give hv a PV64 kernel"),
    "32-bit": (elf32, "32-bit guests are not supported"),
    "truncated": (lambda: assemble(HELLO)[:5000], "truncated ELF"),
    "cut in the header": (lambda: assemble(HELLO)[:40], "ELF"),
    "broken gzip": (lambda: gzip.compress(assemble(HELLO))[:300], "gzip"),
    "gzip of text": (lambda: gzip.compress(b"hello"), "ELF"),
    "another machine": (lambda: elf(at18=struct.pack("<H", 183)), "x86-64"),
    "big-endian": (lambda: elf(at5=b"\x02"), "ELF"),
    "no program headers": (lambda: elf(at56=bytes(2)), "without loadable segments"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_bad_images(name: str, command: Command, tmp_path: Path) -> None:
    make, words = IMAGES[name]
    path = tmp_path / "image"
    path.write_bytes(make())
    line = refused(command, "run", path)
    assert line.startswith("hv: image: ")
    assert words in line


def test_missing(command: Command, tmp_path: Path) -> None:
    for name in ("no-such-guest", str(tmp_path / "nothing"), ""):
        assert (
            "no such file or guest: hv guests lists the bundled ones, hv fetch" in refused(command, "run", name)
            or name == ""
        )


@pytest.mark.parametrize("name", [".", "/", ".."])
def test_directory(command: Command, name: str) -> None:
    assert refused(command, "run", name) == f"hv: {name}: is a directory: name an image inside it"


def test_unreadable_kinds_of_file(command: Command, tmp_path: Path) -> None:
    assert "hv: /proc/self/mem: " in refused(command, "run", "/proc/self/mem")
    assert refused(command, "run", "/dev/null") == "hv: null: the file is empty: give hv a guest's kernel"


def test_second_image_is_bad(command: Command, tmp_path: Path) -> None:
    """Nothing runs, not even the good one."""
    (tmp_path / "good").write_bytes(assemble(HELLO))
    assert "no such file" in refused(command, "run", tmp_path / "good", tmp_path / "bad")


SIZES = ("0", "-1", "64X", "", "1.5G", "abc", "5K", "99999999999999M", "1M", "2M", "64 M M")
OPTIONS = {
    **{f"--memory {size}": ("--memory", size) for size in SIZES},
    "--memory of more than the machine has": ("--memory", "64G"),
    "--memory of more than any machine has": ("--memory", "999999999G"),
    "--vcpus 0": ("--vcpus", "0"),
    "--vcpus 65": ("--vcpus", "65"),
    "--vcpus -1": ("--vcpus", "-1"),
    "--vcpus many": ("--vcpus", "many"),
    "--clock sun": ("--clock", "sun"),
    "--timeout 0": ("--timeout", "0"),
    "--timeout nan": ("--timeout", "nan"),
    "--timeout -1": ("--timeout", "-1"),
    "--timeout soon": ("--timeout", "soon"),
    "--until -1": ("--until", "-1"),
    "--until 1.5": ("--until", "1.5"),
    "--until of 1000 years": ("--until", str(10**30)),
    "a long command line": ("--cmdline", "x" * 1024),
    "a ramdisk that is not there": ("--ramdisk", "/no/such/ramdisk"),
    "a ramdisk that is a directory": ("--ramdisk", "/"),
    "a log that can not be": ("--hypervisor-log", "/"),
    "an unknown option": ("--nonsense",),
    "an unknown short option": ("-x",),
    "an option without its value": ("--memory",),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_bad_options(name: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(assemble(HELLO))
    line = refused(command, "run", tmp_path / "image", *OPTIONS[name])
    assert line.startswith("hv: ")


@pytest.mark.parametrize("name", ["empty", "text", "PVH only", "32-bit", "truncated"])
def test_a_bad_image_among_tests(name: str, command: Command, tmp_path: Path) -> None:
    """For `hv test` it is a test that is broken: the result ERROR, and the others are run."""
    make, words = IMAGES[name]
    (tmp_path / "bad").write_bytes(make())
    (tmp_path / "good").write_bytes(assemble('main: println "Test result: SUCCESS"\n ret'))
    code, output, errors = command("test", tmp_path / "bad", tmp_path / "good")
    lines = [line for line in output.splitlines() if not line.startswith(" ")]
    assert (code, errors, len(lines)) == (4, "", 2)
    assert lines[0].startswith("bad   ERROR  bad: ")
    assert words.removeprefix("image: ") in lines[0]
    assert lines[1] == "good  SUCCESS"


@pytest.mark.parametrize("name", ["--memory 64X", "--memory 0", "a log that can not be"])
def test_bad_options_of_test(name: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(assemble(HELLO))
    assert refused(command, "test", tmp_path / "image", *OPTIONS[name]).startswith("hv: ")


def test_a_ramdisk_that_does_not_fit(command: Command, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(assemble(HELLO))
    (tmp_path / "ramdisk").write_bytes(bytes(20 << 20))
    line = refused(command, "run", tmp_path / "image", "--ramdisk", tmp_path / "ramdisk", "--memory", "16M")
    assert "does not fit in 16M of memory, it needs" in line


def test_name_with_two_images(command: Command, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(assemble(HELLO))
    assert (
        refused(command, "run", tmp_path / "image", tmp_path / "image", "--name", "x")
        == "hv: --name needs exactly one IMAGE"
    )


COMMAND_LINES = (
    ("run",),
    ("test",),
    ("nonsense",),
    ("--nonsense",),
    ("run", "--nonsense", "x"),
    ("guests", "--nonsense"),
    ("guests", "surplus"),
    ("hypercalls", "surplus"),
    ("doctor", "surplus"),
    ("doctor", "--json", "--nonsense"),
)


@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_bad_command_lines(words: tuple[str, ...], command: Command) -> None:
    assert refused(command, *words).startswith("hv: ")
