"""What a network interface's frontend says beside sending: multicast groups; and what a trace is told of its slots."""

from __future__ import annotations

import struct

from frontend import frontend_state
from test_net import DATA, ERROR, EXTRA, FRAME, MORE, NULL, OKAY, RX_EXTRA, RX_MORE, Interface, extra, gso, piece

from hv.backends.net import MOST_GROUPS
from hv.backends.net_queue import Slot
from hv.backends.packet import Packet
from hv.backends.switch import Switch

GROUP, OTHER_GROUP = b"\x01\0\x5e\0\0\1", b"\x33\x33\0\0\0\1"


def addressed(target: bytes) -> Packet:
    return Packet(target + FRAME[6:])


def test_multicast_control() -> None:
    """A frontend that asks for it gets the groups that it has joined, broadcasts, and what is for one address."""
    interface = Interface(**{"request-multicast-control": "1"})
    assert interface.nodes.back_values["feature-multicast-control"] == "1"
    interface.offer(*range(50, 60))

    def arrives(target: bytes) -> bool:
        interface.switch.forward(interface.cable, addressed(target))
        return bool(interface.received())

    assert (arrives(GROUP), arrives(b"\xff" * 6), arrives(b"\2" * 6)) == (False, True, True)
    assert interface.send(piece(0, 0, 0, EXTRA, 9), extra(2, GROUP)) == [(9, OKAY), (0, NULL)]
    assert (arrives(GROUP), arrives(OTHER_GROUP)) == (True, False)
    assert interface.send(piece(0, 0, 0, EXTRA, 9), extra(3, GROUP)) == [(9, OKAY), (0, NULL)]
    assert not arrives(GROUP)
    assert interface.cable.got == []


def test_multicast_without_control() -> None:
    interface = Interface()
    interface.offer(50)
    interface.switch.forward(interface.cable, addressed(GROUP))
    assert interface.received()


def test_groups_are_bounded() -> None:
    interface = Interface()
    answers = [
        interface.send(piece(0, 0, 0, EXTRA, 9), extra(2, struct.pack(">HI", 0x0100, number)))[0][1]
        for number in range(MOST_GROUPS + 2)
    ]
    assert answers == [OKAY] * MOST_GROUPS + [ERROR] * 2


def test_groups_end_with_the_connection() -> None:
    interface = Interface(**{"request-multicast-control": "1"})
    interface.send(piece(0, 0, 0, EXTRA, 9), extra(2, GROUP))
    for state in (5, 6, 1, 4):
        frontend_state(interface.device, interface.nodes, state)
    assert interface.nodes.states[-1] == "4"
    interface.switch.forward(interface.cable, addressed(GROUP))
    assert interface.received() == []


class Recorder:
    attached = True

    def __init__(self) -> None:
        self.slots: list[Slot] = []

        self.causes: list[int] = []
        self.now = 0

    def slot(self, slot: Slot) -> int:
        self.slots.append(slot)
        self.causes.append(self.now)
        return len(self.slots)

    def because(self, cause: int) -> int:
        before, self.now = self.now, cause
        return before


def test_slots_are_reported() -> None:
    interface = Interface()
    watch = interface.device.watch = Recorder()
    interface.peer.grant(DATA, FRAME)
    interface.send(piece(DATA, 0, 50, EXTRA | MORE, 5), gso(3), piece(9999, 7, 10, 0, 6))
    interface.offer(50, 51, 52)
    interface.switch.forward(interface.cable, Packet(FRAME.ljust(5000, b"x"), gso=1000))
    assert watch.slots == [
        Slot(True, 0, 5, DATA, 0, 50, EXTRA | MORE, OKAY),
        Slot(True, 0, 6, 9999, 7, 10, 0, ERROR),
        Slot(False, 0, 50, 50, 0, 4096, RX_EXTRA | RX_MORE, 4096),
        Slot(False, 0, 52, 52, 0, 904, 0, 904),
    ]


def test_slots_are_causes() -> None:
    """A receiver's slot is the effect of the sender's first one; nothing is afterwards."""
    switch = Switch("s")
    one, other = Interface(switch=switch), Interface(switch=switch)
    watch = one.device.watch = other.device.watch = Recorder()
    one.peer.grant(DATA, FRAME)
    other.offer(50, 51)
    one.tx[0].put(piece(DATA, 0, len(FRAME), MORE, 5))
    one.send(piece(DATA, 0, 4, 0, 6), piece(DATA, 0, len(FRAME), 0, 7))
    assert [slot.identity for slot in watch.slots] == [5, 6, 7, 50, 51]
    assert watch.causes == [0, 0, 0, 1, 3]
    assert watch.now == 0
