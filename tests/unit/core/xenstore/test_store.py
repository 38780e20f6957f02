"""Domains that come and go, limits, the host side, and two stores in one process."""

import pytest

from hv.abi.io import xs_wire as xs
from hv.core.xenstore import Packet, Store, XenStoreError
from hv.core.xenstore.state import RingChange

from .conftest import Bench

READ, WRITE, MKDIR, SET_PERMS = xs.XS_READ, xs.XS_WRITE, xs.XS_MKDIR, xs.XS_SET_PERMS
OK = b"OK\0"


def test_a_released_domain_leaves_nothing(bench: Bench) -> None:
    bench.run(
        [
            (1, 0, WRITE, b"own/deep\0v", OK),
            ("host", 0, WRITE, b"/shared\0v", OK),
            ("host", 0, SET_PERMS, b"/shared\0n0\0r1\0", OK),
            (1, 0, READ, b"/shared\0", b"v"),
        ]
    )
    bench.store.release(1)
    bench.run([("host", 0, READ, b"/local/domain/1\0", "ENOENT")])
    assert bench.ask("host", 0, xs.XS_DIRECTORY, b"/local/domain\0") == b"2\0"
    # The next domain of that number inherits no rights, not even when the node is written again.
    bench.peers[1] = bench.store.introduce(1)
    bench.run(
        [
            (1, 0, READ, b"/shared\0", "EACCES"),
            ("host", 0, xs.XS_GET_PERMS, b"/shared\0", b"n0\0r1\0"),
            ("host", 0, WRITE, b"/shared\0w", OK),
            (1, 0, READ, b"/shared\0", "EACCES"),
            ("host", 0, SET_PERMS, b"/shared\0n0\0r1\0", OK),
            (1, 0, READ, b"/shared\0", b"w"),
        ]
    )


def test_a_released_connection_is_deaf(bench: Bench) -> None:
    bench.store.release(1)
    assert bench.packets(1, 0, READ, b"/\0") == []
    with pytest.raises(XenStoreError, match="ENOENT"):
        bench.store.release(1)


def test_introduce_tells_the_machine_which_ring_to_open(bench: Bench) -> None:
    bench.run(
        [
            ("host", 0, xs.XS_INTRODUCE, b"7\000-5\0003\0", OK),
            ("host", 0, xs.XS_RELEASE, b"7\0", OK),
        ]
    )
    assert list(bench.store.ring_changes) == [RingChange(7, -5, 3), RingChange(7, -5, None)]


def test_introducing_again_resets_the_connection(bench: Bench) -> None:
    number = bench.begin(1)
    bench.run([(1, 0, xs.XS_WATCH, b"a\0t\0", OK)])
    bench.store.write("/local/domain/1/a", b"", ["n1"])
    assert bench.store.introduce(1) is bench.peers[1]
    assert bench.events(1) == []
    bench.run([(1, number, READ, b"/\0", "ENOENT"), (1, 0, xs.XS_UNWATCH, b"a\0t\0", "ENOENT")])


@pytest.mark.parametrize(
    ("size", "answer"), [(2014, OK), (2015, OK), (2016, "ENOSPC"), (2040, "ENOSPC")]
)
def test_the_size_of_a_node(bench: Bench, size: int, answer: object) -> None:
    bench.run([(1, 0, WRITE, b"big\0" + bytes(size), answer)])


def test_the_names_of_children_count_for_their_parent(bench: Bench) -> None:
    name = b"n" * 1000
    bench.run(
        [
            (1, 0, MKDIR, b"d/1" + name + b"\0", OK),
            (1, 0, MKDIR, b"d/2" + name + b"\0", OK),
            (1, 0, MKDIR, b"d/3" + name + b"\0", "ENOSPC"),
            (1, 0, xs.XS_DIRECTORY, b"d\0", b"1" + name + b"\x002" + name + b"\0"),
            ("host", 0, MKDIR, b"/local/domain/1/d/3" + name + b"\0", OK),
        ]
    )


def test_creation_is_all_or_nothing(bench: Bench) -> None:
    bench.store.quotas.nodes = 4
    bench.run(
        [
            (1, 0, MKDIR, b"a/b/c/d\0", "ENOSPC"),
            (1, 0, READ, b"a\0", "ENOENT"),
            (1, 0, MKDIR, b"a/b/c\0", OK),
            (1, 0, MKDIR, b"d\0", "ENOSPC"),
            (1, 0, xs.XS_RM, b"a/b\0", OK),
            (1, 0, MKDIR, b"d\0", OK),
        ]
    )


def test_a_gift_counts_for_its_new_owner(bench: Bench) -> None:
    bench.run([("host", 0, WRITE, b"/gift\0v", OK), ("host", 0, SET_PERMS, b"/gift\0n2\0", OK)])
    domain = bench.store.domain(2)
    assert domain is not None
    assert domain.nodes == 2  # with its own directory


def test_outstanding_requests_stop_a_guest_until_they_are_sent(bench: Bench) -> None:
    guest = bench.peers[1]
    for _ in range(20):
        assert guest.may_send
        bench.store.handle(guest, Packet(READ, 0, 0, b"/\0"))
    assert not guest.may_send
    guest.take()
    assert guest.may_send


def test_a_request_is_outstanding_until_the_events_it_caused_are_sent(bench: Bench) -> None:
    bench.run([("host", 0, xs.XS_WATCH, b"/local/domain/1\0t\0", OK)])
    bench.peers["host"].take()
    bench.run((1, 0, WRITE, b"n%d\0" % n, OK) for n in range(20))
    assert not bench.peers[1].may_send
    bench.peers["host"].take()
    assert bench.peers[1].may_send


def test_messages_go_in_pieces(bench: Bench) -> None:
    host = bench.peers["host"]
    for payload in (b"/tool\0", b"/\0"):
        bench.store.handle(host, Packet(xs.XS_DIRECTORY, 1, 0, payload))
    whole = b""
    while data := host.next_bytes():
        whole += data[:7]
        host.sent(len(data[:7]))
        if len(whole) > 30:
            whole += host.drain()
    assert whole.endswith(b"tool\0local\0")
    assert len(whole) == 2 * 16 + len(b"xenstored\0") + len(b"tool\0local\0")


def test_the_host_side(bench: Bench) -> None:
    store = bench.store
    store.write("/a/b", "text", ["n0", "r1"])
    store.mkdir("/a/c", ["n1"])
    assert store.read("/a/b") == b"text"
    assert store.ls("/a") == ["b", "c"]
    assert store.get_permissions("/a/c") == ["n1"]
    assert store.exists("/a")
    store.rm("/a")
    assert not store.exists("/a/b")
    for failing, name in (
        (lambda: store.read("/a"), "ENOENT"),
        (lambda: store.read("/a/"), "EINVAL"),
        (lambda: store.rm("/a/b"), "ENOENT"),
        (lambda: store.rm("/"), "EINVAL"),
        (lambda: store.set_permissions("/tool", []), "EINVAL"),
        (lambda: store.set_permissions("/tool", ["x"]), "EINVAL"),
    ):
        with pytest.raises(XenStoreError, match=name):
            failing()


def test_deep_trees_are_removed_without_recursion(bench: Bench) -> None:
    bench.store.mkdir("/a" * 1000)
    bench.store.rm("/a")
    assert bench.store.ls("/") == ["tool", "local"]


def test_two_stores_share_nothing() -> None:
    one, two = Store(), Store()
    one.write("/only-here", b"1")
    one.quotas.nodes = 1
    assert not two.exists("/only-here")
    assert two.quotas.nodes == 1000
    first, second = one.connect(), two.connect()
    one.handle(first, Packet(xs.XS_WATCH, 0, 0, b"/\0t\0"))
    first.take()
    two.write("/a", b"1")
    assert not one.pending_connections
    assert not two.pending_connections
    assert first.take() == second.take() == []
