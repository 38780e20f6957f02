"""A store with a privileged client ("host") and two guests (1, 2), and rows of requests on it."""

from collections.abc import Iterable

import pytest

from hv.abi.io import xs_wire as xs
from hv.core.xenstore import Connection, Packet, Store

Row = tuple[object, int, int, bytes, object]


class Bench:
    """Sends rows of (who, transaction, operation, payload, expected).

    `expected` is the payload of the reply, an errno name, or None for anything but an error.
    """

    def __init__(self) -> None:
        self.store = Store()
        self.peers: dict[object, Connection] = {"host": self.store.connect()}
        for domid in (1, 2):
            self.store.write(f"/local/domain/{domid}", b"", [f"n{domid}"])
            self.peers[domid] = self.store.introduce(domid)

    def packets(self, who: object, tx: int, kind: int, payload: bytes) -> list[Packet]:
        """All that the sender gets."""
        connection = self.peers[who]
        self.store.handle(connection, Packet(kind, 77, tx, payload))
        return connection.take()

    def ask(self, who: object, tx: int, kind: int, payload: bytes) -> object:
        """The payload of the reply, or the errno name."""
        replies = [p for p in self.packets(who, tx, kind, payload) if p.type != xs.XS_WATCH_EVENT]
        assert len(replies) == 1
        reply = replies[0]
        assert (reply.req_id, reply.tx_id) == (77, tx)
        if reply.type == xs.XS_ERROR:
            assert reply.payload.endswith(b"\0")
            return reply.payload[:-1].decode()
        assert reply.type == kind
        return reply.payload

    def run(self, rows: Iterable[Row]) -> None:
        """Send each row and compare."""
        for row in rows:
            who, tx, kind, payload, expected = row
            answer = self.ask(who, tx, kind, payload)
            if expected is None:
                assert not isinstance(answer, str), row
            else:
                assert answer == expected, row

    def begin(self, who: object) -> int:
        """Start a transaction."""
        answer = self.ask(who, 0, xs.XS_TRANSACTION_START, b"\0")
        assert isinstance(answer, bytes)
        return int(answer[:-1])

    def events(self, who: object) -> list[tuple[str, str]]:
        """The (path, token) of the waiting events."""
        packets = self.peers[who].take()
        assert all((p.type, p.req_id, p.tx_id) == (xs.XS_WATCH_EVENT, 0, 0) for p in packets)
        parts = [p.payload.decode().split("\0") for p in packets]
        return [(path, token) for path, token, _ in parts]


@pytest.fixture
def bench() -> Bench:
    return Bench()
