"""XenStore's real clients against hv's socket: Debian's xenstore-* tools, its test-xenstore, and pyxs.

hv's own xenstore-* commands must print what Debian's print, byte for byte, on the same store.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pyxs
from guest_kit import ROOT

from hv.backends.store import StoreBackend
from hv.backends.xenstore_socket import SocketService
from hv.cli.main import main
from hv.core.xenstore import Store

LIBRARIES = ("libxenstore4", "libxentoolcore1")


class Service:
    """hv's XenStore in a thread: the clients are processes."""

    def __init__(self, path: Path) -> None:
        self.store = Store()
        self.path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        while not path.exists():
            time.sleep(0.001)

    def _serve(self) -> None:
        with SocketService(StoreBackend(self.store), self.path) as service:
            while not self._stop.is_set():
                service.serve(0.05)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "socket")
    yield service
    service.close()


@pytest.fixture(scope="session")
def libraries(debian_package: Callable[[str], Path]) -> dict[str, str]:
    """The environment in which Debian's programs find their libraries."""
    folders = [debian_package(name) / "usr/lib/x86_64-linux-gnu" for name in LIBRARIES]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, folders))}


Stock = Callable[..., "tuple[int, bytes]"]


@pytest.fixture
def stock(service: Service, libraries: dict[str, str], debian_package: Callable[[str], Path]) -> Stock:
    """`stock("xenstore-ls", "-f")`: the exit code and stdout of Debian's tool."""
    folder = debian_package("xenstore-utils") / "usr/bin"

    def run(tool: str, *arguments: str) -> tuple[int, bytes]:
        environment = {**libraries, "XENSTORED_PATH": str(service.path)}
        done = subprocess.run([folder / tool, *arguments], env=environment, capture_output=True, timeout=30)
        return done.returncode, done.stdout

    return run


@pytest.fixture
def own(service: Service, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Stock:
    """The same of hv's command."""

    def run(tool: str, *arguments: str) -> tuple[int, bytes]:
        monkeypatch.setattr(sys, "argv", ["hv", tool, "--socket", str(service.path), *arguments])
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        sys.stdout.flush()
        return int(stop.value.code or 0), capfdbinary.readouterr().out

    return run


def fill(store: Store) -> None:
    store.write("/bytes", bytes(range(256)))
    store.write("/long", "x" * 100)
    store.write("/quoted", '"a" \\ b')
    store.write("/deep/er/and/deep/er", "1", ["n0", "r1", "b2", "w3"])
    store.write("/empty", "")
    for name in ("one", "two", "three"):
        store.write(f"/some/{name}", name)
    store.write("/local/domain/0/relative", "yes")
    store.write("/" + "n" * 90 + "/x", "below a long name")
    for number in range(600):
        store.mkdir(f"/many/child-{number}")


SAME = [
    ("xenstore-ls",),
    ("xenstore-ls", "-f"),
    ("xenstore-ls", "-p"),
    ("xenstore-ls", "-f", "-p"),
    ("xenstore-ls", "-fp", "/some"),
    ("xenstore-ls", "/some/", "/deep", "relative"),
    ("xenstore-ls", "/nothing"),
    ("xenstore-read", "/bytes"),
    ("xenstore-read", "-R", "/bytes"),
    ("xenstore-read", "-p", "/quoted", "relative", "/empty"),
    ("xenstore-read", "--prefix", "--raw", "/some/one", "/some/two"),
    ("xenstore-read", "/nothing"),
    ("xenstore-read", "/some/one", "/nothing"),
    ("xenstore-read", "bad//path"),
    ("xenstore-list", "/"),
    ("xenstore-list", "-p", "/some", "/deep/er"),
    ("xenstore-list", "/many"),
    ("xenstore-list", "/nothing"),
    ("xenstore-exists", "/some/one"),
    ("xenstore-exists", "/some/one", "/some/four"),
    ("xenstore-exists", "-s", "/"),
    ("xenstore-watch", "-n", "2", "/some", "/some/one"),
    ("xenstore-watch", "-n", "1", "bad//path"),
]


def test_the_same_output(service: Service, stock: Stock, own: Stock) -> None:
    fill(service.store)
    for row in SAME:
        assert own(*row) == stock(*row), row


CHANGES = [
    [("xenstore-write", "/w", "a b"), ("xenstore-write", "/w/1", "1", "w2", "2")],
    [("xenstore-write", "/w", r"\t\n\r\\\x41\101\7\q\x\x4g" + "\\")],
    [("xenstore-write", "-R", "/w", r"\t\x41")],
    [("xenstore-write", "/w", "ä")],
    [("xenstore-write", "/w", "1", "bad//path", "2")],
    [("xenstore-write", "--", "/w", "-1")],
    [("xenstore-rm", "/some/one", "/deep")],
    [("xenstore-rm", "/nothing")],
    [("xenstore-rm", "/no/thing")],
    [("xenstore-rm", "/")],
    [("xenstore-rm", "/some/one", "/no/thing")],
    [("xenstore-rm", "-t", "/deep/er/and/deep/er"), ("xenstore-rm", "-t", "relative", "/some/two")],
    [("xenstore-chmod", "/some/one", "n1", "r2", "b3", "w4x")],
    [("xenstore-chmod", "-r", "/some", "b5")],
    [("xenstore-chmod", "-u", "/deep/er/and", "r0")],
    [("xenstore-chmod", "--upto", "--recurse", "/deep/er", "w2", "n7")],
    [("xenstore-chmod", "/nothing", "r1")],
    [("xenstore-chmod", "/some/one", "n40000")],
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_the_same_effect(service: Service, stock: Stock, own: Stock, changes: list[tuple[str, ...]]) -> None:
    results = []
    for run in (stock, own):
        service.store.load('/ = ""   (n0)\n')
        fill(service.store)
        codes = [run(*change) for change in changes]
        results.append((codes, service.store.dump()))
    assert results[0] == results[1]


def test_a_watch_sees_changes_as_they_happen(
    service: Service, own: Stock, libraries: dict[str, str], debian_package: Callable[[str], Path]
) -> None:
    tools = [
        [debian_package("xenstore-utils") / "usr/bin/xenstore-watch", "-n", "4", "/w"],
        [sys.executable, "-m", "hv", "xenstore-watch", "-n", "4", "/w"],
    ]
    environment = {**libraries, "XENSTORED_PATH": str(service.path)}
    watchers = [subprocess.Popen(tool, env=environment, stdout=subprocess.PIPE, cwd=ROOT) for tool in tools]
    for watcher in watchers:
        assert watcher.stdout is not None and watcher.stdout.readline() == b"/w\n"  # at once
    assert own("xenstore-write", "/w/a", "1") == (0, b"")
    assert own("xenstore-rm", "/w/a") == (0, b"")
    assert own("xenstore-chmod", "/w", "r1") == (0, b"")
    for watcher in watchers:
        assert watcher.communicate(timeout=30)[0] == b"/w/a\n/w/a\n/w\n" and watcher.returncode == 0


def test_test_xenstore(service: Service, libraries: dict[str, str], debian_package: Callable[[str], Path]) -> None:
    program = debian_package("xen-utils-4.17") / "usr/lib/xen-4.17/bin/test-xenstore"
    environment = {**libraries, "XENSTORED_PATH": str(service.path)}
    for options in (["-i", "100"], ["-r", "1"]):
        done = subprocess.run([program, *options], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
    assert service.store.ls("/") == ["tool", "local"]


def test_pyxs(service: Service) -> None:
    with pyxs.Client(unix_socket_path=str(service.path)) as client:
        client.write(b"/a/b", b"\0value")
        assert client.read(b"/a/b") == b"\0value"
        assert client.list(b"/a") == [b"b"]
        client.set_perms(b"/a", [b"n0", b"r1"])
        assert client.get_perms(b"/a") == [b"n0", b"r1"]
        assert client.get_domain_path(7) == b"/local/domain/7"
        assert not client.is_domain_introduced(7)
        with client.monitor() as monitor:
            monitor.watch(b"/a", b"token")
            assert next(monitor.wait()) == (b"/a", b"token")
            client.transaction()
            client.write(b"/a/c", b"1")
            assert not service.store.exists("/a/c")
            client.commit()
            assert service.store.read("/a/c") == b"1"
            assert next(monitor.wait()) == (b"/a/c", b"token")
        with pytest.raises(pyxs.PyXSError):
            client.read(b"/nothing")
        client.delete(b"/a")
    assert service.store.ls("/") == ["tool"]
