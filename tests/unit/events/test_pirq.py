"""Physical interrupts: edges and levels, EOI and the lack of it, the page of those that want one, sources by clock."""

from __future__ import annotations

import struct

import pytest
from guest_kit import Puppet, assemble, puppet

import hv
from hv.machine.interrupts import Interrupt, parse

BIND_PIRQ, CLOSE = 2, 3
EOI, EOI_PAGE, EOI_PAGE_1, UNMASK_NOTIFY = 12, 28, 17, 4
MS = 1_000_000


class Line:
    """A granted and bound interrupt of a puppet."""

    def __init__(self, p: Puppet, number: int, kind: str) -> None:
        self.p, self.number, self.acknowledged = p, number, 0
        p.domain.grant_pirq(number, kind, on_eoi=self.acknowledge)
        self.port = self.bind()

    def acknowledge(self) -> None:
        self.acknowledged += 1

    def bind(self) -> int:
        request = self.p.place(struct.pack("<III", self.number, 0, 0))
        assert self.p.hypercall("event_channel_op", BIND_PIRQ, request) == 0
        return int(struct.unpack("<I", self.p.guest.read(request + 8, 4))[0])

    def close(self) -> None:
        assert self.p.hypercall("event_channel_op", CLOSE, struct.pack("<I", self.port)) == 0

    def up(self) -> None:
        self.p.machine.raise_pirq(self.p.domain, self.number)

    def down(self) -> None:
        self.p.machine.lower_pirq(self.p.domain, self.number)

    def eoi(self) -> None:
        assert self.p.hypercall("physdev_op", EOI, struct.pack("<I", self.number)) == 0

    def take(self) -> bool:
        """Clear the pending bit, as the guest's handler does: whether there was an event."""
        shared = self.p.engine.page(self.p.guest.shared_mfn)
        at, bit = 2048 + self.port // 8, 1 << self.port % 8
        pending = bool(shared[at] & bit)
        shared[at] &= ~bit
        return pending


def test_an_edge_is_one_event() -> None:
    with puppet() as p:
        line = Line(p, 9, "edge")
        for _ in range(3):
            line.up()
            assert line.take()
            assert not line.take()
        line.eoi()  # nothing to say
        assert not line.take()
        assert line.acknowledged == 0


def test_a_level_is_quiet_until_eoi() -> None:
    with puppet() as p:
        line = Line(p, 10, "level")
        line.up()
        assert line.take()
        line.up()
        assert not line.take(), "in flight"
        line.eoi()
        assert line.take(), "still up"
        line.down()
        line.eoi()
        assert not line.take()
        line.up()
        assert line.take()
        assert line.acknowledged == 2


def test_eoi_is_taken_for_granted_after_1_ms() -> None:
    """Or a guest that never says it would stop the line for good; a line that went down meanwhile stays quiet."""
    with puppet() as p:
        line = Line(p, 10, "level")
        line.up()
        began = p.machine.now_ns
        assert line.take()
        p.machine.run(timeout=10, until_ns=began + MS - 1)
        assert not line.take()
        p.machine.run(timeout=10, until_ns=began + MS)
        assert line.take()
        line.down()
        p.machine.run(timeout=10, until_ns=began + 5 * MS)
        assert not line.take()
        assert line.acknowledged == 0, "the guest has not said it"


def test_an_eoi_in_time_stops_the_clock() -> None:
    with puppet() as p:
        line = Line(p, 10, "level")
        line.up()
        assert line.take()
        line.down()
        assert p.domain.pirqs.eoi(10) == 0  # not by the puppet: an order of its takes time
        line.up()
        assert line.take()
        began = p.machine.now_ns
        p.machine.run(timeout=10, until_ns=began + MS // 2)
        assert not line.take(), "that was the first event's millisecond"


@pytest.mark.parametrize("kind", ["edge", "level"])
def test_before_it_is_bound(kind: str) -> None:
    """An edge is lost, a level waits."""
    with puppet() as p:
        line = Line(p, 9, kind)
        line.close()
        line.up()
        line.port = line.bind()
        assert line.take() == (kind == "level")


def test_closing_forgets_what_is_in_flight() -> None:
    with puppet() as p:
        line = Line(p, 10, "level")
        line.up()
        line.close()
        line.down()
        line.port = line.bind()
        assert not line.take()
        line.up()
        assert line.take()


@pytest.mark.parametrize("operation", [EOI_PAGE, EOI_PAGE_1])
def test_page_of_those_that_want_an_eoi(operation: int) -> None:
    """Bits of lines bound from then on; version 1 unmasks the port with the EOI besides."""
    with puppet() as p:
        early = Line(p, 11, "level")
        frame = p.mfn(p.page(5))
        p.engine.page(frame)[1] = 0xFF
        assert p.hypercall("physdev_op", operation, struct.pack("<Q", frame)) == 0
        Line(p, 9, "edge")
        level = Line(p, 10, "level")
        assert p.engine.page(frame)[1] == 0xFF & ~(1 << 1), "the edge's is cleared, the level's set"
        shared = p.engine.page(p.guest.shared_mfn)
        assert shared[2560 + level.port // 8] >> level.port % 8 & 1, "masked"
        for line in (level, early):
            line.up()
            assert line.take()
            line.down()
            line.eoi()
        masked = shared[2560 + level.port // 8] >> level.port % 8 & 1
        assert masked == (operation == EOI_PAGE)
        assert p.mmuext(0, frame) < 0, "never a page table"


def test_unmask_notify_is_an_eoi_for_what_is_not_masked() -> None:
    with puppet() as p:
        lines = [Line(p, number, "level") for number in (9, 10)]
        for line in lines:
            line.up()
            assert line.take()
        assert p.guest.unmask(lines[0].port) == 0
        assert p.hypercall("physdev_op", UNMASK_NOTIFY, 0) == 0
        assert [line.acknowledged for line in lines] == [1, 0]


def test_a_guest_keeps_its_lines_when_it_reboots() -> None:
    image = assemble(
        """
main:   hypercall event_channel_op, $EVTCHNOP_bind_pirq, $line
        print_dec %rax
        call    drain_console
        shut_down SHUTDOWN_reboot
        .data
        .balign 8
line:   .long   9, 0, 0
"""
    )
    with hv.Machine() as machine:
        machine.reboot_limit = 2
        domain = machine.create(image, pirqs=["9:level,every=1ms"])
        machine.run(timeout=20)
        assert domain.console.output == b"000"
        machine.raise_pirq(domain, 9)  # of a domain that has ended: nothing


def test_refusals() -> None:
    with hv.Machine() as machine:
        domain = machine.create("hello")
        for pirq, kind in ((0, "edge"), (56, "edge"), (-1, "edge"), (9, "round")):
            with pytest.raises(hv.ConfigError, match="there is no"):
                domain.grant_pirq(pirq, kind)
        with pytest.raises(hv.ConfigError, match="was not granted"):
            machine.raise_pirq(domain, 9)
        domain.grant_pirq(9)
        with pytest.raises(hv.ConfigError, match="already"):
            domain.grant_pirq(9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("9", Interrupt(9)),
        ("55:level", Interrupt(55, "level")),
        ("9:edge,every=1ms,count=3", Interrupt(9, "edge", MS, 3)),
        ("1:count=1,every=2us,level", Interrupt(1, "level", 2000, 1)),
        ("1:every=3s", Interrupt(1, "edge", 3 * 10**9)),
        *(
            (text, None)
            for text in (
                "",
                "x",
                "0",
                "56",
                "9:",
                "9:round",
                "9:every=1",
                "9:every=0ms",
                "9:count=2",
                "9:count=0,every=1s",
            )
        ),
    ],
)
def test_specifications(text: str, expected: Interrupt | None) -> None:
    if expected is None and text != "9:":
        with pytest.raises(hv.ConfigError, match="is not an interrupt"):
            parse(text)
    else:
        assert parse(text) == (expected or Interrupt(9))


def test_virqs_from_outside() -> None:
    """VIRQ_DEBUG for every vCPU; what nobody has bound is nothing."""
    with puppet(vcpus=2) as p:
        ports = [p.domain.events.bind_virq(1, vcpu) for vcpu in (0, 1)]
        console = p.domain.events.bind_virq(2, 0)
        p.domain.debug_key()
        p.domain.raise_virq(2)
        p.domain.raise_virq(0, 1)
        assert [p.guest.port(port)[5] for port in (*ports, console)] == [1, 1, 1]
        for virq, vcpu in ((24, 0), (-1, 0), (1, 2)):
            with pytest.raises(hv.ConfigError, match="has no VIRQ"):
                p.domain.raise_virq(virq, vcpu)


def test_at() -> None:
    """In the order of time, then of asking; an action may ask for the next; what is past comes at once."""
    with hv.Machine() as machine:
        machine.create(assemble("main: hypercall sched_op, $SCHEDOP_block\n ret"))
        seen: list[tuple[str, int]] = []

        def note(name: str) -> None:
            seen.append((name, machine.now_ns))

        def again() -> None:
            note("c")
            machine.at(machine.now_ns + MS, lambda: note("d"))

        machine.at(2 * MS, lambda: note("b"))
        machine.at(2 * MS, again)
        machine.at(0, lambda: note("a"))
        assert machine.run(timeout=10) == "idle"
        assert seen == [("a", 0), ("b", 2 * MS), ("c", 2 * MS), ("d", 3 * MS)]


def test_a_handler_asks_for_a_moment_while_a_guest_runs() -> None:
    """It comes at its time, though the guest does not enter hv again."""
    with hv.Machine() as machine:
        domain = machine.create(assemble('main: print "now"\n1: jmp 1b'))
        seen: list[int] = []

        def ask(data: bytes) -> None:
            at = machine.now_ns + 2000
            machine.at(at, lambda: seen.append(machine.now_ns - at))

        domain.console.listeners.append(ask)
        assert machine.run(until_ns=MS, timeout=10) == "until"
        assert seen and all(0 <= late < 10 for late in seen)
