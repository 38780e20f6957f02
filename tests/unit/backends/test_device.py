"""The xenbus state machine of backends: every state of the frontend in every state of the backend, and faults."""

from __future__ import annotations

import pytest
from frontend import FakeNodes, FakePeer, frontend_state, plugged

from hv.backends.device import Device, DeviceError
from hv.fastpath.rings import RingError

INITIALISING, INIT_WAIT, INITIALISED, CONNECTED, CLOSING, CLOSED = 1, 2, 3, 4, 5, 6


class Probe(Device):
    """A device with one page and one port that notes what happens to it."""

    kind = "probe"

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []
        self.mishap: Exception | None = None

    def connect(self) -> None:
        self.map(self.frontend_number("ring-ref"))
        self.listen(self.frontend_number("event-channel"))
        self.log.append("connect")

    def serve(self) -> None:
        if self.mishap:
            raise self.mishap
        self.log.append("serve")

    def dropped(self) -> None:
        self.log.append("dropped")


@pytest.fixture
def probe() -> tuple[Probe, FakePeer, FakeNodes]:
    device = Probe()
    peer, nodes = plugged(device)
    peer.grant(5)
    nodes.front_values |= {"ring-ref": "5", "event-channel": "3", "state": "1"}
    return device, peer, nodes


Plugged = tuple[Probe, FakePeer, FakeNodes]
# the frontend's states one after the other (None: its node vanishes) -> the backend's states
WALKS: dict[tuple[int | None, ...], str] = {
    (): "2",
    (INITIALISED,): "24",
    (CONNECTED,): "24",
    (INITIALISED, CONNECTED): "24",
    (INITIALISING, INITIALISED): "24",
    (CLOSING,): "25",
    (CLOSED,): "26",
    (CONNECTED, CLOSING, CLOSED): "2456",
    (CONNECTED, CLOSED): "246",
    (CONNECTED, CLOSING, CLOSED, INITIALISING, CONNECTED): "2456" + "24",
    (CONNECTED, CLOSED, CONNECTED): "246",  # without Initialising nobody has told it to come back
    (CONNECTED, INITIALISING): "24",
    (CONNECTED, 2): "24",
    (CONNECTED, 99): "24",
    (CONNECTED, 7, 8): "24",
    (CONNECTED, None): "24",
    (None, CONNECTED): "2",
}


@pytest.mark.parametrize("walk", WALKS)
def test_states(walk: tuple[int | None, ...], probe: Plugged) -> None:
    device, peer, nodes = probe
    for state in walk:
        frontend_state(device, nodes, state)
    assert "".join(nodes.states) == WALKS[walk]
    assert not nodes.errors
    connected = nodes.states[-1] == "4" and not nodes.removed
    assert peer.leaks == connected
    device.detach()
    assert not peer.leaks


@pytest.mark.parametrize("text", ["", "4x", "-4", "0004", "٤", "4" * 400])
def test_a_state_that_is_none(text: str, probe: Plugged) -> None:
    device, _, nodes = probe
    nodes.front_values["state"] = text
    device.frontend_changed()
    assert nodes.states == ["2"]


FAULTS = {
    "ring-ref": ["", "6", "-1", "4294967296", "99999999999999999999", "5 ", "0x5", "five"],
    "event-channel": ["", "99", "-1", "3.0"],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in FAULTS.items() for value in values])
def test_keys_that_can_not_be(key: str, value: str, probe: Plugged) -> None:
    """The device goes to Closing with an error, and can be connected properly afterwards."""
    device, peer, nodes = probe
    good = nodes.front_values[key]
    nodes.front_values[key] = value
    frontend_state(device, nodes, CONNECTED)
    assert nodes.states == ["2", "5"]
    assert nodes.errors and device.error == nodes.errors[0]
    assert not peer.leaks
    nodes.front_values[key] = good
    for state in (CLOSED, INITIALISING, CONNECTED):
        frontend_state(device, nodes, state)
    assert nodes.states == ["2", "5", "6", "2", "4"]


@pytest.mark.parametrize("mishap", [DeviceError("wrong"), RingError("broken")])
def test_a_broken_frontend_loses_its_device(mishap: Exception, probe: Plugged) -> None:
    device, peer, nodes = probe
    frontend_state(device, nodes, CONNECTED)
    device.mishap = mishap
    peer.handlers[3]()
    assert nodes.states == ["2", "4", "5"]
    assert nodes.errors == [str(mishap)]
    assert not peer.leaks


def test_a_bug_of_the_device_is_not_hidden(probe: Plugged) -> None:
    device, peer, nodes = probe
    frontend_state(device, nodes, CONNECTED)
    device.mishap = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        peer.handlers[3]()


def test_unplug_waits_for_the_frontend(probe: Plugged) -> None:
    device, peer, nodes = probe
    frontend_state(device, nodes, CONNECTED)
    device.unplug()
    assert (nodes.states, nodes.back_values["online"], nodes.removed) == (["2", "4", "5"], "0", False)
    assert peer.leaks  # the frontend may still finish its requests
    frontend_state(device, nodes, CLOSING)
    frontend_state(device, nodes, CLOSED)
    assert nodes.removed and not peer.leaks and not device.attached


def test_unplug_of_a_device_nobody_uses(probe: Plugged) -> None:
    device, _, nodes = probe
    device.unplug()
    assert nodes.removed


def test_surprise_removal(probe: Plugged) -> None:
    device, peer, nodes = probe
    frontend_state(device, nodes, CONNECTED)
    device.detach()
    assert nodes.removed and not peer.leaks
    frontend_state(device, nodes, CLOSING)  # the frontend notices late
    assert nodes.states == ["2", "4"]


def test_killed_and_reconnected(probe: Plugged) -> None:
    """The frontend sees nothing of it: no state changes."""
    device, peer, nodes = probe
    frontend_state(device, nodes, CONNECTED)
    for _ in range(3):
        device.kill()
        assert not peer.leaks
        device.reconnect()
        assert peer.leaks
    assert nodes.states == ["2", "4"]
    assert device.log == ["connect", "serve"] + ["dropped", "connect", "serve"] * 3


def test_thousands_of_connections_leave_nothing(probe: Plugged) -> None:
    device, peer, nodes = probe
    for _ in range(2000):
        for state in (CONNECTED, CLOSING, CLOSED, INITIALISING):
            frontend_state(device, nodes, state)
    assert not peer.leaks
    assert device.log.count("connect") == 2000
