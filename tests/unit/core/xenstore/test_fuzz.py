"""Bytes of hostile clients: whatever they send, the store stays whole and everybody else is served.

HV_XENSTORE_MESSAGES is how many messages are sent (default 60,000; a long run takes 1,000,000 and more).
"""

import os
import random
import struct
from collections import Counter

import pytest

from hv.abi.io import xs_wire as xs
from hv.abi.io.xs_wire import xenstore_domain_interface as layout
from hv.core.xenstore import Decoder, Packet, ProtocolError, Store, encode
from hv.core.xenstore.ring import Ring

MESSAGES = int(os.environ.get("HV_XENSTORE_MESSAGES", "60000"))
PARTS = (
    b"/", b"/a", b"/a/b", b"/local/domain/1", b"/local/domain/1/x", b"x", b"x/y", b"//",
    b"@releaseDomain",
    b"@introduceDomain", b"T", b"F", b"0", b"1", b"2", b"7", b"-1", b"4294967296", b"n0", b"r1", b"b2",
    b"n1", b"w70000",

    b"quota", b"set", b"nodes", b"check", b"", b"\xff\xfe", b"%s", b"/" + b"p" * 3000, b"z" * 4000,
)  # fmt: skip


def messages(rng: random.Random, count: int) -> bytes:
    """Messages, most of them nearly right."""
    sent = []
    for _ in range(count):
        words = [rng.choice(PARTS) for _ in range(rng.randrange(4))]
        payload = b"\0".join(words) + b"\0" * rng.randrange(2)
        if rng.random() < 0.05:
            payload = rng.randbytes(rng.randrange(200))
        payload = payload[:4096]
        kind = rng.choice((rng.randrange(32), xs.XS_WRITE, xs.XS_MKDIR, xs.XS_WATCH, xs.XS_TRANSACTION_START))
        tx = rng.choice((0, 0, 0, 1, 2, 3, rng.getrandbits(32)))
        sent.append(encode(Packet(kind, rng.getrandbits(32), tx, payload)))
    data = b"".join(sent)
    if rng.random() < 0.1:  # a few bytes wrong: often the end of the connection
        broken = bytearray(data)
        for _ in range(3):
            broken[rng.randrange(len(broken))] = rng.getrandbits(8)
        data = bytes(broken)
    return data


def check(store: Store) -> None:
    """The tree is whole, the counts are right, and a client is served."""
    state = store._state
    assert not state.tree.faults()
    owners = Counter(node.permissions[0].domid for node in state.tree._nodes.values())
    assert {domid: domain.nodes for domid, domain in state.domains.items() if domain.nodes} == dict(owners)
    client = store.connect()
    store.handle(client, Packet(xs.XS_READ, 7, 0, b"/tool\0"))
    assert client.take() == [Packet(xs.XS_READ, 7, 0, b"")]
    store.disconnect(client)


class Page:
    """A guest's ring, without any manners."""

    def __init__(self, store: Store, domid: int) -> None:
        self.page = bytearray(4096)
        self.connection = store.introduce(domid)
        self.ring = Ring(memoryview(self.page), self.connection, store, lambda: None)
        self.ring.offer()

    def field(self, name: str, value: int | None = None) -> int:
        offset: int = getattr(layout, name).offset
        if value is not None:
            struct.pack_into("<I", self.page, offset, value & 0xFFFFFFFF)
        number: int = struct.unpack_from("<I", self.page, offset)[0]
        return number

    def feed(self, data: bytes, reads: bool) -> None:
        while data:
            producer = self.field("req_prod")
            room = 1024 - ((producer - self.field("req_cons")) & 0xFFFFFFFF)
            piece, data = data[: max(room, 0)], data[max(room, 0) :]
            for number, byte in enumerate(piece):
                self.page[(producer + number) % 1024] = byte
            self.field("req_prod", producer + len(piece))
            moved = self.ring.service()
            if reads:
                self.field("rsp_cons", self.field("rsp_prod"))
            if self.connection.ignored or not (moved or reads):
                return


@pytest.mark.parametrize("seed", range(3))
def test_hostile_clients(seed: int) -> None:
    rng = random.Random(seed)
    store = Store()
    store.mkdir("/local/domain/1", ["n1"])
    guests = {domid: Page(store, domid) for domid in (1, 2)}
    clients = [(store.connect(), Decoder()) for _ in range(3)]
    sent = 0
    while sent < MESSAGES // 3:
        count = rng.randrange(1, 12)
        data = messages(rng, count)
        sent += count
        who = rng.randrange(5)
        if who < 3:
            connection, decoder = clients[who]
            try:
                for start in range(0, len(data), size := rng.choice((1 << 20, 700, 16))):
                    for packet in decoder.feed(data[start : start + size]):
                        store.handle(connection, packet)
            except ProtocolError:
                store.disconnect(connection)
                clients[who] = (store.connect(), Decoder())
            if rng.random() < 0.8:
                connection.take()
        else:
            guest = guests[who - 2]
            guest.feed(data, reads=rng.random() < 0.7)
            if rng.random() < 0.05:
                field = rng.choice(("req_cons", "req_prod", "rsp_cons", "rsp_prod", "connection", "error"))
                guest.field(field, rng.choice((0, 1, 1025, rng.getrandbits(32))))
            if rng.random() < 0.02:
                if store.domain(who - 2) is not None and store.domain(who - 2).introduced:  # type: ignore[union-attr]
                    store.release(who - 2)
                guests[who - 2] = Page(store, who - 2)
        if rng.random() < 0.05:
            check(store)
    check(store)


def test_one_guest_misbehaves_and_the_other_does_not_notice() -> None:
    store = Store()
    store.mkdir("/local/domain/2", ["n2"])
    good, bad, rng = Page(store, 2), Page(store, 1), random.Random(1)
    decoder = Decoder()
    for number in range(300):
        bad.feed(messages(rng, 3), reads=False)
        if number % 10 == 0:
            bad.field(rng.choice(("req_prod", "rsp_cons")), rng.getrandbits(32))
        if bad.connection.ignored:
            bad = Page(store, 1)
        start = good.field("rsp_prod")
        good.feed(encode(Packet(xs.XS_WRITE, number, 0, b"k\0%d" % number)), reads=False)
        end = good.field("rsp_prod")
        data = bytes(good.page[1024 + n % 1024] for n in range(start, end))
        good.field("rsp_cons", end)
        assert list(decoder.feed(data)) == [Packet(xs.XS_WRITE, number, 0, b"OK\0")]
    assert store.read("/local/domain/2/k") == b"299"
