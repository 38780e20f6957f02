"""The event-channel data plane and its rules in lockstep with the model: two guests, both ABIs, random operations.

The operations are those of hypercalls, made without guest code; the memory is the guests' own, and a consumer takes
events from it as Linux does. After every operation, every bit that the guests see is what the model says.
"""

from __future__ import annotations

import os
import random
import struct
from typing import Any

import pytest
from event_model import CLOSED, WORDS, Domain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hv.core.event_channel import EventChannels
from hv.engine.machine import Engine

PENDING, MASKED, LINKED, BUSY = 1 << 31, 1 << 30, 1 << 29, 1 << 28
LINK_MASK = (1 << 17) - 1
PENDING_AT, MASK_AT, INFO_SIZE, SELECTOR_AT = 2048, 2560, 64, 8
VCPUS, PAGES = 3, 3
ROUNDS = int(os.environ.get("HV_EVENT_ROUNDS", "0"))  # the long mode: so many random operations


class Guest:
    """One domain of the engine with the memory that its event channels need, and the model beside it."""

    def __init__(self, engine: Engine, domid: int, guests: dict[int, Guest], max_port: int) -> None:
        self.engine, self.guest = engine, engine.create_domain(domid, VCPUS, 64, max_port)
        self.frames = [self.guest.populate(pfn) for pfn in range(VCPUS + PAGES)]
        self.events = EventChannels(self.guest, lambda other: guests[other].events if other in guests else None)
        self.model = Domain(domid, VCPUS, max_port)
        self.heads: dict[tuple[int, int], int] = {}  # the consumer's own copies
        self.shared = engine.page(self.guest.shared_mfn)

    # --- memory, as the guest sees it

    def control(self, vcpu: int) -> memoryview:
        return self.engine.page(self.frames[vcpu])

    def word_at(self, port: int) -> tuple[memoryview, int]:
        return self.engine.page(self.frames[VCPUS + port // WORDS]), port % WORDS * 4

    def word(self, port: int) -> int:
        page, at = self.word_at(port)
        return int(struct.unpack_from("<I", page, at)[0])

    def set_word(self, port: int, value: int) -> None:
        page, at = self.word_at(port)
        struct.pack_into("<I", page, at, value)

    def bitmap(self, at: int) -> set[int]:
        value = int.from_bytes(self.shared[at : at + 512], "little")
        return {port for port in range(value.bit_length()) if value >> port & 1} if value else set()

    def set_bit(self, at: int, port: int, value: bool) -> None:
        byte, bit = at + port // 8, 1 << port % 8
        self.shared[byte] = self.shared[byte] | bit if value else self.shared[byte] & ~bit

    # --- what the guest does without Xen

    def mask(self, port: int) -> None:
        if not self.guest.fifo:
            self.set_bit(MASK_AT, port, True)
        elif self.model.has_word(port):
            self.set_word(port, self.word(port) | MASKED)

    def scan(self, vcpu: int) -> list[int]:
        info = vcpu * INFO_SIZE
        self.shared[info] = 0
        if not self.guest.fifo:
            return self._scan_bitmap(info + SELECTOR_AT)
        return self._scan_queues(vcpu) if vcpu in self.model.fifo.controls else []

    def _scan_bitmap(self, selector_at: int) -> list[int]:
        (selector,) = struct.unpack_from("<Q", self.shared, selector_at)
        struct.pack_into("<Q", self.shared, selector_at, 0)
        words = [i for i in range(64) if selector >> i & 1]
        taken = sorted(p for p in self.bitmap(PENDING_AT) - self.bitmap(MASK_AT) if p // 64 in words)
        for port in taken:
            self.set_bit(PENDING_AT, port, False)
        return taken

    def _scan_queues(self, vcpu: int) -> list[int]:
        control = self.control(vcpu)
        ready = struct.unpack_from("<I", control)[0]
        struct.pack_into("<I", control, 0, 0)
        taken = []
        for priority in range(16):
            while ready >> priority & 1:
                head = self.heads.get((vcpu, priority), 0) or struct.unpack_from("<I", control, 8 + 4 * priority)[0]
                word = self.word(head)
                assert word & LINKED, f"port {head} on queue {priority} is not linked"
                assert not word & BUSY
                link = word & LINK_MASK
                self.heads[vcpu, priority] = link
                if link == 0:
                    ready &= ~(1 << priority)
                word &= ~(LINKED | LINK_MASK)
                if word & PENDING and not word & MASKED:
                    word &= ~PENDING
                    taken.append(head)
                self.set_word(head, word)
        return taken

    # --- with Xen

    def init_control(self, vcpu: int) -> int:
        if vcpu < VCPUS and not (self.model.fifo and vcpu in self.model.fifo.controls):
            self.control(vcpu)[:] = bytes(4096)
            self.heads = {key: head for key, head in self.heads.items() if key[0] != vcpu}
        return self.guest.init_control(vcpu, self.frames[vcpu] if vcpu < VCPUS else 0, 0)

    def expand_array(self) -> int:
        pages = self.model.fifo.pages if self.model.fifo else 0
        self.engine.page(self.frames[VCPUS + pages])[:] = bytes(4096)
        return self.guest.expand_array(self.frames[VCPUS + pages])

    # --- equality

    def check(self) -> None:
        model = self.model
        assert self.guest.nr_ports == len(model.ports)
        assert self.guest.fifo == (model.fifo is not None)
        assert self.bitmap(PENDING_AT) == model.pending
        assert self.bitmap(MASK_AT) == model.masked
        for vcpu in range(VCPUS):
            pending, _, selector = self.guest.upcall_state(vcpu)
            assert bool(pending) == model.upcall[vcpu]
            assert {i for i in range(64) if selector >> i & 1} == model.selected[vcpu]
        for port in range(1, len(model.ports)):
            self._check_port(port)
        if model.fifo is not None:
            self._check_queues()

    def _check_port(self, port: int) -> None:
        p = self.model.ports[port]
        assert self.guest.port(port)[:2] == (p.state, p.vcpu), port
        if p.state == CLOSED:
            return
        pending, masked, priority, sent, merged = self.guest.port_events(port)
        assert pending == self.model.is_pending(port)
        assert (sent, merged) == (p.sent, p.merged), port
        assert self.model.conserved(port), port
        if self.model.fifo is not None:
            assert priority == p.priority
            assert masked == (not self.model.has_word(port) or port in self.model.fifo.masked)

    def _check_queues(self) -> None:
        """The lists in the guest's memory are the model's."""
        fifo = self.model.fifo
        for port in range(min(fifo.pages * WORDS, len(self.model.ports))):
            word = self.word(port)
            flags = bool(word & PENDING), bool(word & MASKED), bool(word & LINKED)
            assert flags == (port in fifo.pending, port in fifo.masked, fifo.linked(port)), port
        for vcpu in fifo.controls:
            ready = struct.unpack_from("<I", self.control(vcpu))[0]
            assert {i for i in range(16) if ready >> i & 1} == fifo.ready.get(vcpu, set())
        for (vcpu, priority), queue in fifo.queues.items():
            at = self.heads.get((vcpu, priority), 0)
            if queue and not at:
                at = struct.unpack_from("<I", self.control(vcpu), 8 + 4 * priority)[0]
            found = []
            while at and len(found) <= len(queue):
                found.append(at)
                at = self.word(at) & LINK_MASK
            assert found == queue


class Lockstep:
    """Two guests; `crowd` ports are in use before anything happens, so that larger numbers are met."""

    def __init__(self, crowd: int, max_port: int) -> None:
        self.guests: dict[int, Guest] = {}
        engine = Engine(64 << 20)
        for domid in (1, 2):
            self.guests[domid] = Guest(engine, domid, self.guests, max_port)
        for guest in self.guests.values():
            for _ in range(crowd):
                assert guest.events.bind_ipi(0) == guest.model.bind_ipi(0)
        self.lowest = max(1, crowd - 8)
        self.steps, self.check_every = 0, 1

    def port(self, number: int) -> int:
        """The ports that operations are about: a few around the crowd's end."""
        return number + self.lowest if number < 1000 else number

    def do(self, domid: int, name: str, *words: int) -> None:
        me, other = self.guests[domid], self.guests[3 - domid]
        expected, result = getattr(self, name)(me, me.model, other, *words)
        assert result == expected, (name, words)
        self.steps += 1
        if self.steps % self.check_every == 0:
            me.check()
            other.check()

    # --- each operation: (what the model says, what hv says)

    def unbound(self, me: Guest, model: Domain, other: Guest, loopback: int) -> Any:
        allowed = model.domid if loopback else other.model.domid
        return model.alloc_unbound(allowed), me.events.alloc_unbound(allowed)

    def interdomain(self, me: Guest, model: Domain, other: Guest, loopback: int, port: int) -> Any:
        peer, remote = (me if loopback else other), self.port(port)
        return model.bind_interdomain(peer.model, remote), me.events.bind_interdomain(peer.model.domid, remote)

    def ipi(self, me: Guest, model: Domain, other: Guest, vcpu: int) -> Any:
        return model.bind_ipi(vcpu), me.events.bind_ipi(vcpu)

    def bind_virq(self, me: Guest, model: Domain, other: Guest, virq: int, vcpu: int) -> Any:
        return model.bind_virq(virq, vcpu), me.events.bind_virq(virq, vcpu)

    def bind_vcpu(self, me: Guest, model: Domain, other: Guest, port: int, vcpu: int) -> Any:
        return model.bind_vcpu(self.port(port), vcpu), me.events.bind_vcpu(self.port(port), vcpu)

    def send(self, me: Guest, model: Domain, other: Guest, port: int) -> Any:
        return model.send(self.port(port)), me.guest.send(self.port(port))

    def virq(self, me: Guest, model: Domain, other: Guest, vcpu: int, virq: int) -> Any:
        return model.virq(vcpu, virq), me.guest.raise_virq(vcpu, virq)

    def mask(self, me: Guest, model: Domain, other: Guest, port: int) -> Any:
        me.mask(self.port(port))
        return model.mask(self.port(port)), None

    def unmask(self, me: Guest, model: Domain, other: Guest, port: int) -> Any:
        return model.unmask(self.port(port)), me.guest.unmask(self.port(port))

    def close(self, me: Guest, model: Domain, other: Guest, port: int) -> Any:
        return model.close(self.port(port)), me.events.close(self.port(port))

    def reset(self, me: Guest, model: Domain, other: Guest) -> Any:
        return model.reset(), me.events.reset(model.domid)

    def scan(self, me: Guest, model: Domain, other: Guest, vcpu: int) -> Any:
        taken = me.scan(vcpu)
        return model.scan(vcpu), taken

    def init_control(self, me: Guest, model: Domain, other: Guest, vcpu: int) -> Any:
        result = me.init_control(vcpu)
        return model.init_control(vcpu), result

    def expand_array(self, me: Guest, model: Domain, other: Guest) -> Any:
        if model.fifo and model.fifo.pages == PAGES:
            return None, None
        result = me.expand_array()
        return model.expand_array(), result

    def set_priority(self, me: Guest, model: Domain, other: Guest, port: int, priority: int) -> Any:
        return model.set_priority(self.port(port), priority), me.guest.set_priority(self.port(port), priority)


PORT, VCPU, FLAG = (0, 24), (0, VCPUS - 1), (0, 1)
# Operation: (how often, ranges of its words). A word in a range may be replaced by one that is out of it.
OPERATIONS: dict[str, tuple[int, tuple[tuple[int, int], ...]]] = {
    "unbound": (3, (FLAG,)),
    "interdomain": (4, (FLAG, PORT)),
    "ipi": (3, (VCPU,)),
    "bind_virq": (2, ((0, 3), VCPU)),
    "bind_vcpu": (2, (PORT, VCPU)),
    "send": (12, (PORT,)),
    "virq": (4, (VCPU, (0, 3))),
    "mask": (4, (PORT,)),
    "unmask": (5, (PORT,)),
    "close": (2, (PORT,)),
    "reset": (1, ()),
    "scan": (6, (VCPU,)),
    "init_control": (3, (VCPU,)),
    "expand_array": (2, ()),
    "set_priority": (4, (PORT, (0, 15))),
}
WRONG = {PORT: (4096, 1 << 20), VCPU: (VCPUS, 99), (0, 15): (16, 1 << 31)}
NEVER_WRONG = {"scan", "virq", "mask"}


def operation(name: str) -> st.SearchStrategy[tuple[Any, ...]]:
    words = []
    for limits in OPERATIONS[name][1]:
        right: st.SearchStrategy[int] = st.integers(*limits)
        words.append(
            right if name in NEVER_WRONG else st.one_of(right, right, st.sampled_from((*WRONG.get(limits, (0,)),)))
        )
    return st.tuples(st.integers(1, 2), st.just(name), *words)


operations = st.sampled_from([name for name, (often, _) in OPERATIONS.items() for _ in range(often)]).flatmap(operation)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from((0, 60, 1016)),
    st.sampled_from((70, 2000)),
    st.lists(operations, min_size=1, max_size=60),
)
def test_lockstep(crowd: int, spare: int, steps: list[tuple[Any, ...]]) -> None:
    lockstep = Lockstep(crowd, crowd + spare if spare > 100 else max(crowd, 70) + 4)
    for domid, name, *words in steps:
        lockstep.do(domid, name, *words)


def random_step(rng: random.Random, rare: dict[str, float]) -> tuple[Any, ...]:
    names = list(OPERATIONS)
    name = rng.choices(names, [rare.get(key, OPERATIONS[key][0]) for key in names])[0]
    return rng.randint(1, 2), name, *(rng.randint(*limits) for limits in OPERATIONS[name][1])


@pytest.mark.parametrize("abi", ["mostly 2-level", "mostly FIFO"])
@pytest.mark.parametrize("crowd", [0, 1016])
def test_long_lives(crowd: int, abi: str) -> None:
    """Thousands of operations on the same guests; HV_EVENT_ROUNDS asks for more, with fewer looks at all bits."""
    rng = random.Random(f"{crowd} {abi}")
    rare = {"reset": 0.3, "init_control": 0.1} if abi == "mostly 2-level" else {"reset": 0.05}
    lockstep = Lockstep(crowd, 2000)
    lockstep.check_every = 100 if ROUNDS else 1
    for _ in range(ROUNDS or (300 if crowd else 2000)):
        lockstep.do(*random_step(rng, rare))
