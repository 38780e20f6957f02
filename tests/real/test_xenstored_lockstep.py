"""hv's store and Debian's xenstored 4.17 are asked the same, at random; every reply and every watch event is the same.

Two clients of the socket and two guests; HV_XENSTORED_STEPS is how many requests (default 6,000), HV_XENSTORED_SEED the
first seed. Where hv differs on purpose (docs/xenstore.md), nothing is asked: a transaction looks at every node at its
start, because xenstored sees what others change before the first look; no malformed text; no generation numbers.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from xenstored import RingPeer, SocketPeer, Xenstored

from hv.abi.io import xs_wire as xs
from hv.abi.io.xs_wire import xenstore_domain_interface as layout
from hv.core.xenstore import Connection, Packet, Store, encode
from hv.core.xenstore.ring import Ring

STEPS = int(os.environ.get("HV_XENSTORED_STEPS", "6000"))
SEED = int(os.environ.get("HV_XENSTORED_SEED", "1"))
AREAS = [f"/local/domain/{domid}{below}" for domid in (0, 1, 2) for below in ("", "/x", "/x/y")]
NODES = ("/", "/l", "/l/a", "/l/a/b", "/l/b", "/l/b/c", "/local", "/local/domain", *AREAS)  # all that there will be
PATHS = (*NODES[1:6], *AREAS, "x", "x/y", "../x", "", "/l/", "/l//a", "/l/+", "@introduceDomain", "@other")
TOKENS = ("t", "u", "")
ENTRIES = ("n0", "r0", "n1", "b1", "w1", "n2", "r2", "b2", "r3", "x1", "r", "n70000")
NUMBERS = ("0", "1", "2", "7", "9999", "x")


class Own:
    """A peer of hv's store."""

    def __init__(self, store: Store, connection: Connection) -> None:
        self._store, self.connection = store, connection

    def ask(self, packet: Packet) -> list[Packet]:
        self._store.handle(self.connection, packet)
        return self.connection.take()


class Lockstep:
    """The peers of both, in pairs, and their open transactions."""

    def __init__(self, daemon: Xenstored, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.store = Store(lambda domid: True)  # as xenstored_shim.c says
        self.peers: list[tuple[Own, SocketPeer | RingPeer]] = []
        for _ in range(2):
            self.peers.append((Own(self.store, self.store.connect()), SocketPeer(daemon.path)))
        self.serial = 0
        self.transactions: list[dict[int, int]] = [{} for _ in range(4)]  # hv's number -> the daemon's
        helper = SocketPeer(daemon.path)
        ping = Packet(xs.XS_GET_DOMAIN_PATH, 0, 0, b"0\0")
        for domid in (1, 2):
            self.both(0, xs.XS_INTRODUCE, b"%d\0001\0001\0" % domid)
            domain = self.store.domain(domid)
            assert domain is not None and domain.connection is not None
            own = Own(self.store, domain.connection)
            self.peers.append((own, RingPeer(folder, domid, lambda: (helper.ask(ping), None)[1])))
        for path, permissions in (("/l", "n0\0b1\0r2\0"), ("/local/domain/1", "n1\0"), ("/local/domain/2", "n2\0r1\0")):
            self.both(0, xs.XS_MKDIR, path.encode() + b"\0")
            self.both(0, xs.XS_SET_PERMS, f"{path}\0{permissions}".encode())

    def both(self, who: int, kind: int, payload: bytes, tx: int = 0) -> bytes:
        """Ask both; the reply's payload in hv."""
        self.serial += 1
        mine, theirs = self.peers[who]
        other = self.transactions[who].get(tx, tx)
        first = (
            mine.ask(Packet(kind, self.serial, tx, payload)),
            theirs.ask(Packet(kind, self.serial, other, payload)),
        )
        self.replies = [next(packet for packet in packets if packet.type != xs.XS_WATCH_EVENT) for packets in first]
        # What everybody hears of it comes before the reply to one more request.
        ping = Packet(xs.XS_GET_DOMAIN_PATH, self.serial, 0, b"0\0")
        answers = [
            [
                self.comparable((packets if number == who else []) + pair[side].ask(ping))
                for number, pair in enumerate(self.peers)
            ]
            for side, packets in enumerate(first)
        ]
        what = f"client {who}, operation {kind}, transaction {tx}, {payload!r}"
        assert answers[0] == answers[1], what
        if kind == xs.XS_TRANSACTION_START and self.replies[0].type == kind:
            self.transactions[who][int(self.replies[0].payload[:-1])] = int(self.replies[1].payload[:-1])
        return self.replies[0].payload

    def comparable(self, packets: list[Packet]) -> list[tuple[int, bytes]]:
        """Types and payloads; the numbers of transactions and generations are each one's own affair."""
        rows = []
        for type_, _, _, payload in packets:
            if type_ == xs.XS_TRANSACTION_START:
                payload = b""
            if type_ == xs.XS_DIRECTORY_PART:
                payload = payload.partition(b"\0")[2]
            rows.append((type_, payload))
        return rows

    # --- requests

    def step(self) -> None:
        pick = self.random.choice
        who = self.random.randrange(4)
        tx = pick([0, *self.transactions[who], 4711]) if self.random.random() < 0.6 else 0
        path, token = pick(PATHS).encode() + b"\0", pick(TOKENS).encode() + b"\0"
        roll = self.random.random()
        if roll < 0.45:
            self.both(who, pick((xs.XS_READ, xs.XS_DIRECTORY, xs.XS_GET_PERMS, xs.XS_MKDIR, xs.XS_RM)), path, tx)
        elif roll < 0.65:
            self.both(who, xs.XS_WRITE, path + b"%d" % self.serial, tx)
        elif roll < 0.72:
            entries = "".join(pick(ENTRIES) + "\0" for _ in range(self.random.randrange(1, 4)))
            if not path.startswith(b"@"):  # there xenstored's error is that of whatever failed before
                self.both(who, xs.XS_SET_PERMS, path + entries.encode(), tx)
        elif roll < 0.80:
            self.both(who, pick((xs.XS_WATCH, xs.XS_WATCH, xs.XS_UNWATCH)), path + token, tx)
        elif roll < 0.86:
            self.begin(who, tx)
        elif roll < 0.93:
            self.end(who, tx)
        else:
            self.rest(who, path, tx)

    def begin(self, who: int, tx: int) -> None:
        if len(self.transactions[who]) > 3 and not tx:
            return
        before = set(self.transactions[who])
        self.both(who, xs.XS_TRANSACTION_START, b"\0", tx)
        for number in set(self.transactions[who]) - before:
            for node in NODES:
                self.both(who, xs.XS_READ, node.encode() + b"\0", number)

    def end(self, who: int, tx: int) -> None:
        verdict = self.random.choice((b"T\0", b"T\0", b"F\0", b"x\0"))
        self.both(who, xs.XS_TRANSACTION_END, verdict, tx)
        if verdict != b"x\0":
            self.transactions[who].pop(tx, None)

    def rest(self, who: int, path: bytes, tx: int) -> None:
        pick = self.random.choice
        number = pick(NUMBERS).encode() + b"\0"
        kind, payload = pick((
            (xs.XS_DIRECTORY_PART, path + b"0\0"),
            (xs.XS_GET_DOMAIN_PATH, number),
            (xs.XS_IS_DOMAIN_INTRODUCED, pick((b"1\0", b"2\0", b"7\0"))),
            (xs.XS_RESUME, b"1\0"),
            (xs.XS_SET_TARGET, b"1\0002\0"),
            (xs.XS_RESET_WATCHES, b"\0"),
            (20, path),
            (31, path),
            (xs.XS_WATCH_EVENT, path + b"t\0"),
            (xs.XS_ERROR, path),
        ))  # fmt: skip
        self.both(who, kind, payload, tx)
        if kind == xs.XS_RESET_WATCHES and not (tx and tx not in self.transactions[who]):
            self.transactions[who].clear()


@pytest.fixture
def daemon(tmp_path: Path, debian_package: Callable[[str], Path]) -> Iterator[Xenstored]:
    daemon = Xenstored(tmp_path, debian_package)
    yield daemon
    daemon.close()


@pytest.mark.parametrize("seed", [SEED, SEED + 1])
def test_random_requests(daemon: Xenstored, tmp_path: Path, seed: int) -> None:
    lockstep = Lockstep(daemon, tmp_path, seed)
    for _ in range(STEPS // 2):
        lockstep.step()
    assert not lockstep.store._state.tree.faults()


def test_quotas(daemon: Xenstored, tmp_path: Path) -> None:
    """A guest goes one further than it may, in each respect."""
    both = Lockstep(daemon, tmp_path, 0).both
    quotas = {"nodes": 6, "watches": 3, "transactions": 2, "transaction-nodes": 8, "node-size": 300}
    for name, value in quotas.items():
        assert both(0, xs.XS_CONTROL, b"quota\0set\0%s\0%d\0" % (name.encode(), value)) == b"OK\0"
    guest, replies = 2, []
    for number in range(8):
        replies.append(both(guest, xs.XS_MKDIR, b"node%d/below\0" % number))
    for number in range(6):
        replies.append(both(guest, xs.XS_WATCH, b"x\0%d\0" % number))
    for number in range(3):
        both(guest, xs.XS_RM, b"node%d\0" % number)
    for size in (200, 230, 250, 270, 290, 310):
        replies.append(both(guest, xs.XS_WRITE, b"big\0" + b"v" * size))
    for entries in range(1, 8):
        replies.append(both(guest, xs.XS_SET_PERMS, b"big\0" + b"n1\0" * entries))
    for _ in range(5):
        replies.append(both(guest, xs.XS_TRANSACTION_START, b"\0"))
    assert {b"OK\0", b"ENOSPC\0", b"E2BIG\0"} <= set(replies)
    both(guest, xs.XS_RESET_WATCHES, b"\0")
    number = int(both(guest, xs.XS_TRANSACTION_START, b"\0")[:-1])
    for node in range(10):
        both(guest, xs.XS_WRITE, b"node%d/below\0" % node, number)
    both(guest, xs.XS_TRANSACTION_END, b"T\0", number)


HOSTILE = [
    {"req_prod": 1025},
    {"req_cons": 0x80000000},
    {"req_prod": 20, "rsp_prod": 1025},
    {"req_prod": 20, "rsp_cons": 1},
    {"message": 4097},
    {"message": 0xFFFFFFFF},
    {"message": 4096},
]


@pytest.mark.parametrize("fields", HOSTILE, ids=str)
def test_hostile_rings(daemon: Xenstored, tmp_path: Path, fields: dict[str, int]) -> None:
    """The error that the ring page shows, and whether the guest is still served."""
    lockstep = Lockstep(daemon, tmp_path, 0)
    own, theirs = lockstep.peers[2]
    assert isinstance(theirs, RingPeer)
    page = bytearray(4096)
    ring = Ring(memoryview(page), own.connection, lockstep.store, lambda: None)
    for memory in (page, theirs.page):
        struct.pack_into("<4I", memory, layout.req_cons.offset, 0, 0, 0, 0)
        for name, value in fields.items():
            if name == "message":
                memory[:16] = struct.pack("<4I", xs.XS_READ, 1, 0, value)
                struct.pack_into("<I", memory, layout.req_prod.offset, 16)
            else:
                memory[:20] = encode(Packet(xs.XS_GET_DOMAIN_PATH, 1, 0, b"100\0"))
                struct.pack_into("<I", memory, getattr(layout, name).offset, value)
    ring.service()
    for _ in range(3):
        theirs.poke()
    errors = [struct.unpack_from("<I", memory, layout.error.offset)[0] for memory in (page, theirs.page)]
    assert errors[0] == errors[1]
    for memory in (page, theirs.page):
        struct.pack_into("<4I", memory, layout.req_cons.offset, 0, 0, 0, 0)
        memory[:20] = encode(Packet(xs.XS_GET_DOMAIN_PATH, 1, 0, b"100\0"))
        struct.pack_into("<I", memory, layout.req_prod.offset, 20)
    ring.service()
    theirs.poke()
    taken = [struct.unpack_from("<I", memory, layout.req_cons.offset)[0] for memory in (page, theirs.page)]
    assert taken[0] == taken[1]
