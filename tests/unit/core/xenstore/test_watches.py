"""Which watch fires, for whom, in which order and spelling."""

import pytest

from hv.abi.io import xs_wire as xs
from hv.core.xenstore import Connection, Packet
from hv.core.xenstore.watches import Watch

from .conftest import Bench

WATCH, UNWATCH, SET_PERMS = xs.XS_WATCH, xs.XS_UNWATCH, xs.XS_SET_PERMS
OK = b"OK\0"


def watch(bench: Bench, who: object, path: bytes, token: bytes = b"t") -> None:
    bench.run([(who, 0, WATCH, path + b"\0" + token + b"\0", OK)])
    bench.peers[who].take()


def test_a_watch_fires_once_after_its_reply(bench: Bench) -> None:
    packets = bench.packets(1, 0, WATCH, b"data\0tok en\0")
    assert [p.type for p in packets] == [WATCH, xs.XS_WATCH_EVENT]
    assert packets[1].payload == b"data\0tok en\0"


@pytest.mark.parametrize(
    ("path", "fires"),
    [
        (b"/", True),
        (b"/a", True),
        (b"/a/b", True),
        (b"/a/b/c", False),
        (b"/a/bb", False),
        (b"/a/", None),
        (b"", None),
        (b"@" + b"x" * 2048, None),
    ],
)
def test_a_change_fires_watches_above_it(bench: Bench, path: bytes, fires: bool | None) -> None:
    if fires is None:
        bench.run([("host", 0, WATCH, path + b"\0t\0", "EINVAL")])
    else:
        watch(bench, "host", path)
        bench.store.write("/a/b", b"v")
        assert bench.events("host") == ([("/a/b", "t")] if fires else [])


def test_a_removal_fires_exact_watches_below(bench: Bench) -> None:
    for path in ("/a/b/c", "/a/b/d", "/a/e"):
        bench.store.write(path, b"")
    for number, path in enumerate((b"/", b"/a/b", b"/a/b/c", b"/a/b/d/none", b"/a/e")):
        watch(bench, "host", path, b"%d" % number)
    bench.store.rm("/a")
    assert bench.events("host") == [("/a/b/c", "2"), ("/a/b", "1"), ("/a/e", "4"), ("/a", "0")]


def test_new_parents_are_silent_and_mkdir_of_an_old_node_too(bench: Bench) -> None:
    watch(bench, "host", b"/")
    bench.store.mkdir("/a/b/c")
    bench.store.mkdir("/a")
    assert bench.events("host") == [("/a/b/c", "t")]


def test_relative_watches_report_relative_paths(bench: Bench) -> None:
    watch(bench, 1, b"data", b"rel")
    watch(bench, 1, b"/local/domain/1/data", b"abs")
    bench.store.write("/local/domain/1/data/k", b"v")
    assert bench.events(1) == [("data/k", "rel"), ("/local/domain/1/data/k", "abs")]


def test_registration(bench: Bench) -> None:
    bench.run(
        [
            (1, 0, WATCH, b"a\0t\0", OK),
            (1, 0, WATCH, b"a\0t\0", "EEXIST"),
            (1, 0, WATCH, b"/local/domain/1/a\0t\0", "EEXIST"),
            (1, 0, WATCH, b"a\0u\0", OK),
            (1, 0, WATCH, b"a\0", "EINVAL"),
            (1, 0, WATCH, b"a\0v\0001\0002\0", "EINVAL"),
            (1, 0, WATCH, b"a\0v\0-1\0", "EINVAL"),
            (1, 0, WATCH, b"a\0v\0junk", OK),
            (1, 0, WATCH, b"@anything\0t\0", OK),
            (1, 0, UNWATCH, b"/local/domain/1/a\0t\0", OK),
            (1, 0, UNWATCH, b"a\0t\0", "ENOENT"),
            (2, 0, UNWATCH, b"a\0u\0", "ENOENT"),
            (1, 0, UNWATCH, b"a\0", "EINVAL"),
        ]
    )


def test_a_guest_has_129_watches(bench: Bench) -> None:
    for number in range(129):
        watch(bench, 1, b"w", b"%d" % number)
    bench.run(
        [
            (1, 0, WATCH, b"w\0x\0", "E2BIG"),
            (1, 0, UNWATCH, b"w\0000\0", OK),
            (1, 0, WATCH, b"w\0x\0", OK),
        ]
    )


def test_the_order_is_by_age_of_connection_then_of_watch(bench: Bench) -> None:
    late = bench.peers["late"] = bench.store.connect()
    for who, token in (("late", b"1"), ("host", b"2"), ("late", b"0"), ("host", b"3")):
        watch(bench, who, b"/a", token)
    bench.store.write("/a", b"v")
    assert list(bench.store.pending_connections) == [bench.peers["host"], late]
    assert bench.events("host") == [("/a", "2"), ("/a", "3")]
    assert bench.events("late") == [("/a", "1"), ("/a", "0")]
    assert not bench.store.pending_connections


def test_events_come_before_the_reply(bench: Bench) -> None:
    watch(bench, "host", b"/a")
    kinds = [p.type for p in bench.packets("host", 0, xs.XS_WRITE, b"/a\0v")]
    assert kinds == [xs.XS_WATCH_EVENT, xs.XS_WRITE]


def test_an_event_that_waits_is_not_repeated(bench: Bench) -> None:
    watch(bench, "host", b"/a")
    for _ in range(3):
        bench.store.write("/a", b"v")
    bench.store.write("/a/b", b"v")
    assert bench.events("host") == [("/a", "t"), ("/a/b", "t")]


def test_only_who_may_read_hears(bench: Bench) -> None:
    bench.store.write("/p", b"", ["n0", "r1"])
    for who in (1, 2):
        watch(bench, who, b"/")
    bench.store.write("/p", b"v")
    bench.store.write("/p/secret", b"v", ["n0"])  # below a readable node
    assert bench.events(1) == [("/p", "t"), ("/p/secret", "t")]
    bench.store.set_permissions("/p", ["n0", "r2"])  # one loses it, one gains it
    assert bench.events(1) == [("/p", "t")]
    assert bench.events(2) == [("/p", "t")]
    bench.store.rm("/p")
    assert bench.events(1) == []
    assert bench.events(2) == [("/p", "t")]


def test_special_watches(bench: Bench) -> None:
    for who in ("host", 1, 2):
        for name in (b"@introduceDomain", b"@releaseDomain"):
            watch(bench, who, name)
    watch(bench, "host", b"/", b"not me")
    bench.run([("host", 0, SET_PERMS, b"@releaseDomain\0n0\0r2\0", OK)])
    bench.run([("host", 0, xs.XS_INTRODUCE, b"7\0001\0002\0", OK)])
    bench.store.introduce(8)
    bench.run([("host", 0, xs.XS_INTRODUCE, b"7\0001\0002\0", OK)])  # again: no event
    bench.store.domain_shut_down(8)
    bench.store.domain_shut_down(8)
    bench.run([("host", 0, xs.XS_RESUME, b"8\0", OK)])
    bench.store.domain_shut_down(8)
    bench.store.release(8)
    assert bench.events(1) == []
    assert bench.events(2) == [("@releaseDomain", "t")] * 3


def test_special_watches_of_the_host(bench: Bench) -> None:
    watch(bench, "host", b"@introduceDomain")
    watch(bench, "host", b"@releaseDomain")
    bench.store.introduce(8)
    bench.store.release(8)
    assert bench.events("host") == [("@introduceDomain", "t"), ("@releaseDomain", "t")]


@pytest.mark.parametrize(("depth", "heard"), [(b"0", 1), (b"1", 2), (b"2", 3), (b"9", 4)])
def test_a_depth_limits_how_far_down_a_watch_hears(bench: Bench, depth: bytes, heard: int) -> None:
    bench.run([("host", 0, WATCH, b"/a\0t\0" + depth + b"\0", OK)])
    watch(bench, "host", b"/a/b", b"all")
    bench.events("host")
    paths = ["/a", "/a/b", "/a/b/c", "/a/b/c/d"]
    for path in paths:
        bench.store.write(path, b"")
    events = bench.events("host")
    assert [path for path, token in events if token == "t"] == paths[:heard]
    assert [path for path, token in events if token == "all"] == paths[1:]
    bench.run([("host", 0, UNWATCH, b"/a\0t\0", OK)])


def test_special_watches_that_name_the_domain(bench: Bench) -> None:
    for name in (b"@introduceDomain", b"@releaseDomain"):
        bench.run([("host", 0, WATCH, name + b"\0t\0" + depth + b"\0", "EINVAL") for depth in (b"0", b"2")])
        bench.run([("host", 0, WATCH, name + b"\0d\0001\0", OK)])
        watch(bench, "host", name)
    watch(bench, "host", b"@releaseDomain/8", b"8")
    bench.peers["host"].take()
    for domid in (8, 9):
        bench.store.introduce(domid)
        bench.store.release(domid)
    assert bench.events("host") == [
        ("@introduceDomain/8", "d"),
        ("@introduceDomain", "t"),
        ("@releaseDomain/8", "d"),
        ("@releaseDomain", "t"),
        ("@releaseDomain/8", "8"),
        ("@introduceDomain/9", "d"),
        ("@introduceDomain", "t"),
        ("@releaseDomain/9", "d"),
        ("@releaseDomain", "t"),
    ]


def test_an_observer_sees_requests_replies_and_events_with_their_cause(bench: Bench) -> None:
    seen: list[tuple[str, object, object]] = []

    class Observer:
        def request(self, connection: Connection, packet: Packet) -> None:
            seen.append(("request", connection.domid, packet.type))

        def reply(self, connection: Connection, request: Packet, reply: Packet) -> None:
            seen.append(("reply", connection.domid, reply.payload))

        def event(self, watch: Watch, path: str) -> None:
            seen.append(("event", watch.connection.domid, path))

    observer = Observer()
    bench.store.observe(observer)
    watch(bench, 1, b"a")
    bench.run([("host", 0, xs.XS_WRITE, b"/local/domain/1/a\0", OK)])
    bench.store.write("/local/domain/1/a", b"")
    bench.store.unobserve(observer)
    bench.store.write("/local/domain/1/a", b"")
    assert seen == [
        ("request", 1, WATCH),
        ("event", 1, "a"),
        ("reply", 1, OK),
        ("request", 0, xs.XS_WRITE),
        ("event", 1, "a"),
        ("reply", 0, OK),
        ("event", 1, "a"),
    ]


def test_the_path_of_a_request(bench: Bench) -> None:
    connection = bench.peers[1]
    for kind, payload, path in (
        (xs.XS_READ, b"a\0", "/local/domain/1/a"),
        (xs.XS_WRITE, b"/b\0value", "/b"),
        (WATCH, b"@releaseDomain\0t\0", "@releaseDomain"),
        (xs.XS_READ, b"no NUL", None),
        (xs.XS_TRANSACTION_END, b"T\0", None),
        (99, b"a\0", None),
    ):
        assert bench.store.path_of(connection, Packet(kind, 0, 0, payload)) == path


def test_a_guest_that_does_not_read_loses_events_not_the_service(bench: Bench) -> None:
    bench.store.quotas.memory = 2000
    watch(bench, 1, b"/local/domain/1")
    for number in range(200):
        bench.store.write(f"/local/domain/1/n{number}", b"", ["n1"])
    assert 0 < len(bench.events(1)) < 100
    bench.store.write("/local/domain/1/again", b"", ["n1"])
    assert bench.events(1) == [("/local/domain/1/again", "t")]
