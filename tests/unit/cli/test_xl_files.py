"""`hv run` and `hv test` of xl.cfg files; consoles; the table of domains."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from guest_kit import HV


def hv(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*HV, *arguments], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "one.cfg").write_text("kernel = 'hello'\nname = 'one'\nnics = 1\n")
    (tmp_path / "two.cfg").write_text("kernel = 'timer'\n")
    return tmp_path


def test_two_files(folder: Path) -> None:
    done = hv("run", "one.cfg", "two.cfg", "--console", "two=two.log", "--list", cwd=folder)
    assert done.returncode == 0
    assert done.stdout == b"Hello, world!\nThis is Xen 4.17.\n"
    assert (folder / "two.log").read_bytes().startswith(b"timer bound: 0\n")
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "hv: one.cfg:3: nics is not known to hv, and ignored"
    assert lines[1].split() == ["Name", "ID", "Mem", "VCPUs", "State", "Time(s)", "Ends"]
    assert [line.split()[:4] for line in lines[2:]] == [["one", "1", "64", "1"], ["two", "2", "64", "1"]]


def test_settings_behind_a_file(folder: Path) -> None:
    """As `xl create FILE KEY=VALUE`: = overrides, += adds, and each belongs to the IMAGE before it."""
    done = hv("run", "one.cfg", "memory = 32", 'name += "r"', "hello", "vcpus=2", "--list", cwd=folder)
    assert done.returncode == 0
    rows = [line.split()[:4] for line in done.stderr.decode().splitlines()[-2:]]
    assert rows == [["oner", "1", "32", "1"], ["hello", "2", "64", "2"]]
    early = hv("run", "memory=32", "one.cfg", cwd=folder)
    assert early.stderr == b"hv: 'memory=32' stands before any IMAGE: write hv run IMAGE memory=32\n"


def test_disks_by_options_come_on_top(folder: Path) -> None:
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(bytes(4096))
    (folder / "disk.cfg").write_text("kernel = 'store'\ndisk = ['a,raw,xvda,rw']\n")
    more = ("--disk", "b,raw,xvdb,rw", "disk += ['c,raw,xvdc,r']")
    done = hv("run", "disk.cfg", *more, "--disk", "a,raw,xvda,r", cwd=folder)
    assert done.stderr == b"hv: disk has two disks xvda: give each its own name\n"
    assert hv("run", "disk.cfg", *more, cwd=folder).returncode in (0, 125)


def test_xtf_from_a_file(folder: Path) -> None:
    done = hv("test", "two.cfg", cwd=folder)
    assert done.returncode == 6
    assert done.stdout.startswith(b"two.cfg  CRASH  no result line")


REFUSED = {
    ("--console", "nobody=x"): b"hv: --console nobody: there is no such domain; here are one\n",
    ("--console", "one"): b"hv: --console 'one' is not possible: write NAME=FILE or NAME=stdio\n",
    ("--console", "one=a", "--console", "one=b"): b"hv: --console one is there twice: each console has one place\n",
    ("two.cfg", "--console", "one=x", "--console", "two=x"): b"hv: --console: only one console can have x\n",
    ("one.cfg",): b'hv: there is a domain with the name "one" already: choose another (name, --name)\n',
    ("nothing",): b"hv: nothing: no such file or guest: hv guests lists the bundled ones, hv fetch those of others\n",
    ("memory=x",): b"hv: 'memory=x':1: a value (a string in quotes, a number or a list) is missing before 'x'\n",
    ("vcpus=0",): b"hv: 'vcpus=0':1: vcpus = 0 is not possible: choose 1 to 64\n",
    ("--disk", "no'file,raw,xvda,r"): b"hv: no'file: the disk image cannot be opened: No such file or directory\n",
    ("--console", "one=/"): b"hv: --console: / cannot be written: Is a directory\n",
}


@pytest.mark.parametrize("options", REFUSED)
def test_refused(options: tuple[str, ...], folder: Path) -> None:
    done = hv("run", "one.cfg", *options, cwd=folder)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.splitlines(keepends=True)[-1] == REFUSED[options]


def test_table_on_signal(tmp_path: Path) -> None:
    (tmp_path / "spin.cfg").write_text("kernel = 'idle'\nname = 'g'\n")
    from guest_kit import assemble

    (tmp_path / "idle").write_bytes(assemble("main: println \"up\"\n1: jmp 1b"))
    process = subprocess.Popen([*HV, "run", "spin.cfg", "--timeout", "30"], cwd=tmp_path,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    assert process.stdout and process.stderr
    assert process.stdout.readline() == b"up\n"
    os.kill(process.pid, signal.SIGUSR1)
    assert process.stderr.readline().split()[:2] == [b"Name", b"ID"]
    row = process.stderr.readline().split()
    assert (row[0], row[4]) == (b"g", b"r-----")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
