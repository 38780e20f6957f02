"""The device of docs/devices.md, as it stands there, between real domains: grants, event channels, XenStore."""

from __future__ import annotations

import re
import struct
from typing import Any

import pytest
from frontend import FrontRing
from guest_kit import ROOT, Puppet, device_grants

import hv
from hv.backends.device import Device


def example() -> dict[str, Any]:
    """The names that the page's example defines."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/devices.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(next(block for block in blocks if "class Upper" in block), "docs/devices.md", "exec"), names)
    return names


class Frontend:
    """A guest's end of the device, by a puppet's hypercalls; its pages are looked at from outside."""

    def __init__(self, machine: hv.Machine) -> None:
        self.puppet = Puppet(machine, memory="8M")
        self.machine, self.domid = machine, self.puppet.domain.domid
        setup = struct.pack("<HHIhxxxxxxQ", 0x7FF0, 0, 1, 0, self.puppet.page(30))
        assert self.puppet.hypercall("grant_table_op", 2, setup, 1) == 0
        self.table = machine.engine.page(self.puppet.load(self.puppet.page(30)) & 0xFFFFFFFF)
        self.ring = FrontRing([machine.engine.page(self.puppet.mfn(self.puppet.page(0)))], 64)  # type: ignore[list-item]
        self.grant(20, self.puppet.mfn(self.puppet.page(0)))
        offer = self.puppet.place(struct.pack("<HHI", 0x7FF0, 0, 0))
        assert self.puppet.hypercall("event_channel_op", 6, offer) == 0
        self.port = self.puppet.load(offer) >> 32

    def grant(self, ref: int, mfn: int, flags: int = 1) -> None:
        struct.pack_into("<HHI", self.table, ref * 8, flags, 0, mfn)

    def write(self, **keys: object) -> None:
        for key, value in keys.items():
            self.machine.store.write(f"/local/domain/{self.domid}/device/upper/0/{key.replace('_', '-')}", str(value))
        self.machine.settle()

    def connect(self) -> None:
        self.write(ring_ref=20, event_channel=self.port, state=4)

    def ask(self, text: bytes) -> bytes:
        self.ring.put(text)
        send = self.puppet.place(struct.pack("<I", self.port))
        assert self.puppet.hypercall("event_channel_op", 4, send) == 0
        response = self.ring.take(64)
        assert response is not None
        return response.rstrip(b"\0")


@pytest.fixture
def plugged() -> Any:
    with hv.Machine() as machine:
        frontend = Frontend(machine)
        device = example()["plug"](frontend.puppet.domain)
        yield frontend, device


def test_it_answers(plugged: tuple[Frontend, Device]) -> None:
    frontend, device = plugged
    path = f"/local/domain/0/backend/upper/{frontend.domid}/0"
    assert frontend.machine.store.read(f"{path}/longest") == b"64"
    assert frontend.machine.store.get_permissions(f"{path}/state") == ["n0", f"r{frontend.domid}"]
    assert frontend.machine.store.get_permissions(device.nodes.front_path) == [f"n{frontend.domid}", "r0"]
    frontend.connect()
    assert frontend.machine.store.read(f"{path}/state") == b"4"
    for i in range(100):
        assert frontend.ask(b"word %d" % i) == b"WORD %d" % i


FAULTS = {
    "no such grant": {"ring_ref": 21},
    "grant beyond the table": {"ring_ref": 600},
    "grant 2^32 - 1": {"ring_ref": 0xFFFFFFFF},
    "no number": {"ring_ref": "x"},
    "port not offered": {"event_channel": 77},
    "port 0": {"event_channel": 0},
    "store's port": {"event_channel": 1},
}


@pytest.mark.parametrize("name", FAULTS)
def test_frontends_that_are_wrong(name: str, plugged: tuple[Frontend, Device]) -> None:
    frontend, device = plugged
    frontend.write(ring_ref=20, event_channel=frontend.port)
    frontend.write(**FAULTS[name])
    frontend.write(state=4)
    assert (device.state, bool(device.error)) == (5, True)
    error = frontend.machine.store.read(f"/local/domain/0/error/backend/upper/{frontend.domid}/0/error")
    assert error.startswith(b"22 ")
    assert not device_grants(frontend.machine)
    for state in (6, 1):
        frontend.write(state=state)
    frontend.connect()
    assert frontend.ask(b"again") == b"AGAIN"


def test_revoked_and_read_only_grants(plugged: tuple[Frontend, Device]) -> None:
    """A grant that is taken back before the connection, or only gives reading, is refused."""
    frontend, device = plugged
    mfn = frontend.puppet.mfn(frontend.puppet.page(0))
    for flags in (0, 5):
        frontend.grant(20, mfn, flags)
        frontend.connect()
        assert device.state == 5 and "GNTST" in (device.error or "")
        for state in (6, 1):
            frontend.write(state=state)
    frontend.grant(20, mfn)
    frontend.connect()
    assert frontend.ask(b"x") == b"X"
    frontend.grant(20, mfn, 0)  # what is mapped stays mapped
    assert frontend.ask(b"y") == b"Y"


def test_thousands_of_connections_leave_nothing(plugged: tuple[Frontend, Device]) -> None:
    frontend, _ = plugged
    host = frontend.machine.domain0.guest
    ports = None
    for _ in range(1000):
        frontend.connect()
        for state in (5, 6, 1):
            frontend.write(state=state)
        used = sum(host.port(port)[0] != 0 for port in range(host.nr_ports))
        assert ports in (None, used)
        ports = used
    assert not device_grants(frontend.machine)


def test_domain_destroyed_while_connected(plugged: tuple[Frontend, Device]) -> None:
    frontend, device = plugged
    frontend.connect()
    frontend.ring.put(b"never answered")
    frontend.puppet.domain.destroy()
    assert not device.attached and not device_grants(frontend.machine)
    assert not frontend.machine.store.exists("/local/domain/0/backend/upper")


def test_unplug(plugged: tuple[Frontend, Device]) -> None:
    frontend, device = plugged
    frontend.connect()
    frontend.puppet.domain.devices.remove(device)
    assert frontend.machine.store.read(f"{device.nodes.back_path}/state") == b"5"
    frontend.write(state=6)
    assert not device.attached
    assert not frontend.machine.store.exists(device.nodes.back_path)
