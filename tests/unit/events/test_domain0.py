"""Domain 0's handlers: nothing is lost, whatever they do, with either ABI of its event channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import hv
from hv.fastpath.handlers import Counter, Handler
from hv.machine.domain0 import Domain0


@pytest.fixture(params=["2-level", "fifo"])
def domain0(request: pytest.FixtureRequest) -> Iterator[Domain0]:
    with hv.Machine(domain0_events=request.param) as machine:
        yield machine.domain0


def ports_of(domain0: Domain0, count: int) -> list[int]:
    return [domain0.events.alloc_unbound(0) for _ in range(count)]


def raise_all(domain0: Domain0, ports: list[int]) -> None:
    for port in ports:
        domain0.guest.raise_port(port)


def conserved(domain0: Domain0) -> bool:
    return all(row.sent == domain0.delivered(row.port) + row.pending for row in domain0.events)


def test_a_handler_gets_each_event_in_order(domain0: Domain0) -> None:
    heard: list[int] = []
    ports = ports_of(domain0, 300)
    for port in ports:
        domain0.bind(port, heard.append)
    raise_all(domain0, ports[::3])
    assert heard == []
    domain0.settle()
    assert heard == ports[::3]
    raise_all(domain0, ports)
    domain0.settle()
    assert sorted(heard[100:]) == ports
    assert conserved(domain0)


def test_events_wait_for_a_handler(domain0: Domain0) -> None:
    heard: list[int] = []
    (port,) = ports_of(domain0, 1)
    raise_all(domain0, [port, port])
    domain0.settle()
    domain0.unmask(port)  # nobody is there: it stays masked
    domain0.settle()
    assert [(row.pending, row.masked, row.sent, row.merged) for row in domain0.events] == [(True, True, 1, 1)]
    domain0.bind(port, heard.append)
    domain0.settle()
    assert heard == [port] and domain0.delivered(port) == 1
    domain0.guest.unbind_handler(port)
    raise_all(domain0, [port])
    domain0.settle()
    assert heard == [port] and conserved(domain0)
    domain0.bind(port, heard.append)
    domain0.settle()
    assert heard == [port, port]


def test_a_batch_is_one_call_for_a_scan(domain0: Domain0) -> None:
    lists: list[list[int]] = []
    single: list[int] = []
    ports = ports_of(domain0, 200)
    domain0.bind_batch(ports[:150], lists.append)
    for port in ports[150:]:
        domain0.bind(port, single.append)
    raise_all(domain0, ports)
    domain0.settle()
    assert lists == [ports[:150]] and single == ports[150:]
    domain0.settle()
    assert len(lists) == 1
    raise_all(domain0, [ports[9]])
    domain0.settle()
    assert lists[1] == [ports[9]]
    assert conserved(domain0)


def test_a_handler_in_cython(domain0: Domain0) -> None:
    counter = Counter()
    ports = ports_of(domain0, 100)
    for port in ports:
        domain0.bind(port, counter)
    raise_all(domain0, ports)
    domain0.settle()
    assert counter.count == 100
    assert conserved(domain0)


def test_a_bare_handler_can_not_be_bound(domain0: Domain0) -> None:
    (port,) = ports_of(domain0, 1)
    with pytest.raises(hv.ConfigError, match="does nothing"):
        domain0.bind(port, Handler())
    with pytest.raises(hv.ConfigError, match="not callable"):
        domain0.bind(port, 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("spread", [1, 3, 64])
@pytest.mark.parametrize("kind", ["single", "batch"])
def test_nothing_is_lost_when_handlers_raise(domain0: Domain0, kind: str, spread: int) -> None:
    """Every handler raises once; each event is delivered in the end, once."""
    heard: list[int] = []
    ports = ports_of(domain0, 64 * spread)[::spread]

    def broken(what: int | list[int]) -> None:
        heard.extend([what] if isinstance(what, int) else what)
        raise ZeroDivisionError

    for port in ports:
        if kind == "single":
            domain0.bind(port, broken)
        else:
            domain0.bind_batch([port], broken)
    raise_all(domain0, ports)
    for calls in range(1, len(ports) + 1):
        with pytest.raises(ZeroDivisionError):
            domain0.settle()
        assert len(heard) == calls
        assert conserved(domain0)
    domain0.settle()
    assert sorted(heard) == ports


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_masked_meanwhile(domain0: Domain0, kind: str) -> None:
    """The first handler masks all others: they wait, and come when they are unmasked."""
    heard: list[int] = []
    first, *others = ports_of(domain0, 130)

    def mask_others(port: int) -> None:
        for other in others:
            domain0.mask(other)

    domain0.bind(first, mask_others)
    if kind == "single":
        for port in others:
            domain0.bind(port, heard.append)
    else:
        domain0.bind_batch(others, heard.extend)
    raise_all(domain0, [first, *others])
    domain0.settle()
    assert heard == []
    assert conserved(domain0)
    for port in others:
        domain0.unmask(port)
    domain0.settle()
    assert sorted(heard) == others
    assert conserved(domain0)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("kind", ["single", "batch"])
def test_closed_meanwhile(domain0: Domain0, kind: str, again: bool) -> None:
    """The first handler closes all others; a port that is made anew, even at the same number, has no event."""
    heard: list[int] = []
    new: list[int] = []
    first, *others = ports_of(domain0, 130)

    def close_others(port: int) -> None:
        for other in others:
            domain0.unbind(other)
        if again:
            for _ in others:
                new.append(domain0.events.alloc_unbound(0))
                domain0.bind(new[-1], heard.append)

    domain0.bind(first, close_others)
    if kind == "single":
        for port in others:
            domain0.bind(port, heard.append)
    else:
        domain0.bind_batch(others, heard.extend)
    raise_all(domain0, [first, *others])
    domain0.settle()
    assert heard == []
    assert conserved(domain0)
    raise_all(domain0, new)
    domain0.settle()
    assert sorted(heard) == sorted(new)


def test_an_inner_scan_has_its_own_list(domain0: Domain0) -> None:
    """The first handler raises an event and receives it, while the outer scan still has some of the same word."""
    heard: list[int] = []
    first, second, *others = ports_of(domain0, 130)

    def inner(port: int) -> None:
        domain0.guest.raise_port(second)
        domain0.settle()
        heard.append(port)

    domain0.bind(first, inner)
    for port in (second, *others):
        domain0.bind(port, heard.append)
    raise_all(domain0, [first, *others])
    domain0.settle()
    assert sorted(heard) == [first, second, *others]
    assert conserved(domain0)


def test_a_handler_that_closes_its_own_port(domain0: Domain0) -> None:
    ended: list[int] = []

    def handler() -> Callable[[int], None]:
        def once(port: int) -> None:
            domain0.unbind(port)
            ended.append(port)

        return once

    ports = ports_of(domain0, 70)
    for port in ports:
        domain0.bind(port, handler())
    raise_all(domain0, ports)
    domain0.settle()
    assert ended == ports
    assert list(domain0.events) == []


def test_a_batch_that_unbinds_its_ports(domain0: Domain0) -> None:
    calls: list[list[int]] = []
    ports = ports_of(domain0, 70)

    def handler(found: list[int]) -> None:
        calls.append(found)
        for port in ports:
            domain0.unbind(port)

    domain0.bind_batch(ports, handler)
    del handler
    raise_all(domain0, ports)
    domain0.settle()
    assert calls == [ports]
    assert list(domain0.events) == []


def test_an_event_sent_before_its_delivery_is_merged(domain0: Domain0) -> None:
    """As on Linux, where it would have been pending still."""
    heard: list[int] = []
    ports = ports_of(domain0, 10)

    def send_last(port: int) -> None:
        heard.append(port)
        domain0.guest.raise_port(ports[-1])

    for port in ports[:-1]:
        domain0.bind(port, send_last)
    domain0.bind(ports[-1], heard.append)
    raise_all(domain0, ports)
    domain0.settle()
    assert heard == ports
    assert conserved(domain0)


def test_the_abi_stays_while_handlers_run() -> None:
    with hv.Machine(domain0_events="fifo") as machine:
        (port,) = ports_of(machine.domain0, 1)
        machine.domain0.bind(port, lambda port: machine.domain0.guest.leave_fifo())
        machine.domain0.guest.raise_port(port)
        with pytest.raises(hv.EngineError, match="while its handlers run"):
            machine.domain0.settle()


def test_users_mistakes() -> None:
    with hv.Machine() as machine:
        for port in (0, 5, 1 << 20):
            with pytest.raises(hv.ConfigError, match=f"no event channel {port}:"):
                machine.domain0.bind(port, print)
    with pytest.raises(hv.ConfigError, match="choose 2-level or fifo"):
        hv.Machine(domain0_events="3-level")


def test_more_ports_than_the_2_level_abi_has() -> None:
    with hv.Machine(domain0_events="fifo") as machine:
        heard: list[int] = []
        ports = ports_of(machine.domain0, 5000)
        assert ports[-1] == 5000
        machine.domain0.bind(5000, heard.append)
        machine.domain0.bind(4999, heard.append)
        machine.domain0.guest.set_priority(4999, 3)
        raise_all(machine.domain0, [5000, 4999])
        machine.domain0.settle()
        assert heard == [4999, 5000]  # by priority
    with hv.Machine() as machine:
        assert len([port for port in ports_of(machine.domain0, 4100) if port > 0]) == 4095
