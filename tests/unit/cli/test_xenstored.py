"""`hv xenstored` as a process: signals, dump and load, and its refusals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from guest_kit import ROOT

from hv.abi.io import xs_wire as xs
from hv.core.xenstore import Packet, Store, encode

Command = Callable[..., tuple[int, str, str]]


def start(path: Path, *options: str | Path, stale: int | None = None) -> subprocess.Popen[bytes]:
    """The service, once it listens: the appearance of a socket that is not the inode `stale` is the sign."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hv", "xenstored", "--socket", path, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and (not path.exists() or path.stat().st_ino == stale):
        time.sleep(0.01)
    return process


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> tuple[int, bytes]:
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    return process.returncode, output + errors


def ask(path: Path, kind: int, payload: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(path))
        client.sendall(encode(Packet(kind, 0, 0, payload)))
        return client.recv(65536)[16:]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_quietly_and_the_store_is_kept(path: Path, tmp_path: Path, number: int) -> None:
    kept = tmp_path / "store.txt"
    process = start(path, "--dump", kept)
    assert ask(path, xs.XS_WRITE, b"/a/b\0" + bytes(range(256))) == b"OK\0"
    assert end(process, number) == (0, b"")
    assert not path.exists()
    process = start(path, "--load", kept)
    assert ask(path, xs.XS_READ, b"/a/b\0") == bytes(range(256))
    assert end(process) == (0, b"")


def test_a_dump_while_clients_work(path: Path, tmp_path: Path) -> None:
    kept = tmp_path / "store.txt"
    process = start(path, "--dump", kept)
    for number in range(50):
        assert ask(path, xs.XS_WRITE, b"/n\0%d" % number) == b"OK\0"
        if number == 25:
            process.send_signal(signal.SIGUSR1)
    while not kept.exists():
        time.sleep(0.01)
    assert 25 <= int(kept.read_text().split('/n = "')[1].split('"')[0]) <= 49
    assert end(process) == (0, b"")
    store = Store()
    store.load(kept.read_text())
    assert store.read("/n") == b"49"


def test_after_a_kill_the_next_one_begins(path: Path) -> None:
    process = start(path)
    process.kill()
    process.communicate()
    assert path.exists()
    process = start(path, stale=path.stat().st_ino)
    assert ask(path, xs.XS_DIRECTORY, b"/\0") == b"tool\0"
    assert end(process) == (0, b"")


def test_refusals(command: Command, path: Path, tmp_path: Path) -> None:
    process = start(path)
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("what?\n")
    rows = [
        (["--socket", path], "is in use by another service"),
        (["--socket", tmp_path / "x" / "s"], "cannot be made there"),
        (["--socket", tmp_path / "s", "--load", tmp_path / "none"], "none: cannot be read: No such file"),
        (["--socket", tmp_path / "s", "--load", wrong], "wrong.txt: line 1 is not of the form"),
        (["--socket", tmp_path / "s", "--dump", tmp_path / "x" / "d"], "a dump cannot be written there"),
        ([], "Missing option '--socket'"),
    ]
    for arguments, sentence in rows:
        code, output, errors = command("xenstored", *arguments)
        assert (code, output) == (2, "") and sentence in errors and len(errors.splitlines()) == 1, errors
    assert ask(path, xs.XS_READ, b"/tool\0") == b""
    assert end(process) == (0, b"")


def test_no_service(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENSTORED_RUNDIR", str(tmp_path))
    for tool in ("ls", "exists"):
        code, output, errors = command(f"xenstore-{tool}", "/a")
        assert (code, output) == (2, "") and errors.startswith(f"hv: {tmp_path}/socket: no XenStore answers there")
        assert len(errors.splitlines()) == 1


USAGE = [
    (("xenstore-write", "/a"), "/a has no value"),
    (("xenstore-read",), "Missing argument"),
    (("xenstore-chmod", "/a", "q1"), "'q1' is no permission"),
]


@pytest.mark.parametrize(("arguments", "sentence"), USAGE)
def test_usage_of_the_tools(command: Command, arguments: tuple[str, ...], sentence: str) -> None:
    code, output, errors = command(*arguments)
    assert (code, output) == (2, "") and sentence in errors and len(errors.splitlines()) == 1
