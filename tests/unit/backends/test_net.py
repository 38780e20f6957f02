"""The network backend against a frontend in Python: frames of all shapes, and rings that break the protocol."""

from __future__ import annotations

import struct

import pytest
from frontend import FrontRing, frontend_state, plugged
from test_packet import ip, tcp, valid

from hv.backends.net import MOST_WAITING, Vif
from hv.backends.packet import Packet
from hv.backends.switch import Switch

BLANK, VALIDATED, MORE, EXTRA = 1, 2, 4, 8  # NETTXF_*
RX_VALIDATED, RX_BLANK, RX_MORE, RX_EXTRA = 1, 2, 4, 8  # NETRXF_*
OKAY, ERROR, NULL = 0, -1, 1
TX, RX, PORT = 1, 2, 3
DATA = 100


class Cable:
    """The switch's other port."""

    def __init__(self, switch: Switch) -> None:
        self.got: list[Packet] = []
        switch.plug(self)

    def deliver(self, packet: Packet) -> None:
        self.got.append(packet)


class Interface:
    """A connected vif, `split` or with one event channel, with `queues` pairs of rings."""

    def __init__(self, *, queues: int = 1, split: bool = False, **front: str) -> None:
        self.switch = Switch("s")
        self.cable = Cable(self.switch)
        self.device = Vif(self.switch, bytes([0, 0x16, 0x3E, 0, 0, 1]), queues=queues)
        self.peer, self.nodes = plugged(self.device)
        self.tx, self.rx = [], []
        values = {"request-rx-copy": "1", "feature-sg": "1", "feature-gso-tcpv4": "1", "state": "4"} | front
        if queues > 1:
            values["multi-queue-num-queues"] = str(queues)
        for queue in range(queues):
            prefix = f"queue-{queue}/" if queues > 1 else ""
            for name, rings, entry, ref in (("tx", self.tx, 12, 1), ("rx", self.rx, 8, 2)):
                rings.append(FrontRing([self.peer.grant(ref + 2 * queue)], entry))
                values[f"{prefix}{name}-ring-ref"] = str(ref + 2 * queue)
            if split:
                values |= {f"{prefix}event-channel-tx": str(3 + queue), f"{prefix}event-channel-rx": str(20 + queue)}
            else:
                values[f"{prefix}event-channel"] = str(3 + queue)
        self.nodes.front_values |= {key.replace("_", "-"): value for key, value in values.items()}
        self.device.frontend_changed()

    def send(self, *requests: bytes, queue: int = 0) -> list[tuple[int, int]]:
        """(id, status) of every answer."""
        for request in requests:
            self.tx[queue].put(request)
        self.peer.handlers[PORT + queue]()
        answers = []
        while (answer := self.tx[queue].take(4)) is not None:
            answers.append(struct.unpack("<Hh", answer))
        return answers

    def offer(self, *refs: int, queue: int = 0) -> None:
        """Buffers to receive into, with the reference as id."""
        for ref in refs:
            self.peer.grant(ref)
            self.rx[queue].put(struct.pack("<HxxI", ref, ref))

    def received(self, queue: int = 0) -> list[tuple[int, int, int, int]]:
        """(id, offset, flags, status) of every response."""
        result = []
        while (response := self.rx[queue].take(8)) is not None:
            result.append(struct.unpack("<HHHh", response))
        return result


def piece(ref: int, offset: int, size: int, flags: int = 0, identity: int = 0) -> bytes:
    return struct.pack("<IHHHH", ref, offset, flags, identity, size)


def gso(size: int, kind: int = 1, more: int = 0, extra: int = 1) -> bytes:
    return struct.pack("<BBHBxHxxxx", extra, more, size, kind, 0)


FRAME = ip(6, tcp(b"payload"))


@pytest.fixture
def interface() -> Interface:
    interface = Interface()
    assert interface.nodes.states == ["2", "4"], interface.nodes.errors
    return interface


def test_transmit(interface: Interface) -> None:
    interface.peer.grant(DATA, bytes(10) + FRAME, readonly=True)
    assert interface.send(piece(DATA, 10, len(FRAME), identity=77)) == [(77, OKAY)]
    assert interface.cable.got == [Packet(FRAME)]


def test_transmit_in_pieces(interface: Interface) -> None:
    """The first request has the whole frame's size, the others their own."""
    interface.peer.grant(DATA, FRAME[:20])
    interface.peer.grant(DATA + 1, FRAME[20:50])
    interface.peer.grant(DATA + 2, b"..." + FRAME[50:])
    answers = interface.send(
        piece(DATA, 0, len(FRAME), MORE | BLANK, 1),
        piece(DATA + 1, 0, 30, MORE, 2),
        piece(DATA + 2, 3, len(FRAME) - 50, 0, 3),
    )
    assert answers == [(1, OKAY), (2, OKAY), (3, OKAY)]
    assert interface.cable.got == [Packet(FRAME, blank=True)]


def test_transmit_of_a_large_one(interface: Interface) -> None:
    interface.peer.grant(DATA, FRAME)
    answers = interface.send(piece(DATA, 0, len(FRAME), EXTRA | BLANK, 5), gso(3))
    assert answers == [(5, OKAY), (0, NULL)]
    assert interface.cable.got == [Packet(FRAME, blank=True, gso=3)]


def test_many_frames_around_the_ring(interface: Interface) -> None:
    interface.peer.grant(DATA, FRAME)
    for lap in range(40):
        requests = [piece(DATA, 0, len(FRAME), identity=lap * 20 + i) for i in range(20)]
        assert interface.send(*requests) == [(lap * 20 + i, OKAY) for i in range(20)]
    assert len(interface.cable.got) == 800


def test_a_grant_that_can_not_be_read_costs_the_frame_only(interface: Interface) -> None:
    interface.peer.grant(DATA, FRAME)
    assert interface.send(piece(9999, 0, 60, MORE, 1), piece(DATA, 0, 10, 0, 2)) == [(1, ERROR), (2, ERROR)]
    assert interface.send(piece(DATA, 0, len(FRAME))) == [(0, OKAY)]
    assert interface.cable.got == [Packet(FRAME)]


PROTOCOL = {
    "shorter than ethernet": [piece(DATA, 0, 13)],
    "no bytes": [piece(DATA, 0, 0)],
    "beyond its page": [piece(DATA, 4090, 60)],
    "offset beyond its page": [piece(DATA, 65535, 60)],
    "pieces larger than the whole": [piece(DATA, 0, 60, MORE), piece(DATA, 0, 61)],
    "no last piece": [piece(DATA, 0, 60, MORE)],
    "no extra info": [piece(DATA, 0, 60, EXTRA)],
    "too many pieces": [piece(DATA, 0, 60, MORE), *[piece(DATA, 0, 1, MORE)] * 25, piece(DATA, 0, 1)],
    "unknown extra info": [piece(DATA, 0, 60, EXTRA), gso(100, extra=9)],
    "multicast list": [piece(DATA, 0, 60, EXTRA), gso(100, extra=2)],
    "extra infos without end": [piece(DATA, 0, 60, EXTRA), *[gso(100, more=1)] * 40],
    "segments of nothing": [piece(DATA, 0, 60, EXTRA), gso(0)],
    "segments of IPv6": [piece(DATA, 0, 60, EXTRA), gso(100, kind=2)],
}


@pytest.mark.parametrize("name", PROTOCOL)
def test_broken_protocol_costs_the_device(name: str, interface: Interface) -> None:
    interface.peer.grant(DATA, FRAME)
    for request in PROTOCOL[name]:
        interface.tx[0].put(request)
    interface.peer.handlers[PORT]()
    assert interface.nodes.states == ["2", "4", "5"]
    assert interface.nodes.errors
    assert not interface.peer.leaks
    interface.switch.forward(interface.cable, Packet(FRAME))  # nobody is there any more


@pytest.mark.parametrize("ring", ["tx", "rx"])
def test_corrupt_index(ring: str, interface: Interface) -> None:
    getattr(interface, ring)[0].set_word(0, 5000)
    interface.peer.handlers[PORT]()
    if ring == "rx":
        interface.switch.forward(interface.cable, Packet(FRAME))
    assert interface.nodes.states == ["2", "4", "5"]
    assert not interface.peer.leaks


def test_receive(interface: Interface) -> None:
    interface.offer(50, 51)
    interface.switch.forward(interface.cable, Packet(FRAME))
    assert interface.received() == [(50, 0, 0, len(FRAME))]
    assert interface.peer.pages[50][: len(FRAME)] == FRAME
    interface.switch.forward(interface.cable, Packet(FRAME, blank=True))
    assert interface.received() == [(51, 0, RX_BLANK | RX_VALIDATED, len(FRAME))]


def test_receive_large(interface: Interface) -> None:
    """A frame over several buffers, its extra info behind the first."""
    frame = ip(6, tcp(bytes(range(250)) * 40))
    interface.offer(*range(50, 60))
    interface.switch.forward(interface.cable, Packet(frame, blank=True, gso=1448))
    responses = interface.received()
    assert [response[0] for response in responses[:1]] == [50]
    assert [(response[2], response[3]) for response in (responses[0], *responses[2:])] == [
        (RX_MORE | RX_EXTRA | RX_BLANK | RX_VALIDATED, 4096),
        (RX_MORE, 4096),
        (0, len(frame) - 8192),
    ]
    assert struct.pack("<HHHh", *responses[1]) == gso(1448)[:8]
    assert b"".join(bytes(interface.peer.pages[ref]) for ref in (50, 52, 53))[: len(frame)] == frame


def test_receiver_without_features_gets_finished_frames() -> None:
    interface = Interface(**{"feature-gso-tcpv4": "0", "feature-no-csum-offload": "1"})
    frame = ip(6, tcp(b"x" * 5000))
    interface.offer(*range(50, 60))
    interface.switch.forward(interface.cable, Packet(frame, blank=True, gso=1448))
    responses = interface.received()
    assert [status for _, _, _, status in responses] == [1502, 1502, 1502, 710]
    assert all(flags == 0 for _, _, flags, _ in responses)
    assert all(valid(bytes(interface.peer.pages[ref][:size])) for ref, _, _, size in responses)


def test_frames_wait_for_room(interface: Interface) -> None:
    for _ in range(5):
        interface.switch.forward(interface.cable, Packet(FRAME))
    assert interface.received() == []
    interface.offer(50, 51)
    interface.peer.handlers[PORT]()
    assert len(interface.received()) == 2
    interface.offer(52, 53, 54, 55)
    interface.peer.handlers[PORT]()
    assert len(interface.received()) == 3


def test_waiting_is_bounded(interface: Interface) -> None:
    frame = FRAME + bytes(60000)
    for _ in range(200):
        interface.switch.forward(interface.cable, Packet(frame))
    assert interface.device.dropped_frames == 200 - MOST_WAITING // len(frame)


def test_a_buffer_that_can_not_be_written(interface: Interface) -> None:
    interface.offer(50, 51)
    interface.peer.readonly.add(50)
    interface.switch.forward(interface.cable, Packet(FRAME))
    interface.switch.forward(interface.cable, Packet(FRAME))
    assert interface.received() == [(50, 0, 0, ERROR), (51, 0, 0, len(FRAME))]


@pytest.mark.parametrize("queues", [1, 2, 4])
def test_queues_and_split_channels(queues: int) -> None:
    interface = Interface(queues=queues, split=True)
    assert interface.nodes.states == ["2", "4"], interface.nodes.errors
    interface.peer.grant(DATA, FRAME)
    for queue in range(queues):
        assert interface.send(piece(DATA, 0, len(FRAME)), queue=queue) == [(0, OKAY)]
        interface.offer(50 + queue, queue=queue)
        interface.peer.handlers[20 + queue]()
    for _ in range(queues * 3):
        interface.switch.forward(interface.cable, Packet(FRAME))
    assert sum(len(interface.received(queue)) for queue in range(queues)) == 1  # one connection, one queue
    frontend_state(interface.device, interface.nodes, 5)
    assert not interface.peer.leaks


CONNECTIONS = [
    {"request-rx-copy": "0"},
    {"tx-ring-ref": "9"},
    {"rx-ring-ref": "x"},
    {"event-channel": "99"},
    {"multi-queue-num-queues": "0"},
    {"multi-queue-num-queues": "2"},
]


@pytest.mark.parametrize("front", CONNECTIONS)
def test_connections_that_can_not_be(front: dict[str, str]) -> None:
    interface = Interface()
    for state in (5, 6, 1):
        frontend_state(interface.device, interface.nodes, state)
    interface.nodes.front_values |= front
    frontend_state(interface.device, interface.nodes, 4)
    assert interface.nodes.states[-1] == "5"
    assert not interface.peer.leaks
