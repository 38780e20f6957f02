"""A guest may write anything into its control blocks and event words, at any time: hv neither follows nor believes it.

Random words, links into nowhere, into themselves and round in circles, between random operations. Whatever comes of it,
operations answer with Xen's errnos, nothing outside of the guest's own pages is written, and what belongs to other
ports works on once the guest has cleaned up.
"""

from __future__ import annotations

import random
import struct

import pytest

from hv.core.event_channel import EventChannels
from hv.engine.machine import Engine

VCPUS, PAGES, PORTS = 2, 2, 1400
PENDING, MASKED, LINKED, BUSY = 1 << 31, 1 << 30, 1 << 29, 1 << 28
ERRORS = (-2, -13, -16, -17, -22, -28)


class Hostile:
    """A domain that has changed to the FIFO ABI, in which `PORTS` IPI ports are bound."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.engine = rng, Engine(64 << 20)
        self.guest = self.engine.create_domain(1, VCPUS, 64, 4000)
        self.events = EventChannels(self.guest, lambda domid: None)
        self.frames = [self.guest.populate(pfn) for pfn in range(VCPUS + PAGES + 2)]
        self.bystanders = self.frames[-2:]  # pages of the guest that hv has no business with
        for mfn in self.bystanders:
            self.engine.page(mfn)[:] = b"\xa5" * 4096
        for i in range(PORTS):
            assert self.events.bind_ipi(i % VCPUS) == i + 1
        for vcpu in range(VCPUS):
            assert self.guest.init_control(vcpu, self.frames[vcpu], 4096 - 72) == 0
        for i in range(PAGES):
            assert self.guest.expand_array(self.frames[VCPUS + i]) == 0

    def word(self) -> int:
        flags = self.rng.choice((0, PENDING, MASKED, LINKED, BUSY, PENDING | LINKED, LINKED | BUSY, 0xF << 28))
        return flags | self.rng.choice((0, 1, self.rng.randrange(PORTS), 4095, 131071, self.rng.randrange(1 << 28)))

    def write(self) -> None:
        """Some words of the array or of a control block."""
        page = self.engine.page(self.frames[self.rng.randrange(VCPUS + PAGES)])
        for _ in range(self.rng.choice((1, 1, 8, 64))):
            struct.pack_into("<I", page, 4 * self.rng.randrange(1024), self.word())

    def fill(self) -> None:
        page = self.engine.page(self.frames[self.rng.randrange(VCPUS + PAGES)])
        page[:] = struct.pack("<I", self.word()) * 1024

    def self_link(self) -> None:
        """A word that leads to itself, and two that lead to each other."""
        first, second = self.rng.sample(range(1, 1024), 2)
        page = self.engine.page(self.frames[VCPUS])
        for port, link in ((first, first), (second, first), (first, second)):
            struct.pack_into("<I", page, 4 * port, LINKED | PENDING | link)

    def operation(self) -> int | None:
        port = self.rng.choice((self.rng.randrange(PORTS + 64), self.rng.randrange(8), 1 << 20))
        vcpu = self.rng.randrange(VCPUS + 1)
        return self.rng.choice(
            (
                lambda: self.guest.send(port),
                lambda: self.guest.send(port),
                lambda: self.guest.unmask(port),
                lambda: self.guest.set_priority(port, self.rng.randrange(17)),
                lambda: self.events.close(port),
                lambda: self.events.bind_ipi(vcpu),
                lambda: self.events.bind_vcpu(port, vcpu),
                lambda: self.events.bind_virq(self.rng.randrange(4), vcpu),
                lambda: self.guest.init_control(vcpu, self.frames[0], 0),
            )
        )()

    def step(self) -> None:
        self.rng.choice((self.write, self.write, self.fill, self.self_link, lambda: None))()
        for _ in range(self.rng.randrange(20)):
            result = self.operation()
            assert result is None or result >= 0 or result in ERRORS, result

    def check(self) -> None:
        for mfn in self.bystanders:
            assert bytes(self.engine.page(mfn)) == b"\xa5" * 4096
        assert bytes(self.engine.page(self.guest.shared_mfn)[2048:3072]) == bytes(1024), "the 2-level bits are nobody's"
        list(self.events)


@pytest.mark.parametrize("seed", range(12))
def test_random_memory(seed: int) -> None:
    hostile = Hostile(random.Random(seed))
    for _ in range(150):
        hostile.step()
    hostile.check()
    for mfn in hostile.frames[: VCPUS + PAGES]:  # the guest thinks better of it
        hostile.engine.page(mfn)[:] = bytes(4096)
    assert hostile.events.reset(1) == 0
    hostile.check()
    assert hostile.events.bind_ipi(0) == 1
    assert hostile.guest.send(1) == 0
    assert [row.sent for row in hostile.events] == [1]
    assert all(hostile.engine.frame(mfn)[2] == 0 for mfn in hostile.frames[: VCPUS + PAGES])


def test_a_full_circle_of_busy_words() -> None:
    """Every word LINKED and BUSY, each leading to the next: sending to all of them ends, and says so."""
    hostile = Hostile(random.Random(0))
    for i in range(PAGES):
        page = hostile.engine.page(hostile.frames[VCPUS + i])
        page[:] = b"".join(struct.pack("<I", LINKED | BUSY | (i * 1024 + j + 1) % 2048) for j in range(1024))
    assert all(hostile.guest.send(port) == 0 for port in range(1, PORTS + 1))
    assert hostile.events.bind_ipi(0) == 2048  # every word behind the bound ports looks busy, as far as there is one
    assert all(hostile.events.close(port) == 0 for port in range(1, PORTS + 1))
    assert hostile.events.bind_ipi(0) == 2049, "closed ports are still linked"
