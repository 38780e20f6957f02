"""machine.xenstore, what a toolstack asks a guest for, and the socket of a running machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guest_kit import HV, ROOT, assemble

import hv
from hv.abi.io import xs_wire as xs
from hv.core.xenstore import Packet, encode

SLEEPER = "main: hypercall sched_op, $SCHEDOP_block\n jmp main"


@pytest.fixture
def machine() -> Iterator[hv.Machine]:
    with hv.Machine() as machine:
        yield machine


def test_nodes(machine: hv.Machine) -> None:
    store = machine.xenstore
    store.write("/a/b", "text", ["n0", "r1"])
    store.write("/a/c", bytes(range(256)))
    store.mkdir("/a/d")
    assert store.ls("/a") == ["b", "c", "d"]
    assert (store.read("/a/b"), store.read("/a/c"), store.read("/a/d")) == (b"text", bytes(range(256)), b"")
    assert store.get_permissions("/a/b") == ["n0", "r1"]
    store.rm("/a/b")
    assert not store.exists("/a/b") and store.exists("/a")
    assert store.read("name") == b"Domain-0"


@pytest.mark.parametrize("count", [0, 1, 2000])
def test_long_directories(machine: hv.Machine, count: int) -> None:
    names = [f"node-{number}" for number in range(count)]
    machine.xenstore.mkdir("/long")
    for name in names:
        machine.xenstore.mkdir(f"/long/{name}")
    assert machine.xenstore.ls("/long") == names


REFUSED: list[tuple[str, tuple[Any, ...], str, str]] = [
    ("read", ("/none",), "ENOENT", "/none: there is no such node in XenStore (ENOENT)"),
    ("read", ("a//b",), "EINVAL", "a//b: XenStore does not accept it"),
    ("write", ("/a", b"x" * 4097), "E2BIG", "/a: it is too large for XenStore (E2BIG)"),
    ("write", ("/\u20ac", b""), "EINVAL", "/\u20ac: a path has ASCII letters"),
    ("rm", ("/",), "EINVAL", "/: XenStore does not accept it"),
    ("set_permissions", ("/tool", ["q0"]), "EINVAL", "/tool: XenStore does not accept it"),
    ("set_permissions", ("/tool", ["n0", "r9"]), "", ""),  # a domain that is not: the entry counts for nobody
    ("set_permissions", ("/tool", ["n9"]), "ENOENT", "/tool: there is no such node"),
    ("watch", ("a//b",), "EINVAL", "a//b: XenStore does not accept it"),
]


@pytest.mark.parametrize(("method", "arguments", "name", "sentence"), REFUSED)
def test_refusals(machine: hv.Machine, method: str, arguments: tuple[Any, ...], name: str, sentence: str) -> None:
    if not name:
        getattr(machine.xenstore, method)(*arguments)
        return
    with pytest.raises(hv.StoreError) as refused:
        getattr(machine.xenstore, method)(*arguments)
    assert refused.value.name == name
    assert str(refused.value).startswith(sentence) and "\n" not in str(refused.value)


def broken_off(store: Any, act: Any) -> None:
    with store.transaction() as t:
        t.write("/a", "2")
        act()


def test_transactions(machine: hv.Machine) -> None:
    store = machine.xenstore
    with store.transaction() as t:
        t.write("/a", "1")
        assert t.exists("/a") and not store.exists("/a")
    assert store.read("/a") == b"1"
    for act, error, sentence in (
        (lambda: 1 / 0, ZeroDivisionError, "zero"),
        (lambda: store.write("/a", "1"), hv.StoreError, r"do it again \(EAGAIN\)"),
    ):
        with pytest.raises(error, match=sentence):
            broken_off(store, act)
        assert store.read("/a") == b"1"
    store.write("/a", "3")
    assert store.read("/a") == b"3"
    disturbed = iter([True, True, False])

    def action(nodes: Any) -> int:
        value = int(nodes.read("/a")) + 1
        if next(disturbed):
            store.write("/a", "10")
        nodes.write("/a", str(value))
        return value

    assert store.transact(action) == 11


def test_watches(machine: hv.Machine) -> None:
    store, heard = machine.xenstore, []
    with store.watch("/w", listener=heard.append) as watch, store.watch("@introduceDomain") as introduced:
        store.write("/w/a", "1")
        with store.transaction() as t:
            t.write("/w/b", "1")
            assert len(heard) == 2
        store.rm("/w")
        assert list(watch.events) == heard == ["/w", "/w/a", "/w/b", "/w"]
        machine.create(assemble(SLEEPER))
        assert list(introduced.events) == ["@introduceDomain"] * 2
    store.write("/w/a", "1")
    assert len(heard) == 4


def test_a_listener_may_use_the_store(machine: hv.Machine) -> None:
    store = machine.xenstore
    store.write("/in", "0")

    def answer(path: str) -> None:
        store.write("/out", store.read("/in") + b"!")

    with store.watch("/in", listener=answer), store.watch("/out") as out:
        store.write("/in", "1")
        assert store.read("/out") == b"1!"
        assert list(out.events) == ["/out"] * 2


def test_waiting_runs_the_machine(machine: hv.Machine) -> None:
    machine.create("store")
    moments = []
    with machine.xenstore.watch("/local/domain/1/data") as watch:
        for path in ("data", "data/greeting", "data/answer"):
            assert watch.wait() == f"/local/domain/1/{path}"
            moments.append(machine.now_ns)
        assert moments[0] == 0 < moments[1] < moments[2] < 1_000_000
        assert watch.wait().startswith("/local/domain/1/data")  # it has ended, and all its nodes go
        watch.events.clear()
        with pytest.raises(hv.Timeout, match="did not change any more: nothing runs"):
            watch.wait()


def test_what_guests_are_asked_for(machine: hv.Machine) -> None:
    domain = machine.create("store")
    domain.console.expect("changed: control/shutdown")
    domain.sysrq("s")
    domain.toolstack.set_memory("32M")
    assert machine.xenstore.read("/local/domain/1/control/sysrq") == b"s"
    assert machine.xenstore.read("/local/domain/1/memory/target") == b"32768"
    with machine.xenstore.watch("@releaseDomain") as released:
        domain.reboot()
        domain.console.expect("seen: OK\nAsked to reboot.\n")
        domain.console.expect("changed: control/shutdown")
        assert (domain.domid, len(released.events)) == (2, 3)  # at once, at its shutdown, and when it is released
    domain.shutdown()
    domain.console.expect("Asked to end.")
    machine.run(timeout=10)
    assert domain.reason == "powered off"
    for wrong in (lambda: domain.shutdown("now"), lambda: domain.sysrq("sy")):
        with pytest.raises(hv.ConfigError):
            wrong()
    with pytest.raises(hv.ConfigError, match="nobody to ask"):
        domain.shutdown()
    assert machine.xenstore.ls("/local/domain") == ["0"]


def test_a_domain_finds_what_xl_makes() -> None:
    """The nodes of a running machine: those of a real host, in its order, with its permissions.

    docs/xenstore.md has the one that is missing; tests/unit/core/xenstore/test_domain_keys.py compares values.
    """
    from unit.core.xenstore.test_domain_keys import REAL

    with hv.Machine() as machine:
        machine.create(assemble(SLEEPER), name="g", memory="128M")
        lines = machine.xenstore.dump().splitlines()[2:]
    shape = [(line.split(" ")[0], line.rpartition("(")[2]) for line in lines]
    real = [(line.split(" ")[0], line.rpartition("(")[2]) for line in REAL.strip().splitlines()]
    assert [row for row in real if row not in shape] == [("/local/domain/1/console/tty", "n0,r1)")]
    assert [row for row in shape if row in real] == [row for row in real if row in shape]
    hosts = ("/tool", "/local", "/local/domain", "/local/domain/0", "/local/pool", "/vm", "/libxl")
    assert [row for row in shape if row not in real and not row[0].startswith(hosts)] == []


def test_two_machines_share_nothing() -> None:
    with hv.Machine() as one, hv.Machine() as other:
        one.xenstore.write("/a", "1")
        assert not other.xenstore.exists("/a")


def test_a_dump_goes_into_another_machine(machine: hv.Machine) -> None:
    machine.xenstore.write("/a", b"\0", ["n0", "r0"])
    with hv.Machine() as other:
        other.xenstore.load(machine.xenstore.dump())
        assert other.xenstore.dump() == machine.xenstore.dump()
        with pytest.raises(hv.ConfigError, match="the dump cannot be loaded: line 1 is not of the form"):
            other.xenstore.load("what?")


# --- the socket of a machine


def ask(path: Path, kind: int, payload: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.fspath(path))
        client.sendall(encode(Packet(kind, 0, 0, payload)))
        return client.recv(65536)[16:]


def test_tools_look_into_a_running_machine(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    process = subprocess.Popen(
        [*HV, "run", "store", "--clock", "paced", "--xenstore-socket", path],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line == b"changed: control/shutdown\n":
            break
    assert ask(path, xs.XS_READ, b"/local/domain/1/data/answer\0") == b"seen by all"
    assert ask(path, xs.XS_WRITE, b"/local/domain/1/control/shutdown\0poweroff") == b"OK\0"
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (0, b"changed: control/shutdown\nseen: OK\nAsked to end.\n", b"")
    assert not path.exists()


def test_a_machine_that_waits_for_nothing_else_can_be_asked(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    process = subprocess.Popen(
        [*HV, "run", "bell", "--xenstore-socket", path], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    assert process.wait(timeout=30) == 0 and not path.exists()
    image = tmp_path / "sleeper"
    image.write_bytes(assemble(SLEEPER))
    process = subprocess.Popen([*HV, "run", image, "--xenstore-socket", path], cwd=ROOT)
    while not path.exists():
        time.sleep(0.01)
    assert ask(path, xs.XS_READ, b"/local/domain/1/name\0") == b"sleeper"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130 and not path.exists()


@pytest.mark.parametrize(
    ("requests", "answers"),
    [
        ([(xs.XS_INTRODUCE, b"1\0001\0001\0")], True),
        ([(xs.XS_RELEASE, b"1\0")], False),
        ([(xs.XS_RELEASE, b"1\0"), (xs.XS_INTRODUCE, b"1\0001\0001\0")], True),
    ],
)
def test_a_tool_resets_closes_and_opens_a_ring(
    machine: hv.Machine, requests: list[tuple[int, bytes]], answers: bool
) -> None:
    domain = machine.create("store")
    client = machine.store.connect()
    for kind, payload in requests:  # before the guest runs
        machine.store.handle(client, Packet(kind, 0, 0, payload))
        assert client.take()[0].payload == b"OK\0"
    machine.run(timeout=30)
    assert (b"its end: OK" in domain.console.output) is answers  # after RELEASE it may not do much, but it is answered
    assert domain.ended is answers
