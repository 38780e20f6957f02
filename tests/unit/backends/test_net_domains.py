"""Network interfaces between real domains: puppets whose frontends do what Mini-OS's netfront does, by hypercalls.

Mini-OS itself is in no package of Debian's. Its order of things is kept here: rings, grants and one event channel, then
`tx-ring-ref`, `rx-ring-ref`, `event-channel`, `request-rx-copy` and state 4 in one go; to leave, states 5, 6 and 1,
each awaited at the backend, and only then are the grants taken back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from frontend import FrontRing
from guest_kit import Puppet, device_grants
from test_packet import ip, tcp

import hv
from hv.backends.net import Vif
from hv.machine.peer import LATER_NS, PATIENCE, GuestPeer
from hv.trace.events import Event, Hypercall, Note, PortEvent
from hv.trace.sinks import jsonl, text

DOMID_SELF, ACCESS, READING = 0x7FF0, 1, 5  # GTF_permit_access, with GTF_readonly
TX, RX, DATA, BUFFERS = 20, 21, 22, 30  # grant references, each of the page of that number minus 20
PACKET = ip(6, tcp(b"from one to the other"))[12:]


class Netfront:
    """A guest's end of its interface 0."""

    def __init__(self, machine: hv.Machine, **options: object) -> None:
        self.puppet = Puppet(machine, vifs=[""], memory="8M", **options)
        self.machine, self.domid = machine, self.puppet.domain.domid
        device = self.puppet.domain.devices[0]
        assert isinstance(device, Vif)
        self.device, self.path = device, f"/local/domain/{self.domid}/device/vif/0"
        table = self.puppet.page(31)
        setup = struct.pack("<HHIhxxxxxxQ", DOMID_SELF, 0, 1, 0, table)
        assert self.puppet.hypercall("grant_table_op", 2, setup, 1) == 0
        self.table = machine.engine.page(self.puppet.load(table) & 0xFFFFFFFF)
        self.mfns = [self.puppet.mfn(self.puppet.page(index)) for index in range(20)]
        self.pages = [machine.engine.page(mfn) for mfn in self.mfns]
        self.argument = self.puppet.place(bytes(16))

    # --- what Mini-OS does

    def grant(self, ref: int, flags: int = ACCESS, domid: int = 0) -> None:
        struct.pack_into("<HHI", self.table, ref * 8, flags, domid, self.mfns[ref - 20])

    def connect(self) -> None:
        for page in self.pages[:2]:
            page[:] = bytes(4096)
        self.tx = FrontRing([self.pages[0]], 12)  # type: ignore[list-item]
        self.rx = FrontRing([self.pages[1]], 8)  # type: ignore[list-item]
        for ref in (TX, RX, DATA, *range(BUFFERS, BUFFERS + 8)):
            self.grant(ref)
        self.event_channel(6, struct.pack("<HHI", DOMID_SELF, 0, 0))
        self.port = int.from_bytes(self.puppet.guest.read(self.argument + 4, 4), "little")
        for number in range(8):
            self.rx.put(struct.pack("<HxxI", number, BUFFERS + number))
        keys = {"tx-ring-ref": TX, "rx-ring-ref": RX, "event-channel": self.port, "request-rx-copy": 1, "state": 4}
        for key, value in keys.items():
            self.machine.store.write(f"{self.path}/{key}", str(value))
        self.machine.settle()
        assert self.backend_state == 4, self.device.error

    def leave(self) -> None:
        for state, expected in ((5, 5), (6, 6), (1, 2)):
            self.machine.store.write(f"{self.path}/state", str(state))
            self.machine.settle()
            assert self.backend_state == expected
        for key in ("tx-ring-ref", "rx-ring-ref", "event-channel", "request-rx-copy"):
            self.machine.store.rm(f"{self.path}/{key}")
        self.event_channel(3, struct.pack("<I", self.port))
        for ref in (TX, RX, DATA, *range(BUFFERS, BUFFERS + 8)):
            assert struct.unpack_from("<H", self.table, ref * 8)[0] & 0x18 == 0  # nobody reads or writes
            self.grant(ref, 0)

    @property
    def backend_state(self) -> int:
        return int(self.machine.store.read(f"/local/domain/0/backend/vif/{self.domid}/0/state"))

    def event_channel(self, command: int, argument: bytes) -> None:
        self.puppet.guest.write(self.argument, argument)
        assert self.puppet.hypercall("event_channel_op", command, self.argument) == 0

    def ring(self) -> None:
        self.event_channel(4, struct.pack("<I", self.port))

    def send(self, target: bytes, ref: int = DATA, identity: int = 0) -> int:
        """The status."""
        frame = target + self.device.mac + PACKET
        self.pages[DATA - 20][: len(frame)] = frame
        self.tx.put(struct.pack("<IHHHH", ref, 0, 0, identity, len(frame)))
        self.ring()
        answer = self.tx.take(4)
        assert answer is not None
        assert int.from_bytes(answer[:2], "little") == identity
        return int.from_bytes(answer[2:], "little", signed=True)

    def received(self) -> list[bytes | int]:
        """Frames, or negative statuses; each buffer is offered again."""
        found: list[bytes | int] = []
        while (response := self.rx.take(8)) is not None:
            number, offset, _, status = struct.unpack("<HHHh", response)
            page = self.pages[BUFFERS - 20 + number]
            found.append(bytes(page[offset : offset + status]) if status >= 0 else status)
            self.rx.put(struct.pack("<HxxI", number, BUFFERS + number))
        return found


@pytest.fixture
def pair() -> Iterator[tuple[Netfront, Netfront]]:
    with hv.Machine() as machine:
        guests = Netfront(machine, name="one"), Netfront(machine, name="other")
        for guest in guests:
            guest.connect()
        yield guests


Pair = tuple[Netfront, Netfront]


def test_frames_pass_between_domains(pair: Pair) -> None:
    one, other = pair
    for number in range(300):  # around both rings
        for sender, receiver in ((one, other), (other, one)):
            assert sender.send(receiver.device.mac, identity=number) == 0
            assert receiver.received() == [receiver.device.mac + sender.device.mac + PACKET]


GRANTS = {  # what a sender's grant may be: (reference, flags, to whom, status)
    "free": (DATA, 0, 0, -1),
    "for another domain": (DATA, ACCESS, 7, -1),
    "for a transfer": (DATA, 2, 0, -1),
    "never made": (100, None, 0, -1),
    "beyond the table": (100_000, None, 0, -1),
    "the largest number": (0xFFFFFFFF, None, 0, -1),
    "read-only": (DATA, READING, 0, 0),
}


@pytest.mark.parametrize("name", GRANTS)
def test_grants_of_a_sender(name: str, pair: Pair) -> None:
    """A bad one costs the frame, nothing else: the next one passes."""
    one, other = pair
    ref, flags, domid, status = GRANTS[name]
    if flags is not None:
        one.grant(ref, flags, domid)
    assert one.send(other.device.mac, ref, 5) == status
    assert len(other.received()) == (status == 0)
    one.grant(DATA)
    assert one.send(other.device.mac) == 0
    assert len(other.received()) == 1
    assert one.device.error is None and other.device.error is None


@pytest.mark.parametrize(("flags", "domid"), [(0, 0), (READING, 0), (ACCESS, 7), (2, 0)])
def test_grants_of_a_receiver(flags: int, domid: int, pair: Pair) -> None:
    """A buffer that can not be written is answered with the grant's status, and the page stays as it is."""
    one, other = pair
    other.grant(BUFFERS, flags, domid)
    other.pages[BUFFERS - 20][:] = b"?" * 4096
    assert one.send(other.device.mac) == 0
    (status,) = other.received()
    assert isinstance(status, int) and status < 0
    assert other.pages[BUFFERS - 20][:] == b"?" * 4096
    assert one.send(other.device.mac) == 0
    assert len(other.received()) == 1


def test_thousands_of_connections_leave_nothing(pair: Pair) -> None:
    one, other = pair
    host = one.machine.domain0.guest
    for guest in pair:
        guest.leave()
    assert not device_grants(one.machine)
    free = None
    for _ in range(500):
        for guest in pair:
            guest.connect()
        assert one.send(other.device.mac) == 0 and len(other.received()) == 1
        for guest in pair:
            guest.leave()
        used = sum(host.port(port)[0] != 0 for port in range(host.nr_ports))
        assert free in (None, used)
        free = used
        guest_port = one.port
        assert guest_port == other.port  # the same one again: the guest has leaked none either
    assert not device_grants(one.machine)
    assert one.machine.network.switch().addresses == {}


def test_destroyed_with_frames_in_flight(pair: Pair) -> None:
    """Unsent and unreceived ones alike: nothing stays mapped, and the neighbour goes on."""
    one, other = pair
    for _ in range(20):  # more than there are buffers
        one.send(other.device.mac)
    for number in range(5):
        other.tx.put(struct.pack("<IHHHH", DATA, 0, 0, number, 60))
    other.puppet.domain.destroy()
    assert {domid for domid, _ in device_grants(one.machine)} == {one.domid}
    assert one.send(other.device.mac) == 0
    assert one.device.error is None and one.received() == []


def test_surprise_removal_and_unplugging(pair: Pair) -> None:
    one, other = pair
    other.puppet.domain.devices.remove(other.device, force=True)
    assert not one.machine.store.exists(other.path)
    assert one.send(other.device.mac) == 0
    one.puppet.domain.devices.remove(one.device)
    assert one.backend_state == 5
    one.machine.store.write(f"{one.path}/state", "6")
    one.machine.settle()
    assert not one.device.attached and not one.machine.store.exists(one.path)
    assert not device_grants(one.machine)


def test_a_guest_without_rest_waits(pair: Pair) -> None:
    """Many rings are one answer, after LATER_NS; what has been plugged out meanwhile is not asked any more."""
    one, _ = pair
    machine, peer, port, answers = one.machine, one.device.peer, one.device._ports[0], []
    assert isinstance(peer, GuestPeer)

    def handler() -> None:
        answers.append(machine.now_ns)

    peer._handlers[port] = handler
    due = machine.now_ns + LATER_NS
    for _ in range(5):
        peer._later(port, handler)
    assert answers == []
    machine.run(until_ns=due + LATER_NS)
    assert answers == [due]
    peer._later(port, handler)
    one.puppet.domain.devices.remove(one.device, force=True)
    machine.run(until_ns=machine.now_ns + 2 * LATER_NS)
    assert answers == [due]


def test_when_a_guest_has_no_rest(pair: Pair) -> None:
    peer = pair[0].device.peer
    assert isinstance(peer, GuestPeer)
    for _ in range(2):
        assert [peer._restless() for _ in range(PATIENCE + 2)] == [False] * PATIENCE + [True] * 2
        pair[0].machine.run(until_ns=pair[0].machine.now_ns + 1000)  # it is blocked meanwhile


def test_a_backend_that_dies_before_anybody_comes() -> None:
    with hv.Machine() as machine:
        guest = Netfront(machine)
        guest.device.kill()
        guest.device.reconnect()
        guest.connect()
        assert guest.send(b"\xff" * 6) == 0


def test_captures_of_two_runs_are_equal(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with hv.Machine() as machine:
            machine.network.capture(str(tmp_path / name))
            one, other = (Netfront(machine, name=name) for name in ("one", "other"))
            for guest in (one, other):
                guest.connect()
            for sender, receiver in ((one, other), (other, one)):
                sender.send(receiver.device.mac)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    assert (tmp_path / "first").stat().st_size == 24 + 2 * (16 + 12 + len(PACKET))


def test_a_backend_that_dies_in_between(pair: Pair) -> None:
    """What the next backend finds in the rings it does; what came meanwhile is lost."""
    one, other = pair
    for _ in range(3):
        other.device.kill()
        assert one.send(other.device.mac) == 0
        other.pages[DATA - 20][:60] = one.device.mac + other.device.mac + PACKET[:48]
        other.tx.put(struct.pack("<IHHHH", DATA, 0, 0, 9, 60))
        other.device.reconnect()
        assert other.device.state == 4, other.device.error
        assert other.tx.take(4) == struct.pack("<Hh", 9, 0)
        assert len(one.received()) == 1 and other.received() == []
        assert one.send(other.device.mac) == 0 and len(other.received()) == 1


def traced() -> list[Event]:
    """What happens when one sends a frame to the other, from its hypercall on."""
    with hv.Machine() as machine:
        one, other = (Netfront(machine, name=name) for name in ("one", "other"))
        for guest in (one, other):
            guest.connect()
        one.send(b"\xff" * 6)
        other.received()  # it wants an event for the next one
        events: list[Event] = []
        machine.trace.subscribe(events.append)
        one.send(other.device.mac, identity=77)
        machine.trace.flush()
        return events


def test_a_trace_has_slots_and_their_causes() -> None:
    """From the sender's hypercall over its slot and the receiver's to the receiver's event; the same in two runs."""
    events = traced()
    sent, received = (event for event in events if isinstance(event, Note) and event.source == "vif")
    size = len(PACKET) + 12
    line = f"vif0 tx 0: request 77, {size} bytes at 0x0 of grant {DATA}: OKAY  ← {sent.cause}"
    assert text.line(sent).endswith(line)
    fields = jsonl.as_dictionary(received)
    assert (fields["interface"], fields["ring"], fields["queue"], fields["request"]) == (0, "rx", 0, 1)
    assert (fields["reference"], fields["offset"], fields["size"]) == (BUFFERS + 1, 0, size)
    assert (fields["flags"], fields["status"]) == ([], "OKAY")
    assert received.cause == sent.id
    by_id = {event.id: event for event in events}
    assert isinstance(by_id[sent.cause], PortEvent)
    assert isinstance(by_id[by_id[sent.cause].cause], Hypercall)
    told = [event for event in events if isinstance(event, PortEvent) and event.cause == received.id]
    assert [event.domain for event in told] == [2]
    assert [text.line(event) for event in traced()] == [text.line(event) for event in events]
