"""`hv run` and `hv test` of xl.cfg files; consoles; the table of domains."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from guest_kit import ENVIRONMENT, HV


def hv(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    environment = ENVIRONMENT
    return subprocess.run([*HV, *arguments], cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True)


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
    assert lines[0] == "hv: one.cfg: nics is not known to hv, and ignored"
    assert lines[1].split() == ["Name", "ID", "Mem", "VCPUs", "State", "Time(s)", "Ends"]
    assert [line.split()[:4] for line in lines[2:]] == [["one", "1", "64", "1"], ["two", "2", "64", "1"]]


def test_xtf_from_a_file(folder: Path) -> None:
    done = hv("test", "two.cfg", cwd=folder)
    assert done.returncode == 6
    assert done.stdout.startswith(b"two.cfg  CRASH  no result line")


REFUSED = {
    ("--console", "nobody=x"): b"hv: --console nobody: there is no such domain; here are one\n",
    ("--console", "one"): b"hv: --console 'one' is not possible: write NAME=FILE or NAME=stdio\n",
    ("--console", "one=a", "--console", "one=b"): b"hv: --console one is there twice: each console has one place\n",
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
    environment = ENVIRONMENT
    process = subprocess.Popen([*HV, "run", "spin.cfg", "--timeout", "30"], cwd=tmp_path, env=environment,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    assert process.stdout and process.stderr
    assert process.stdout.readline() == b"up\n"
    os.kill(process.pid, signal.SIGUSR1)
    assert process.stderr.readline().split()[:2] == [b"Name", b"ID"]
    row = process.stderr.readline().split()
    assert (row[0], row[4]) == (b"g", b"r-----")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
