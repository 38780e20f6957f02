"""Real Xen's runner, without QEMU: who said what on the serial line, how it ended, what is missing."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from hv.errors import HvError, Timeout
from hv.testing import xen_in_qemu

BOOT = b"(XEN) Xen version 4.17.7\r\n(XEN) Freed 656kB init memory\r\n"
HALTED = b"(XEN) Hardware Dom0 halted: halting machine\r\n"


@pytest.mark.parametrize(
    ("serial", "guest"),
    [
        (b"", ""),
        (BOOT, ""),
        (BOOT + b"Hello\r\nworld\r\n" + HALTED, "Hello\nworld\n"),
        (BOOT + b"Hel(XEN) d0v0 says something\r\nlo\r\n", "Hello\n"),
        (BOOT + b"no line end" + HALTED, "no line end"),
        (BOOT + b"a terminal's\r\r\n", "a terminal's\r\n"),
        (BOOT + b"(XEN) half a li", "(XEN) half a li"),
        (BOOT + b"\xff\r\n", "\N{REPLACEMENT CHARACTER}\n"),
    ],
)
def test_who_said_what(serial: bytes, guest: str) -> None:
    assert xen_in_qemu.separate(serial)[0] == guest


def test_what_xen_said() -> None:
    said = "(XEN) Xen version 4.17.7\n(XEN) Freed 656kB init memory\n(XEN) Hardware Dom0 halted: halting machine\n"
    assert xen_in_qemu.separate(BOOT + b"Hel" + HALTED + b"lo\r\n") == ("Hello\n", said)


@pytest.mark.parametrize(
    ("line", "how"),
    [
        (HALTED, ("powered off", 0)),
        (b"(XEN) Hardware Dom0 shutdown: rebooting machine\r\n", ("rebooted", 0)),
        (b"(XEN) Hardware Dom0 crashed: 'noreboot' set - not rebooting.\r\n", ("crashed", 6)),
        (b"(XEN) Hardware Dom0 shutdown: watchdog rebooting machine\r\n", ("ended", 6)),
        (b"(XEN) Hardware domain 0 did unsupported soft reset, rebooting.\r\n", ("ended", 6)),
        (b"(XEN) Panic on CPU 0:\r\n", ("took Xen with it", 6)),
        (b"(XEN) Hardware Dom0 hal", None),
        (b"Hardware Dom0 halted\r\n", None),
    ],
)
def test_how_it_ended(line: bytes, how: tuple[str, int] | None) -> None:
    assert xen_in_qemu.ending(BOOT + line) == how


def stand_in(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in QEMU's place, and an image in Xen's."""
    program = folder / "qemu"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("HV_QEMU", str(program))
    image = folder / "xen.gz"
    image.write_bytes(gzip.compress(b"the hypervisor"))
    monkeypatch.setenv("HV_XEN", str(image))


def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What QEMU gets, and that it is ended when the guest has."""
    said = r'printf "(XEN) Freed\r\n"; printf "%s|" "$@"; printf "\r\n(XEN) Hardware Dom0 halted\r\n"; exec sleep 60'
    stand_in(tmp_path, said, monkeypatch)
    outcome = xen_in_qemu.run(b"guest", "a,b c")
    assert outcome.exit_code == 0
    assert outcome.output.startswith("-accel|tcg|")
    assert " a,,b c|" in outcome.output


def test_files_that_qemu_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        'for a in "$@"; do case "$a" in /proc/self/fd/*) cat ${a%% *}; echo;; esac; done; '
        r'printf "(XEN) Hardware Dom0 crashed\r\n"; exec sleep 60'
    )
    stand_in(tmp_path, script, monkeypatch)
    assert xen_in_qemu.run(b"the guest", "x").output == "the hypervisor\nthe guest\n"


def test_a_ramdisk_is_the_second_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the machine's RAM is another file."""
    script = (
        'for a in "$@"; do case "$a" in "/proc/self/fd/"*,*) cat "${a##*,}"; echo " for ${a#* }";; esac; done; '
        r'printf "(XEN) Hardware Dom0 crashed\r\n"; exec sleep 60'
    )
    stand_in(tmp_path, script, monkeypatch)
    ramdisk = tmp_path / "ramdisk"
    ramdisk.write_bytes(b"files")
    with xen_in_qemu.Session(b"the guest", "a,b", ramdisk=ramdisk, share_ram=True) as session:
        assert session.wait(lambda: xen_in_qemu.ending(session.serial) is not None, 30)
        assert session.ram is not None and len(session.ram) == 512 << 20
        assert session.output.startswith("files for a,,b,/proc/self/fd/")


def test_qemu_that_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, "echo no such machine >&2; exit 1", monkeypatch)
    with pytest.raises(HvError, match="QEMU ended by itself: no such machine"):
        xen_in_qemu.run(b"guest")


@pytest.mark.parametrize(("said", "where"), [("", "starting"), ("(XEN) Freed 1kB", "its guest")])
def test_no_end(said: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, f"echo '{said}'; exec sleep 60", monkeypatch)
    with pytest.raises(Timeout, match=rf"Xen in QEMU was still running {where} after 0.5 s"):
        xen_in_qemu.run(b"guest", timeout=0.5)


def test_no_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HV_QEMU", "no-such-qemu")
    with pytest.raises(HvError, match=r"no-such-qemu is not there: install Debian's package qemu-system-x86"):
        xen_in_qemu.find_qemu()


@pytest.mark.parametrize("content", [None, b"\x1f\x8bnot compressed"])
def test_no_xen(content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "xen.gz"
    if content is not None:
        place.write_bytes(content)
    monkeypatch.setenv("HV_XEN", str(place))
    with pytest.raises(HvError, match=r"xen\.gz: cannot be read as Xen's image .*: name one in HV_XEN"):
        xen_in_qemu.xen_image()
