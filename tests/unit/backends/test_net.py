"""The network backend against a frontend in Python: frames of all shapes, and rings that break the protocol."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from frontend import FrontRing, frontend_state, plugged
from test_packet import ip, ip6, tcp, valid

from hv.backends.net import Vif
from hv.backends.net_queue import MOST_WAITING
from hv.backends.packet import Packet
from hv.backends.switch import Switch

BLANK, VALIDATED, MORE, EXTRA = 1, 2, 4, 8  # NETTXF_*
RX_VALIDATED, RX_BLANK, RX_MORE, RX_EXTRA = 1, 2, 4, 8  # NETRXF_*
OKAY, ERROR, NULL = 0, -1, 1
BAD_GRANT = -3  # GNTST_bad_gntref
Network = Callable[[int, bytes], bytes]
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

    def __init__(self, *, queues: int = 1, split: bool = False, switch: Switch | None = None, **front: str) -> None:
        self.switch = switch or Switch("s")
        self.cable = Cable(self.switch)
        self.device = Vif(self.switch, bytes([0, 0x16, 0x3E, 0, 0, 1]), queues=queues)
        self.peer, self.nodes = plugged(self.device)
        self.tx, self.rx = [], []
        values = {"request-rx-copy": "1", "feature-sg": "1", "feature-gso-tcpv4": "1", "state": "4"}
        values |= {"feature-gso-tcpv6": "1", "feature-ipv6-csum-offload": "1"} | front
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


def extra(kind: int, data: bytes, more: int = 0) -> bytes:
    return struct.pack("<BB6sxxxx", kind, more, data)


FRAME = ip(6, tcp(b"payload"))
FRAME6 = ip6(6, tcp(b"payload"))


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
    assert interface.cable.got == [Packet(FRAME, blank=True, valid=True)]


def test_transmit_of_a_large_one(interface: Interface) -> None:
    interface.peer.grant(DATA, FRAME)
    answers = interface.send(piece(DATA, 0, len(FRAME), EXTRA | BLANK, 5), gso(3))
    assert answers == [(5, OKAY), (0, NULL)]
    assert interface.cable.got == [Packet(FRAME, blank=True, gso=3, valid=True)]


@pytest.mark.parametrize(("flags", "expected"), [
    (0, Packet(FRAME)),
    (VALIDATED, Packet(FRAME, valid=True)),
    (BLANK, Packet(FRAME, blank=True, valid=True)),
    (BLANK | VALIDATED, Packet(FRAME, blank=True, valid=True)),
])  # fmt: skip
def test_checksum_flags(flags: int, expected: Packet, interface: Interface) -> None:
    interface.peer.grant(DATA, FRAME)
    interface.send(piece(DATA, 0, len(FRAME), flags))
    assert interface.cable.got == [expected]


def test_extra_infos_of_each_type(interface: Interface) -> None:
    """Of one type the last counts; a hash is known and says nothing here; all are answered."""
    interface.peer.grant(DATA, FRAME)
    extras = [gso(9, more=1), extra(4, b"\1\1abcd", more=1), gso(3, kind=2)]
    answers = interface.send(piece(DATA, 0, len(FRAME), EXTRA | BLANK, 5), *extras)
    assert answers == [(5, OKAY), (0, NULL), (0, NULL), (0, NULL)]
    assert interface.cable.got == [Packet(FRAME, blank=True, gso=3, valid=True)]


def test_many_frames_around_the_ring(interface: Interface) -> None:
    interface.peer.grant(DATA, FRAME)
    for lap in range(40):
        requests = [piece(DATA, 0, len(FRAME), identity=lap * 20 + i) for i in range(20)]
        assert interface.send(*requests) == [(lap * 20 + i, OKAY) for i in range(20)]
    assert len(interface.cable.got) == 800


SMALL = [piece(DATA, 0, 1, MORE, 7)]
LOST = {  # what costs the frame only: (its requests, the answers)
    "a bad grant": ([piece(9999, 0, 60, MORE, 1), piece(DATA, 0, 10, 0, 2)], [(1, ERROR), (2, OKAY)]),
    "a bad grant behind": ([piece(DATA, 0, 60, MORE, 1), piece(9999, 0, 10, 0, 2)], [(1, OKAY), (2, ERROR)]),
    "shorter than ethernet": ([piece(DATA, 0, 13, 0, 1)], [(1, ERROR)]),
    "no bytes": ([piece(DATA, 0, 0, 0, 1)], [(1, ERROR)]),
    "no bytes, in two": ([piece(DATA, 0, 0, MORE, 1), piece(DATA, 0, 0, 0, 2)], [(1, ERROR), (2, ERROR)]),
    "short and beyond its page": ([piece(DATA, 4095, 13, 0, 1)], [(1, ERROR)]),
    "pieces longer than the whole": ([piece(DATA, 0, 60, MORE, 1), piece(DATA, 0, 61, 0, 2)], [(1, ERROR), (2, ERROR)]),
    "more than 64 KiB": (  # the size has wrapped around
        [piece(DATA, 0, 100, MORE, 1), *[piece(DATA, 0, 4096, MORE, 2)] * 15, piece(DATA, 0, 4096, 0, 2)],
        [(1, ERROR), *[(2, ERROR)] * 16],
    ),
    "19 further pieces": (
        [piece(DATA, 0, 60, MORE, 1), *SMALL * 18, piece(DATA, 0, 1, 0, 8)],
        [(1, ERROR), *[(7, ERROR)] * 18, (8, ERROR)],
    ),
    "an extra info too": (
        [piece(DATA, 0, 13, EXTRA | MORE, 1), gso(3), piece(DATA, 0, 1, 0, 2)],
        [(1, ERROR), (0, NULL), (2, ERROR)],
    ),
}


@pytest.mark.parametrize("name", LOST)
def test_what_costs_the_frame_only(name: str, interface: Interface) -> None:
    interface.peer.grant(DATA, FRAME)
    requests, answers = LOST[name]
    assert interface.send(*requests) == answers
    assert interface.cable.got == []
    assert interface.send(piece(DATA, 0, len(FRAME))) == [(0, OKAY)]
    assert interface.cable.got == [Packet(FRAME)]


def test_eighteen_further_pieces(interface: Interface) -> None:
    """What every frontend may expect (XEN_NETIF_NR_SLOTS_MIN)."""
    interface.peer.grant(DATA, FRAME)
    answers = interface.send(piece(DATA, 0, 60, MORE, 1), *SMALL * 17, piece(DATA, 1, 1, 0, 8))
    assert answers == [(1, OKAY), *[(7, OKAY)] * 17, (8, OKAY)]
    assert interface.cable.got == [Packet(FRAME[:42] + FRAME[:1] * 17 + FRAME[1:2])]


PROTOCOL = {
    "beyond its page": [piece(DATA, 4090, 60)],
    "offset beyond its page": [piece(DATA, 65535, 60)],
    "a further piece beyond its page": [piece(DATA, 0, 60, MORE), piece(DATA, 4090, 7)],
    "that in a frame that is lost": [piece(DATA, 0, 60, MORE), piece(DATA, 0, 61, MORE), piece(DATA, 4090, 7)],
    "no last piece": [piece(DATA, 0, 60, MORE)],
    "no extra info": [piece(DATA, 0, 60, EXTRA)],
    "no further extra info": [piece(DATA, 0, 60, EXTRA), gso(3, more=1)],
    "21 further pieces": [piece(DATA, 0, 60, MORE), *SMALL * 20, piece(DATA, 0, 1)],
    "extra info of type 0": [piece(DATA, 0, 60, EXTRA), gso(100, extra=0)],
    "extra info of type 5": [piece(DATA, 0, 60, EXTRA), gso(100, extra=5)],
    "that behind a multicast address": [piece(DATA, 0, 60, EXTRA), extra(2, b"\1abcde", more=1), gso(100, extra=9)],
    "segments of nothing": [piece(DATA, 0, 60, EXTRA), gso(0)],
    "segments of no type": [piece(DATA, 0, 60, EXTRA), gso(100, kind=0)],
    "segments of type 3": [piece(DATA, 0, 60, EXTRA), gso(100, kind=3)],
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


def test_receive_validated(interface: Interface) -> None:
    interface.offer(50)
    interface.switch.forward(interface.cable, Packet(FRAME, valid=True))
    assert interface.received() == [(50, 0, RX_VALIDATED, len(FRAME))]


@pytest.mark.parametrize(("network", "kind"), [(ip, 1), (ip6, 2)])
def test_receive_large(network: Network, kind: int, interface: Interface) -> None:
    """A frame over several buffers, its extra info behind the first."""
    frame = network(6, tcp(bytes(range(250)) * 40))
    interface.offer(*range(50, 60))
    interface.switch.forward(interface.cable, Packet(frame, blank=True, gso=1448))
    responses = interface.received()
    assert [response[0] for response in responses[:1]] == [50]
    assert [(response[2], response[3]) for response in (responses[0], *responses[2:])] == [
        (RX_MORE | RX_EXTRA | RX_BLANK | RX_VALIDATED, 4096),
        (RX_MORE, 4096),
        (0, len(frame) - 8192),
    ]
    assert struct.pack("<HHHh", *responses[1]) == gso(1448, kind)[:8]
    assert b"".join(bytes(interface.peer.pages[ref]) for ref in (50, 52, 53))[: len(frame)] == frame


FINISHED = [
    (ip, {"feature-gso-tcpv4": "0", "feature-no-csum-offload": "1"}, 1448),
    (ip, {"feature-sg": "0", "feature-no-csum-offload": "1"}, 1448),
    (ip6, {"feature-gso-tcpv6": "0", "feature-ipv6-csum-offload": "0"}, 1428),
]


@pytest.mark.parametrize(("network", "front", "size"), FINISHED)
def test_receiver_without_features_gets_finished_frames(network: Network, front: dict[str, str], size: int) -> None:
    interface = Interface(**front)
    frame = network(6, tcp(b"x" * 5000))
    interface.offer(*range(50, 60))
    interface.switch.forward(interface.cable, Packet(frame, blank=True, gso=size))
    responses = interface.received()
    head = len(frame) - 5000
    assert [status for _, _, _, status in responses] == [head + size] * 3 + [head + 5000 - 3 * size]
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
        interface.switch.forward(interface.cable, Packet(frame, gso=1000))
    assert interface.device.dropped_frames == 200 - MOST_WAITING // len(frame)


def test_a_buffer_that_can_not_be_written(interface: Interface) -> None:
    interface.offer(50, 51)
    interface.peer.readonly.add(50)
    interface.switch.forward(interface.cable, Packet(FRAME))
    interface.switch.forward(interface.cable, Packet(FRAME))
    assert interface.received() == [(50, 0, 0, BAD_GRANT), (51, 0, 0, len(FRAME))]


def test_one_buffer_of_several_that_can_not_be_written(interface: Interface) -> None:
    """Its status says so; the others are filled all the same, as grant copies are done one by one."""
    frame = FRAME + bytes(range(256)) * 40
    interface.offer(50, 51, 52, 53)
    interface.peer.readonly.add(52)
    interface.switch.forward(interface.cable, Packet(frame, gso=1000))
    first, _, second, third = interface.received()
    assert (first[3], second[3], third[3]) == (4096, BAD_GRANT, len(frame) - 8192)
    assert interface.peer.pages[53][: len(frame) - 8192] == frame[8192:]


@pytest.mark.parametrize(("mtu", "size", "arrives"), [
    (1500, 1514, True), (1500, 1518, True), (1500, 1519, False), (9000, 9014, True), (9000, 9019, False),
    (68, 82, True), (68, 87, False),
])  # fmt: skip
def test_mtu(mtu: int, size: int, arrives: bool, interface: Interface) -> None:
    """With room for a VLAN's tag; segments are not frames."""
    interface.device.mtu = mtu
    interface.offer(50, 51, 52, 53)
    interface.switch.forward(interface.cable, Packet(FRAME.ljust(size, b"x")))
    assert bool(interface.received()) == arrives == (interface.device.dropped_frames == 0)


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
