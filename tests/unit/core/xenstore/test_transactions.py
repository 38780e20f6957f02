"""Isolation, conflicts and commits."""

import pytest

from hv.abi.io import xs_wire as xs

from .conftest import Bench

READ, WRITE, RM, MKDIR, LS = xs.XS_READ, xs.XS_WRITE, xs.XS_RM, xs.XS_MKDIR, xs.XS_DIRECTORY
END, GET_PERMS, SET_PERMS = xs.XS_TRANSACTION_END, xs.XS_GET_PERMS, xs.XS_SET_PERMS
OK = b"OK\0"

# What the transaction does, what another client does meanwhile, how the commit ends.
CONFLICTS = [
    ((READ, b"/c/a\0"), (WRITE, b"/c/a\0new"), "EAGAIN"),
    ((READ, b"/c/a\0"), (WRITE, b"/c/b\0new"), OK),
    ((READ, b"/c/a\0"), (WRITE, b"/c/a/child\0"), "EAGAIN"),
    ((READ, b"/c/a\0"), (RM, b"/c/a\0"), "EAGAIN"),
    ((READ, b"/c/a\0"), (SET_PERMS, b"/c/a\0n0\0r1\0"), "EAGAIN"),
    ((READ, b"/c/none\0"), (WRITE, b"/c/none\0new"), "EAGAIN"),
    ((READ, b"/c/none\0"), (WRITE, b"/c/other\0new"), "EAGAIN"),  # it looked at /c too
    ((READ, b"/c/a/none\0"), (WRITE, b"/c/other\0new"), OK),
    ((WRITE, b"/c/a\0mine"), (WRITE, b"/c/a\0new"), "EAGAIN"),
    ((WRITE, b"/c/n1\0mine"), (WRITE, b"/c/b\0new"), OK),
    ((WRITE, b"/c/n1\0mine"), (WRITE, b"/c/n2\0new"), "EAGAIN"),
    ((WRITE, b"/c/n1\0mine"), (WRITE, b"/c/b/n2\0new"), OK),
    ((LS, b"/c\0"), (RM, b"/c/none\0"), OK),
    ((LS, b"/c\0"), (RM, b"/c/b\0"), "EAGAIN"),
    ((RM, b"/c/a\0"), (WRITE, b"/c/b/deep\0new"), OK),
    ((RM, b"/c/b\0"), (WRITE, b"/c/b/deep\0new"), "EAGAIN"),
    ((MKDIR, b"/c\0"), (WRITE, b"/c/a\0new"), OK),
    ((GET_PERMS, b"/c\0"), (SET_PERMS, b"/c\0n0\0r2\0"), "EAGAIN"),
]


@pytest.mark.parametrize(("inside", "outside", "verdict"), CONFLICTS)
@pytest.mark.parametrize("first", ["inside", "outside"])
def test_conflicts(
    bench: Bench,
    inside: tuple[int, bytes],
    outside: tuple[int, bytes],
    verdict: object,
    first: str,
) -> None:
    bench.store.write("/c/a", b"old")
    bench.store.write("/c/b", b"old")
    number = bench.begin("host")
    if first == "inside":
        bench.ask("host", number, *inside)
    bench.run([("host", 0, *outside, OK)])
    if first == "outside":
        bench.ask("host", number, *inside)
    bench.run(
        [
            ("host", number, WRITE, b"/result\0v", OK),
            ("host", number, END, b"T\0", verdict),
            ("host", number, END, b"T\0", "ENOENT"),
        ]
    )
    assert bench.store.exists("/result") is (verdict == OK)


def test_a_transaction_sees_its_start_and_itself_and_nobody_sees_it(bench: Bench) -> None:
    bench.store.write("/c/a", b"old")
    number = bench.begin("host")
    bench.store.write("/c/b", b"later")
    bench.run(
        [
            ("host", number, LS, b"/c\0", b"a\0"),
            ("host", number, READ, b"/c/b\0", "ENOENT"),
            ("host", number, WRITE, b"/c/a\0mine", OK),
            ("host", number, READ, b"/c/a\0", b"mine"),
            ("host", 0, READ, b"/c/a\0", b"old"),
            ("host", number, RM, b"/c\0", OK),
            ("host", number, READ, b"/c/a\0", "ENOENT"),
            ("host", 0, LS, b"/c\0", b"a\0b\0"),
            ("host", number, END, b"T\0", "EAGAIN"),
            ("host", 0, LS, b"/c\0", b"a\0b\0"),
        ]
    )


def test_the_end_is_asked_for_in_one_way_only(bench: Bench) -> None:
    number = bench.begin("host")
    bench.run(
        [
            ("host", 0, END, b"T\0", "ENOENT"),
            ("host", 0, END, b"X\0", "EINVAL"),
            ("host", number, END, b"", "EINVAL"),
            ("host", number, END, b"T", "EINVAL"),
            ("host", number, END, b"T\0T\0", "EINVAL"),
            ("host", number, xs.XS_TRANSACTION_START, b"\0", "EBUSY"),
            (1, number, READ, b"/\0", "ENOENT"),
            ("host", number, MKDIR, b"/gone\0", OK),
            ("host", number, END, b"F\0", OK),
            ("host", 0, READ, b"/gone\0", "ENOENT"),
        ]
    )


def test_events_follow_the_commit_in_the_order_of_first_touch(bench: Bench) -> None:
    bench.store.write("/c/a/x", b"")
    bench.run([("host", 0, xs.XS_WATCH, b"/c\0t\0", OK)])
    bench.peers["host"].take()
    bench.peers["other"] = bench.store.connect()
    number = bench.begin("other")
    bench.run(
        [
            ("other", number, WRITE, b"/c/b\0v", OK),
            ("other", number, RM, b"/c/a\0", OK),
            ("other", number, WRITE, b"/c/b\0w", OK),
            ("other", number, MKDIR, b"/c/fleeting\0", OK),
            ("other", number, RM, b"/c/fleeting\0", OK),
        ]
    )
    assert bench.events("host") == []
    bench.run([("other", number, END, b"T\0", OK)])
    assert bench.events("host") == [("/c/b", "t"), ("/c/a", "t")]


def test_limits_of_a_guest(bench: Bench) -> None:
    numbers = [bench.begin(1) for _ in range(11)]
    assert numbers == list(range(1, 12))
    bench.run([(1, 0, xs.XS_TRANSACTION_START, b"\0", "ENOSPC")])
    bench.run([(1, 1, END, b"F\0", OK)])
    assert bench.begin(1) == 12
    for _ in range(20):
        bench.begin("host")


def test_touching_too_many_nodes_dooms(bench: Bench) -> None:
    number = bench.begin(1)
    for count in range(1100):
        answer = bench.ask(1, number, READ, b"/local/domain/1/n%d\0" % count)
        assert answer == ("ENOENT" if count < 1023 else "ENOSPC"), count
    bench.run([(1, number, END, b"T\0", "ENOMEM")])


def test_an_oversized_node_dooms(bench: Bench) -> None:
    number = bench.begin(1)
    bench.run(
        [
            (1, number, WRITE, b"big\0" + bytes(2016), "ENOSPC"),
            (1, number, WRITE, b"small\0", OK),
            (1, number, END, b"T\0", "ENOMEM"),
            (1, 0, READ, b"small\0", "ENOENT"),
        ]
    )


def test_a_transaction_leaves_the_last_node_unused(bench: Bench) -> None:
    for count in range(998):
        bench.store.write(f"/area/{count % 40}/{count}", b"", ["n1"])
    number = bench.begin(1)
    bench.run(
        [
            (1, number, MKDIR, b"one\0", OK),
            (1, number, END, b"T\0", "ENOSPC"),
            (1, 0, MKDIR, b"one\0", OK),
            (1, 0, MKDIR, b"two\0", "ENOSPC"),
        ]
    )


def test_reset_watches_ends_transactions(bench: Bench) -> None:
    number = bench.begin(1)
    bench.run(
        [
            (1, 0, xs.XS_WATCH, b"a\0t\0", OK),
            (1, number, MKDIR, b"a\0", OK),
            (1, number, xs.XS_RESET_WATCHES, b"", OK),
            (1, number, END, b"T\0", "ENOENT"),
            (1, 0, xs.XS_UNWATCH, b"a\0t\0", "ENOENT"),
            (1, 0, READ, b"a\0", "ENOENT"),
        ]
    )
