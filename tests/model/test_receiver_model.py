"""Domain 0's receiver in lockstep with a model of Linux's loops, in both ABIs: what is called, in which order, and what
is pending and masked afterwards. Handlers send, mask, unmask, close, make ports and raise while a scan goes on.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from receiver_model import Raised, Receiver

import hv

EVENTS = int(os.environ.get("HV_SCAN_EVENTS", "0"))  # the long mode: so many random events
PORTS = 200


class Pair:
    """hv and the model, with the same ports and the same script of what handlers do: one action for each call."""

    def __init__(self, fifo: bool, batches: int) -> None:
        self.machine = hv.Machine(domain0_events="fifo" if fifo else "2-level")
        self.domain0 = self.machine.domain0
        self.model = Receiver(fifo)
        self.script: list[tuple[str, int]] = []
        self.made: list[int] = []
        self.kinds = batches
        self.calls: dict[str, list[Any]] = {"hv": [], "model": []}
        self.turn = {"hv": 0, "model": 0}
        self.hv_batch, self.model_batch = self._handler("hv"), self._handler("model")
        for _ in range(PORTS):
            self.new()

    def _handler(self, side: str) -> Callable[[Any], None]:
        def handler(what: Any) -> None:
            self.calls[side].append(what)
            turn = self.turn[side]
            self.turn[side] += 1
            if turn < len(self.script):
                self._act(side, *self.script[turn])

        return handler

    def _act(self, side: str, what: str, number: int) -> None:
        port = self.port(number)
        if what == "raise":
            raise Raised
        if what == "new":
            self._make_on(side)
        elif side == "model":
            getattr(self.model, what)(port)
        elif what == "send":
            self.domain0.guest.raise_port(port)
        elif what == "close":
            self.domain0.unbind(port)
        elif self.domain0.guest.port(port)[0]:
            getattr(self.domain0, what)(port)

    def port(self, number: int) -> int:
        return number % PORTS + 1

    # --- ports: hv chooses the number, and the model follows when its turn comes

    def new(self) -> None:
        self._make_on("hv")
        self._make_on("model")

    def _make_on(self, side: str) -> None:
        if side == "hv":
            port = self.domain0.events.alloc_unbound(0)
            self.made.append(port)
            if port % 10 < self.kinds:
                self.domain0.bind_batch([port], self.hv_batch)
            else:
                self.domain0.bind(port, self._handler("hv"))
            return
        port = self.made.pop(0)
        self.model.make(port)
        if port % 10 < self.kinds:
            self.model.batch_of[port] = self._handler("model")
        else:
            self.model.handlers[port] = self._handler("model")
        self.model.unmask(port)

    # --- steps

    def do(self, what: str, number: int) -> None:
        for side in ("hv", "model"):
            if what == "priority":
                self._set_priority(side, self.port(number), number % 16)
            else:
                self._act(side, what, number)
        assert self.made == []

    def _set_priority(self, side: str, port: int, priority: int) -> None:
        if side == "hv":
            self.domain0.guest.set_priority(port, priority)
        elif port in self.model.open and self.model.fifo:
            self.model.priority[port] = priority

    def receive(self, script: list[tuple[str, int]]) -> None:
        self.script = script
        self.turn = {"hv": 0, "model": 0}
        ends = {}
        for side, receive in (("hv", self.domain0.settle), ("model", self.model.receive)):
            try:
                receive()
                ends[side] = "done"
            except Raised:
                ends[side] = "raised"
        assert self.calls["hv"] == self.calls["model"]
        assert ends["hv"] == ends["model"]
        assert self.made == []
        self.check()

    def check(self) -> None:
        rows = {row.port: row for row in self.domain0.events}
        assert set(rows) == self.model.open
        for port, row in rows.items():
            assert row.pending == (port in self.model.pending), port
            assert row.masked == (port in self.model.masked), port
            assert row.sent == self.domain0.delivered(port) + row.pending, port
        assert {p: n for p, n in self.model.sent.items() if p in rows} == {
            p: self.model.delivered[p] + (p in self.model.pending) for p in rows
        }


NUMBER = st.integers(0, 29) | st.integers(0, PORTS - 1)  # some in one word, some anywhere
ACTION = st.tuples(st.sampled_from(["send", "send", "send", "mask", "unmask", "close", "new", "raise"]), NUMBER)
STEP = st.one_of(
    st.tuples(st.sampled_from(["send", "send", "send", "send", "mask", "unmask", "close", "priority"]), NUMBER),
    st.tuples(st.just("receive"), st.lists(ACTION, max_size=12)),
)


@pytest.mark.parametrize("batches", [0, 3])
@pytest.mark.parametrize("fifo", [False, True])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEP, min_size=4, max_size=60))
def test_lockstep(fifo: bool, batches: int, steps: list[tuple[str, Any]]) -> None:
    pair = Pair(fifo, batches)
    for what, value in steps:
        if what == "receive":
            pair.receive(value)
        else:
            pair.do(what, value)
    for _ in range(3):
        pair.receive([])
    pair.machine.close()


@pytest.mark.parametrize("fifo", [False, True])
def test_inner_scans_lose_nothing(fifo: bool) -> None:
    """Handlers that receive again, and may raise: every event is delivered once in the end."""
    rng = random.Random(7)
    with hv.Machine(domain0_events="fifo" if fifo else "2-level") as machine:
        domain0 = machine.domain0
        ports = [domain0.events.alloc_unbound(0) for _ in range(PORTS)]

        def handler(port: int) -> None:
            what = rng.random()
            if what < 0.3:
                domain0.guest.raise_port(rng.choice(ports))
            elif what < 0.5 and depth[0] < 5:
                depth[0] += 1
                try:
                    domain0.settle()
                finally:
                    depth[0] -= 1
            elif what < 0.6:
                raise Raised

        depth = [0]
        for port in ports:
            domain0.bind(port, handler)
        for _ in range(300):
            for port in rng.sample(ports, rng.randint(1, PORTS)):
                domain0.guest.raise_port(port)
            while True:
                try:
                    domain0.settle()
                    break
                except Raised:
                    assert all(row.sent == domain0.delivered(row.port) + row.pending for row in domain0.events)
            assert not any(row.pending for row in domain0.events)
        assert all(row.sent == domain0.delivered(row.port) for row in domain0.events)


def linux_order(pending: list[int], begin: int) -> tuple[list[int], int]:
    """The order in which Linux's loop finds the events of 64 words, and where it ends; no handler does anything."""
    word, bit = divmod(begin, 64)
    order = [*_bits(pending[word] >> bit << bit, word)]
    pending[word] &= (1 << bit) - 1
    for each in (*range(word + 1, 64), *range(word + 1)):
        order += _bits(pending[each], each)
    return order, (order[-1] + 1) % 4096 if order else begin


def _bits(value: int, word: int) -> list[int]:
    found = []
    while value:
        low = value & -value
        found.append(word * 64 + low.bit_length() - 1)
        value ^= low
    return found


def test_order_and_fairness_over_random_events() -> None:
    """HV_SCAN_EVENTS=10000000 is the long mode."""
    rng = random.Random(11)
    with hv.Machine() as machine:
        domain0 = machine.domain0
        ports = [domain0.events.alloc_unbound(0) for _ in range(4095)]
        heard: list[int] = []
        domain0.bind_batch(ports, heard.extend)
        left, begin, scans = EVENTS or 60_000, 1, 0
        send = domain0.guest.raise_port
        while left > 0:
            some = rng.sample(ports, rng.choice((1, 2, 5, 20, 64, 300, 2000)))
            pending = [0] * 64
            for port in some:
                send(port)
                pending[port // 64] |= 1 << port % 64
            expected, begin = linux_order(pending, begin)
            heard.clear()
            domain0.settle()
            assert heard == expected, f"scan {scans}"
            left, scans = left - len(some), scans + 1
        assert all(row.sent == domain0.delivered(row.port) and not row.pending for row in domain0.events)
