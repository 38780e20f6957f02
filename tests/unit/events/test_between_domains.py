"""Event channels between guests: who may bind, what closing and dying leave behind, and many of them at once."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from guest_kit import Puppet, error_name

import hv
from hv.abi import event_channel as abi
from hv.abi.xen import DOMID_SELF

UNBOUND, INTERDOMAIN, CLOSED = abi.EVTCHNSTAT_unbound, abi.EVTCHNSTAT_interdomain, abi.EVTCHNSTAT_closed


class Caller(Puppet):
    """A guest that makes the calls of event channels by order."""

    @property
    def domid(self) -> int:
        return self.domain.domid

    def _call(self, command: int, layout: str, *words: int) -> tuple[int | str, tuple[int, ...]]:
        address = self.place(struct.pack(layout, *words))
        result = self.hypercall("event_channel_op", command, address)
        self._bump = address
        return error_name(result), struct.unpack(layout, self.guest.read(address, struct.calcsize(layout)))

    def offer(self, remote: int, owner: int = DOMID_SELF) -> int | str:
        result, words = self._call(abi.EVTCHNOP_alloc_unbound, "<HHI", owner, remote, 0)
        return words[2] if result == 0 else result

    def bind(self, remote: int, port: int) -> int | str:
        result, words = self._call(abi.EVTCHNOP_bind_interdomain, "<H2xII", remote, port, 0)
        return words[2] if result == 0 else result

    def close(self, port: int) -> int | str:
        return self._call(abi.EVTCHNOP_close, "<I", port)[0]

    def send(self, port: int) -> int | str:
        return self._call(abi.EVTCHNOP_send, "<I", port)[0]

    def state(self, port: int) -> tuple[int, int, int]:
        """(EVTCHNSTAT_*, remote domid, remote port)."""
        state, _, detail, remote_port, _, _ = self.guest.port(port)
        return state, detail, remote_port if state == INTERDOMAIN else 0

    def pending(self, port: int) -> bool:
        return bool(self.guest.port_events(port)[0])

    def clear(self, port: int) -> None:
        page = self.engine.page(self.guest.shared_mfn)
        page[2048 + port // 8] &= ~(1 << port % 8)


@contextmanager
def callers(count: int, **options: object) -> Iterator[list[Caller]]:
    with hv.Machine() as machine:
        yield [Caller(machine, name=f"caller{i}", **options) for i in range(count)]


def test_the_handshake_and_events_both_ways() -> None:
    with callers(2) as (a, b):
        offered = a.offer(b.domid)
        assert isinstance(offered, int)
        assert a.state(offered) == (UNBOUND, b.domid, 0)
        assert a.send(offered) == 0  # nobody is there: it is dropped
        bound = b.bind(a.domid, offered)
        assert isinstance(bound, int)
        assert (a.state(offered), b.state(bound)) == ((INTERDOMAIN, b.domid, bound), (INTERDOMAIN, a.domid, offered))
        assert (a.pending(offered), b.pending(bound)) == (False, True)  # the binder looks once
        b.clear(bound)
        assert (a.send(offered), b.pending(bound), a.pending(offered)) == (0, True, False)
        assert (b.send(bound), a.pending(offered)) == (0, True)


@pytest.mark.parametrize(
    ("who", "remote", "port", "answer"),
    [
        ("third", "a", "offered", "-EINVAL"),  # it is for b
        ("b", "a", "free", "-EINVAL"),
        ("b", "a", "0", "-EINVAL"),
        ("b", "a", "far", "-EINVAL"),
        ("b", "a", "store", "-EINVAL"),  # bound already
        ("b", "third", "offered", "-EINVAL"),
        ("b", "nobody", "offered", "-ESRCH"),
        ("b", "b", "offered", "-EINVAL"),  # its own port of that number is none
    ],
)
def test_who_may_not_bind(who: str, remote: str, port: str, answer: str) -> None:
    with callers(3) as (a, b, third):
        offered = a.offer(b.domid)
        assert isinstance(offered, int)
        ports = {"offered": offered, "free": offered + 1, "0": 0, "far": 1 << 20, "store": 1}
        domids = {"a": a.domid, "b": b.domid, "third": third.domid, "nobody": 99}
        caller = {"b": b, "third": third}[who]
        assert caller.bind(domids[remote], ports[port]) == answer
        assert a.state(offered) == (UNBOUND, b.domid, 0)
        assert isinstance(b.bind(a.domid, offered), int)
        assert third.bind(a.domid, offered) == "-EINVAL"  # taken


def test_nobody_offers_for_another() -> None:
    with callers(2) as (a, b):
        assert a.offer(b.domid, owner=b.domid) == "-EPERM"
        assert a.offer(b.domid, owner=99) == "-ESRCH"


@pytest.mark.parametrize("closer", ["offerer", "binder"])
def test_closing_one_side_leaves_the_other_unbound(closer: str) -> None:
    with callers(2) as (a, b):
        offered = a.offer(b.domid)
        assert isinstance(offered, int)
        bound = b.bind(a.domid, offered)
        assert isinstance(bound, int)
        b.clear(bound)
        first, port, second, other = (a, offered, b, bound) if closer == "offerer" else (b, bound, a, offered)
        assert first.close(port) == 0
        assert (first.state(port)[0], second.state(other)) == (CLOSED, (UNBOUND, first.domid, 0))
        assert not second.pending(other)  # no event tells of it
        assert (first.send(port), second.send(other), first.close(port)) == ("-EINVAL", 0, "-EINVAL")
        again = first.bind(second.domid, other)
        assert again == port
        assert second.state(other) == (INTERDOMAIN, first.domid, port)


def test_death_closes_all_channels() -> None:
    with callers(3) as (a, b, c):
        offered = a.offer(b.domid)
        assert isinstance(offered, int)
        bound = b.bind(a.domid, offered)
        assert isinstance(bound, int)
        waiting = c.offer(a.domid)
        assert isinstance(waiting, int)
        dead = a.domid
        a.domain.destroy()
        assert b.state(bound) == (UNBOUND, dead, 0)
        assert c.state(waiting) == (UNBOUND, dead, 0)
        assert (b.send(bound), b.bind(dead, offered)) == (0, "-ESRCH")


def test_a_thousand_channels_between_ten_domains() -> None:
    with hv.Machine() as machine:
        domains = [Caller(machine, name=f"caller{i}", memory="6M") for i in range(10)]
        channels = []
        for i in range(1000):
            a, b = domains[i % 10], domains[(i % 10 + 1 + i // 10 % 9) % 10]
            channels.append((a, b, *machine.connect(a.domain, b.domain)))
        for _, b, _, bound in channels:
            b.clear(bound)
        for i, (a, b, offered, bound) in enumerate(channels):
            sender, port = (a, offered) if i % 2 else (b, bound)
            assert sender.guest.send(port) == 0
        for i, (a, b, offered, bound) in enumerate(channels):
            assert (a.pending(offered), b.pending(bound)) == ((False, True) if i % 2 else (True, False))
        dead = domains[3]
        dead.domain.destroy()
        for a, b, offered, bound in channels:
            if dead is a:
                assert b.state(bound)[0] == UNBOUND
            elif dead is b:
                assert a.state(offered)[0] == UNBOUND
            else:
                assert a.state(offered) == (INTERDOMAIN, b.domid, bound)


def test_connect_says_who_is_full() -> None:
    with callers(2, max_event_channels=3) as (a, b):
        machine = a.machine
        assert machine.connect(a.domain, b.domain) == (3, 3)
        with pytest.raises(hv.HvError, match="caller0 has no event channel left"):
            machine.connect(a.domain, b.domain)
