"""Requests and their replies, as Xen 4.17's daemon answers them."""

import pytest

from hv.abi.io import xs_wire as xs
from hv.core.xenstore.operations import OPERATIONS

from .conftest import Bench, Row

READ, WRITE, RM, MKDIR = xs.XS_READ, xs.XS_WRITE, xs.XS_RM, xs.XS_MKDIR
LS, PART, CONTROL = xs.XS_DIRECTORY, xs.XS_DIRECTORY_PART, xs.XS_CONTROL
GET_PERMS, SET_PERMS = xs.XS_GET_PERMS, xs.XS_SET_PERMS
OK = b"OK\0"

ROWS: dict[str, list[Row]] = {
    "an empty store holds what that of Xen holds": [
        ("host", 0, LS, b"/tool\0", b"xenstored\0"),
        ("host", 0, READ, b"/\0", b""),
        ("host", 0, GET_PERMS, b"/tool/xenstored\0", b"n0\0"),
    ],
    "reply-only, removed and unknown numbers": [
        (who, tx, number, b"/\0", "ENOSYS")
        for who in ("host", 1)
        for tx in (0, 9)
        for number in (15, 16, 20, 27, 0xFFFF, 0xFFFFFFFF)
    ],
    "privilege is judged first, then the transaction, then the payload": [
        (1, 9, CONTROL, b"", "EACCES"),
        (1, 0, xs.XS_INTRODUCE, b"", "EACCES"),
        (1, 0, xs.XS_RELEASE, b"1\0", "EACCES"),
        (1, 0, xs.XS_RESUME, b"1\0", "EACCES"),
        (1, 0, xs.XS_SET_TARGET, b"1\0002\0", "EACCES"),
        (1, 0, xs.XS_IS_DOMAIN_INTRODUCED, b"1\0", "EACCES"),
        ("host", 9, READ, b"", "ENOENT"),
        ("host", 9, CONTROL, b"help\0", "ENOENT"),
        ("host", 9, xs.XS_WATCH, b"/w\0t\0", OK),
        ("host", 9, xs.XS_UNWATCH, b"/w\0t\0", OK),
    ],
    "reading and writing": [
        ("host", 0, WRITE, b"/x/y\0a\0b\0", OK),
        ("host", 0, READ, b"/x/y\0", b"a\0b\0"),
        ("host", 0, READ, b"/x\0", b""),
        ("host", 0, LS, b"/x\0", b"y\0"),
        ("host", 0, READ, b"/x/z\0", "ENOENT"),
        ("host", 0, WRITE, b"/x", "EINVAL"),
        ("host", 0, WRITE, b"", "EINVAL"),
        ("host", 0, WRITE, b"/x/\0v", "EINVAL"),
        ("host", 0, WRITE, b"@x\0v", "EINVAL"),
        ("host", 0, WRITE, b"\0v", "EINVAL"),
        ("host", 0, READ, b"", "EINVAL"),
        ("host", 0, READ, b"/x", "EINVAL"),
        ("host", 0, READ, b"/x\0y\0", "EINVAL"),
        ("host", 0, WRITE, b"rel/a\0v", OK),
        ("host", 0, READ, b"/local/domain/0/rel/a\0", b"v"),
        ("host", 0, WRITE, b"/v\0" + bytes(4093), OK),
        ("host", 0, READ, b"/v\0", bytes(4093)),
    ],
    "creating and removing": [
        ("host", 0, MKDIR, b"/m/n\0", OK),
        ("host", 0, WRITE, b"/m/n\0v", OK),
        ("host", 0, MKDIR, b"/m/n\0", OK),
        ("host", 0, READ, b"/m/n\0", b"v"),
        ("host", 0, RM, b"/m/none\0", OK),
        ("host", 0, RM, b"/m/none/deeper\0", "ENOENT"),
        ("host", 0, RM, b"/m\0", OK),
        ("host", 0, READ, b"/m/n\0", "ENOENT"),
        ("host", 0, RM, b"/m\0", OK),
        ("host", 0, RM, b"/\0", "EINVAL"),
    ],
    "a guest sees only what it may": [
        (1, 0, WRITE, b"data/k\0v", OK),
        (1, 0, READ, b"/local/domain/1/data/k\0", b"v"),
        (1, 0, GET_PERMS, b"data/k\0", b"n1\0"),
        (2, 0, READ, b"/local/domain/1/data/k\0", "EACCES"),
        (2, 0, READ, b"/local/domain/1/none\0", "EACCES"),
        (2, 0, RM, b"/local/domain/1/data\0", "EACCES"),
        (1, 0, READ, b"/none\0", "EACCES"),
        (1, 0, MKDIR, b"/none\0", "EACCES"),
        (1, 0, RM, b"/\0", "EACCES"),
    ],
    "the wanted right on the nearest node above decides between ENOENT and EACCES": [
        ("host", 0, MKDIR, b"/p\0", OK),
        ("host", 0, SET_PERMS, b"/p\0n0\0r1\0w2\0", OK),
        (1, 0, READ, b"/p/a/b/c\0", "ENOENT"),
        (2, 0, READ, b"/p/a/b/c\0", "EACCES"),
        (1, 0, WRITE, b"/p/a\0v", "EACCES"),
        (2, 0, WRITE, b"/p/a\0v", OK),
        (2, 0, GET_PERMS, b"/p/a\0", b"n2\0r1\0w2\0"),
        (1, 0, READ, b"/p/a\0", b"v"),
    ],
    "changing permissions": [
        (1, 0, WRITE, b"d/e\0v", OK),
        (1, 0, SET_PERMS, b"d\0r1\0b2\0", OK),
        (1, 0, GET_PERMS, b"d\0", b"r1\0b2\0"),
        (2, 0, WRITE, b"/local/domain/1/d\0w", OK),
        (2, 0, SET_PERMS, b"/local/domain/1/d\0n2\0", "EACCES"),
        (1, 0, SET_PERMS, b"d\0n2\0", "EPERM"),
        (1, 0, SET_PERMS, b"d\0n1\0r1\0r2\0r3\0r4\0r5\0", "ENOSPC"),
        (1, 0, SET_PERMS, b"d\0n1\0r1\0r2\0r3\0r4\0", OK),
        (1, 0, SET_PERMS, b"none\0n1\0", "ENOENT"),
        ("host", 0, SET_PERMS, b"/local/domain/1/d\0n2\0", OK),
        (1, 0, READ, b"d\0", "EACCES"),
        (1, 0, READ, b"d/e\0", b"v"),
        ("host", 0, SET_PERMS, b"/tool\0", "EINVAL"),
        ("host", 0, SET_PERMS, b"/tool\0n0", "EINVAL"),
        ("host", 0, SET_PERMS, b"/tool\0n0\0junk", OK),
        ("host", 0, SET_PERMS, b"/tool\0x0\0", "EINVAL"),
        ("host", 0, SET_PERMS, b"/tool\0n70000\0", "ENOENT"),
        ("host", 0, SET_PERMS, b"/tool\0n0\0r70000\0", OK),
        ("host", 0, SET_PERMS, b"/none\0n0\0", "ENOENT"),
        ("host", 0, SET_PERMS, b"@nothing\0n0\0", "EINVAL"),
        (1, 0, SET_PERMS, b"@releaseDomain\0n1\0", "EACCES"),
        ("host", 0, GET_PERMS, b"@releaseDomain\0", "EINVAL"),
    ],
    "large directories": [
        *(("host", 0, MKDIR, b"/big/name%05d\0" % i, OK) for i in range(410)),
        ("host", 0, LS, b"/big\0", "E2BIG"),
        ("host", 0, RM, b"/big/name00000\0", OK),
        ("host", 0, LS, b"/big\0", None),
        ("host", 0, PART, b"/big\0000\0", None),
        ("host", 0, PART, b"/big\0000", "EINVAL"),
        ("host", 0, PART, b"/none\0000\0", "ENOENT"),
    ],
    "domains": [
        ("host", 0, xs.XS_GET_DOMAIN_PATH, b" 5x\0", b"/local/domain/5\0"),
        ("host", 0, xs.XS_GET_DOMAIN_PATH, b"-1\0", b"/local/domain/4294967295\0"),
        (1, 0, xs.XS_GET_DOMAIN_PATH, b"x\0", b"/local/domain/0\0"),
        ("host", 0, xs.XS_IS_DOMAIN_INTRODUCED, b"1\0", b"T\0"),
        ("host", 0, xs.XS_IS_DOMAIN_INTRODUCED, b"0\0", b"T\0"),
        ("host", 0, xs.XS_IS_DOMAIN_INTRODUCED, b"9\0", b"F\0"),
        ("host", 0, xs.XS_IS_DOMAIN_INTRODUCED, b"32752\0", b"T\0"),
        ("host", 0, xs.XS_INTRODUCE, b"9\00010\0", "EINVAL"),
        ("host", 0, xs.XS_INTRODUCE, b"9\00010\0000\0", "EINVAL"),
        ("host", 0, xs.XS_INTRODUCE, b"9\00010\0003\0", OK),
        ("host", 0, xs.XS_IS_DOMAIN_INTRODUCED, b"9\0", b"T\0"),
        ("host", 0, xs.XS_RESUME, b"9\0", OK),
        ("host", 0, xs.XS_RELEASE, b"9\0", OK),
        ("host", 0, xs.XS_RELEASE, b"9\0", "ENOENT"),
        ("host", 0, xs.XS_RELEASE, b"0\0", "EINVAL"),
        ("host", 0, xs.XS_RELEASE, b"9", "EINVAL"),
        ("host", 0, xs.XS_RESUME, b"9\0", "ENOENT"),
        ("host", 0, xs.XS_RESUME, b"0\0", "EINVAL"),
        ("host", 0, xs.XS_SET_TARGET, b"2\0", "EINVAL"),
        ("host", 0, xs.XS_SET_TARGET, b"2\0009\0", "ENOENT"),
        ("host", 0, xs.XS_SET_TARGET, b"9\0002\0", "ENOENT"),
        ("host", 0, xs.XS_SET_TARGET, b"2\0001\0", OK),
        (2, 0, WRITE, b"/local/domain/1/stub\0v", OK),
        (1, 0, WRITE, b"/local/domain/2/stub\0v", "EACCES"),
    ],
    "control": [
        ("host", 0, CONTROL, b"", "EINVAL"),
        ("host", 0, CONTROL, b"check", "EINVAL"),
        ("host", 0, CONTROL, b"check\0", OK),
        ("host", 0, CONTROL, b"check\0x\0", "EINVAL"),
        ("host", 0, CONTROL, b"print\0hello\0", OK),
        ("host", 0, CONTROL, b"print\0", "EINVAL"),
        ("host", 0, CONTROL, b"help\0", None),
        ("host", 0, CONTROL, b"live-update\0-s\0", "EINVAL"),
        ("host", 0, CONTROL, b"quota\0", None),
        ("host", 0, CONTROL, b"quota\0001\0", None),
        ("host", 0, CONTROL, b"quota\00077\0", "ENOENT"),
        ("host", 0, CONTROL, b"quota\0set\0nodes\0000\0", "EINVAL"),
        ("host", 0, CONTROL, b"quota\0set\0what\0001\0", "EINVAL"),
        ("host", 0, CONTROL, b"quota\0set\0nodes\0002\0", OK),
        (1, 0, MKDIR, b"a\0", OK),
        (1, 0, MKDIR, b"b\0", "ENOSPC"),
    ],
    "features": [
        ("host", 0, 23, b"", b"7\0"),
        ("host", 0, 23, b"1\0", b"7\0"),
        ("host", 0, 24, b"1\0002\0", "EBUSY"),
        ("host", 0, 24, b"9\0008\0", "EINVAL"),
        ("host", 0, 24, b"9\0002\0", OK),
        ("host", 0, 23, b"9\0", b"2\0"),
        ("host", 0, 23, b"70000\0", "ENOENT"),
        (1, 0, 23, b"", "EACCES"),
    ],
    "quotas of one domain and of new ones": [
        ("host", 0, 25, b"nodes\0", b"1000\0"),
        ("host", 0, 26, b"1\0nodes\0002\0", OK),
        ("host", 0, 25, b"1\0nodes\0", b"2\0"),
        ("host", 0, 25, b"2\0nodes\0", b"1000\0"),
        (1, 0, MKDIR, b"a\0", OK),
        (1, 0, MKDIR, b"b\0", "ENOSPC"),
        ("host", 0, 26, b"1\0nodes\0000\0", OK),
        (1, 0, MKDIR, b"b\0", OK),
        ("host", 0, 26, b"watches\0005\0", OK),
        ("host", 0, 25, b"watches\0", b"5\0"),
        ("host", 0, 25, b"2\0watches\0", b"128\0"),
        ("host", 0, 25, b"9\0watches\0", b"5\0"),
        ("host", 0, 26, b"what\0005\0", "EINVAL"),
        ("host", 0, 26, b"nodes\0", "EINVAL"),
        ("host", 0, 25, b"", None),
        (2, 0, 25, b"", "EACCES"),
    ],
}


@pytest.mark.parametrize("story", ROWS)
def test_rows(bench: Bench, story: str) -> None:
    bench.run(ROWS[story])
    assert bench.ask("host", 0, CONTROL, b"check\0") == OK
    assert not [text for text in bench.store.messages if text.startswith("inconsistent")]


def test_each_operation_has_one_row() -> None:
    numbers = [row.number for row in OPERATIONS]
    assert sorted(numbers) == [*range(15), 17, 18, 19, 21, 22, 23, 24, 25, 26]
    assert all(getattr(xs, f"XS_{row.name}", row.number) == row.number for row in OPERATIONS)


def test_a_directory_in_parts_is_the_whole_directory(bench: Bench) -> None:
    names = [f"n{number:04}x" for number in range(2000)]
    for name in names:
        bench.store.mkdir(f"/big/{name}")
    listing = b""
    while not listing.endswith(b"\0\0"):
        part = bench.ask("host", 0, PART, b"/big\0%d\0" % len(listing))
        assert isinstance(part, bytes)
        assert len(part) <= 4096
        listing += part.partition(b"\0")[2]
    assert listing == b"".join(name.encode() + b"\0" for name in names) + b"\0"
