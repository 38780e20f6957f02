"""The ring page: fragmentation, back-pressure, hostile indices."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hv.abi.io import xs_wire as xs
from hv.abi.io.xs_wire import xenstore_domain_interface as layout
from hv.core.xenstore import Decoder, Packet, Store, encode
from hv.core.xenstore.ring import Ring

U32 = struct.Struct("<I")
FIELDS = ("req_cons", "req_prod", "rsp_cons", "rsp_prod", "server_features", "connection", "error")
ASK = encode(Packet(xs.XS_GET_DOMAIN_PATH, 5, 0, b"7\0"))
ANSWER = Packet(xs.XS_GET_DOMAIN_PATH, 5, 0, b"/local/domain/7\0")


class Guest:
    """The guest's side of a ring, written anew."""

    def __init__(self, start: int = 0) -> None:
        self.store = Store()
        self.store.write("/local/domain/1", b"", ["n1"])
        self.connection = self.store.introduce(1)
        self.page = bytearray(4096)
        self.notified = 0
        self.ring = Ring(memoryview(self.page), self.connection, self.store, self.notify)
        self.decoder = Decoder()
        for field in FIELDS[:4]:
            self.set(field, start)

    def notify(self) -> None:
        self.notified += 1

    def get(self, field: str) -> int:
        offset: int = getattr(layout, field).offset
        number: int = U32.unpack_from(self.page, offset)[0]
        return number

    def set(self, field: str, number: int) -> None:
        U32.pack_into(self.page, getattr(layout, field).offset, number & 0xFFFFFFFF)

    def send(self, data: bytes) -> int:
        """Put what fits; how much that was."""
        producer = self.get("req_prod")
        room = 1024 - ((producer - self.get("req_cons")) & 0xFFFFFFFF)
        for count, byte in enumerate(data[:room]):
            self.page[layout.req.offset + (producer + count) % 1024] = byte
        self.set("req_prod", producer + len(data[:room]))
        return len(data[:room])

    def take(self, limit: int = 1024) -> bytes:
        """Take at most `limit` bytes."""
        consumer = self.get("rsp_cons")
        size = min((self.get("rsp_prod") - consumer) & 0xFFFFFFFF, limit)
        data = bytes(self.page[layout.rsp.offset + (consumer + i) % 1024] for i in range(size))
        self.set("rsp_cons", consumer + size)
        return data

    def receive(self) -> list[Packet]:
        """What is in the ring."""
        return list(self.decoder.feed(self.take()))

    def exchange(self, data: bytes, piece: int = 1024, sip: int = 1024) -> list[Packet]:
        """Send all, receive all."""
        packets: list[Packet] = []
        moved = True
        while data or moved:
            data = data[self.send(data[:piece]) :]
            moved = self.ring.service()
            answer = self.take(sip)
            packets += self.decoder.feed(answer)
            moved = moved or bool(answer)
        return packets


@pytest.mark.parametrize("start", [0, 1000, 0xFFFFFFF0])
@pytest.mark.parametrize(("piece", "sip"), [(1, 1), (7, 1024), (1024, 5), (1024, 1024)])
def test_any_fragmentation_anywhere_in_the_ring(start: int, piece: int, sip: int) -> None:
    guest = Guest(start)
    assert guest.exchange(ASK * 60, piece, sip) == [ANSWER] * 60
    assert guest.get("req_cons") == guest.get("req_prod") == (start + 60 * len(ASK)) & 0xFFFFFFFF


def test_messages_larger_than_the_ring() -> None:
    guest = Guest()
    write = encode(Packet(xs.XS_WRITE, 1, 0, b"k\0" + b"v" * 2000))
    read = encode(Packet(xs.XS_READ, 2, 0, b"k\0"))
    assert guest.exchange(write + read) == [
        Packet(xs.XS_WRITE, 1, 0, b"OK\0"),
        Packet(xs.XS_READ, 2, 0, b"v" * 2000),
    ]


def test_notification_only_when_something_moved() -> None:
    guest = Guest()
    assert not guest.ring.service()
    guest.send(ASK[:3])
    assert guest.ring.service()
    assert not guest.ring.service()


def test_a_guest_that_does_not_read_is_not_served_further() -> None:
    guest = Guest()
    data = ASK * 100
    while sent := guest.send(data):
        data = data[sent:]
        guest.ring.service()
    waiting = guest.connection.outstanding
    assert waiting == 20
    assert (guest.get("rsp_prod") - guest.get("rsp_cons")) & 0xFFFFFFFF == 1024
    assert guest.exchange(data) == [ANSWER] * 100


def test_nothing_else_on_the_page_is_written() -> None:
    guest = Guest()
    guest.ring.offer()
    guest.page[2064:] = b"\xaa" * (4096 - 2064)
    guest.page[0:1024] = b"\x55" * 1024
    guest.send(ASK)
    before = bytes(guest.page)
    guest.ring.service()
    size = len(encode(ANSWER))
    assert guest.page[:1024] == before[:1024]
    assert guest.page[1024 + size : 2048] == before[1024 + size : 2048]
    assert guest.page[2064:] == before[2064:]


HOSTILE = [
    ({"req_prod": 1025}, xs.XENSTORE_ERROR_RINGIDX),
    ({"req_cons": 19}, xs.XENSTORE_ERROR_RINGIDX),
    ({"req_cons": 0x80000000}, xs.XENSTORE_ERROR_RINGIDX),
    ({"rsp_prod": 1025}, xs.XENSTORE_ERROR_RINGIDX),
    ({"rsp_cons": 1}, xs.XENSTORE_ERROR_RINGIDX),
    ({"rsp_prod": 0xFFFFFFFF}, xs.XENSTORE_ERROR_RINGIDX),
    ({"rsp_prod": 1024}, xs.XENSTORE_ERROR_NONE),  # full, not wrong
]


@pytest.mark.parametrize(("fields", "error"), HOSTILE)
def test_hostile_indices_end_one_connection(fields: dict[str, int], error: int) -> None:
    guest = Guest()
    other = guest.store.introduce(2)
    guest.send(ASK)
    for field, value in fields.items():
        guest.set(field, value)
    guest.ring.service()
    assert guest.get("error") == error
    assert guest.connection.ignored is (error != 0)
    if error:
        page = bytes(guest.page)
        for field in FIELDS[:4]:
            guest.set(field, 0)
        guest.send(ASK)
        assert not guest.ring.service()
        assert guest.get("req_cons") == 0
        assert guest.page[1024:2048] == page[1024:2048]
    guest.store.handle(other, Packet(xs.XS_READ, 1, 0, b"/\0"))
    assert len(other.take()) == 1


def test_an_oversized_message_ends_the_connection_after_those_before_it() -> None:
    guest = Guest()
    guest.send(ASK + struct.pack("<4I", xs.XS_READ, 1, 0, 4097) + b"junk")
    guest.ring.service()
    assert guest.get("error") == xs.XENSTORE_ERROR_PROTO
    assert guest.receive() == [ANSWER]
    assert guest.get("req_cons") == len(ASK) + 16


def test_a_second_introduce_gives_a_fresh_ring() -> None:
    guest = Guest()
    guest.send(ASK + ASK[:5])
    guest.set("connection", xs.XENSTORE_RECONNECT)  # not offered, so not looked at
    guest.ring.service()
    guest.store.introduce(1)
    guest.ring.begin_anew()
    assert [guest.get(field) for field in FIELDS] == [0] * 7
    assert guest.exchange(ASK) == [ANSWER]


def test_features_are_only_added() -> None:
    guest = Guest()
    guest.set("server_features", 0x80)
    guest.ring.offer()
    assert guest.get("server_features") == 0x87


def test_a_toolstack_says_what_a_ring_offers() -> None:
    guest = Guest()
    client = guest.store.connect()
    guest.store.release(1)
    guest.store.handle(client, Packet(24, 1, 0, b"1\0" + b"2\0"))
    guest.connection = guest.store.introduce(1)
    guest.ring = Ring(memoryview(guest.page), guest.connection, guest.store, guest.notify)
    guest.ring.offer()
    assert guest.get("server_features") == xs.XENSTORE_SERVER_FEATURE_ERROR
    guest.set("connection", xs.XENSTORE_RECONNECT)
    guest.ring.service()
    assert guest.get("connection") == xs.XENSTORE_RECONNECT


@pytest.mark.parametrize("broken", [False, True])
def test_reconnection(broken: bool) -> None:
    guest = Guest()
    guest.ring.offer()
    begun = [(xs.XS_WATCH, b"x\0t\0"), (xs.XS_TRANSACTION_START, b"\0")]
    assert len(guest.exchange(b"".join(encode(Packet(kind, 1, 0, text)) for kind, text in begun))) == 3
    guest.send(ASK[:9])
    guest.ring.service()
    if broken:
        guest.set("req_prod", 5000)
        guest.ring.service()
        assert guest.get("error") == xs.XENSTORE_ERROR_RINGIDX
    guest.set("connection", xs.XENSTORE_RECONNECT)
    before = guest.notified
    guest.ring.service()
    assert guest.notified > before
    assert [guest.get(field) for field in (*FIELDS[:4], *FIELDS[5:])] == [0] * 6
    assert not guest.connection.watches and not guest.connection.transactions
    assert guest.exchange(ASK) == [ANSWER]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=300),
            st.tuples(
                st.sampled_from(FIELDS),
                st.one_of(st.integers(0, 0xFFFFFFFF), st.sampled_from([0, 1, 1024, 1025])),
            ),
        ),
        max_size=25,
    )
)
def test_no_garbage_disturbs_the_service(script: list[bytes | tuple[str, int]]) -> None:
    guest = Guest()
    for step in script:
        if isinstance(step, bytes):
            guest.send(step)
        else:
            guest.set(*step)
        guest.ring.service()
        guest.take()
    client = guest.store.connect()
    guest.store.handle(client, Packet(xs.XS_READ, 1, 0, b"/tool\0"))
    assert [packet.type for packet in client.take()] == [xs.XS_READ]
