"""The ring page between a guest and the store.

Rules: the guest's indices are read once per transfer and checked before use; indices that differ by
more than the ring end the connection with XENSTORE_ERROR_RINGIDX, an oversized message with
XENSTORE_ERROR_PROTO, both told in the page's error field; a guest that was offered reconnection may
ask for it at any time, also after an error, and begins anew with empty rings, without watches and
transactions; nothing outside the two rings, the store's own indices and the three fields of the
server is written; a guest whose requests are outstanding, or whose replies do not fit, is left
waiting, never the store.

Theory of operation: `service` runs when the guest has signalled, or when the connection has
something to send. It moves bytes until neither side can go on. A message is taken from the ring
only as far as the decoder wants it, so requests that may not be served yet stay in the ring.

ABI: struct xenstore_domain_interface in public/io/xs_wire.h, docs/misc/xenstore-ring.txt.
"""

import struct
from collections.abc import Callable

from hv.abi.io.xs_wire import (
    XENSTORE_CONNECTED,
    XENSTORE_ERROR_NONE,
    XENSTORE_ERROR_PROTO,
    XENSTORE_ERROR_RINGIDX,
    XENSTORE_RECONNECT,
    XENSTORE_RING_SIZE,
    XENSTORE_SERVER_FEATURE_RECONNECTION,
    xenstore_domain_interface,
)
from hv.core.xenstore.connection import Connection
from hv.core.xenstore.store import Store
from hv.core.xenstore.wire import Decoder, ProtocolError

_U32 = struct.Struct("<I")
_PAIR = struct.Struct("<2I")


def _offset(field: str) -> int:
    offset: int = getattr(xenstore_domain_interface, field).offset
    return offset


_REQ, _RSP = _offset("req"), _offset("rsp")
_REQ_CONS, _RSP_CONS = _offset("req_cons"), _offset("rsp_cons")  # each followed by its producer
_RSP_PROD = _offset("rsp_prod")
_FEATURES, _CONNECTION, _ERROR = _offset("server_features"), _offset("connection"), _offset("error")


class _IndexError(Exception):
    """The guest's indices cannot be."""


class Ring:
    """One guest's ring. `page` is writable and at least as large as the interface.

    `notify()` sends the guest its event.
    """

    def __init__(
        self, page: memoryview, connection: Connection, store: Store, notify: Callable[[], None]
    ) -> None:
        self._page = page
        self._connection = connection
        self._store = store
        self._notify = notify
        self._decoder = Decoder()
        self._reconnects = False

    def offer(self) -> None:
        """Show the domain's feature bits to the guest; bits are never taken back."""
        domain = self._connection.domain
        features = domain.features if domain is not None else 0
        shown = _U32.unpack_from(self._page, _FEATURES)[0]
        _U32.pack_into(self._page, _FEATURES, shown | features)
        self._reconnects = bool(features & XENSTORE_SERVER_FEATURE_RECONNECTION)

    def begin_anew(self) -> None:
        """Empty rings, as after INTRODUCE; the store has reset the connection already."""
        self._decoder = Decoder()
        _PAIR.pack_into(self._page, _REQ_CONS, 0, 0)
        _PAIR.pack_into(self._page, _RSP_CONS, 0, 0)
        _U32.pack_into(self._page, _ERROR, XENSTORE_ERROR_NONE)
        _U32.pack_into(self._page, _CONNECTION, XENSTORE_CONNECTED)
        self._notify()

    def service(self) -> bool:
        """Move what can be moved, and tell the guest if anything was; whether it was."""
        moved = False
        if self._reconnects and _U32.unpack_from(self._page, _CONNECTION)[0] == XENSTORE_RECONNECT:
            self._store.reconnect(self._connection)
            self.begin_anew()
        try:
            while not self._connection.ignored and (self._receive() | self._send()):
                moved = True
        except _IndexError:
            self._fail(XENSTORE_ERROR_RINGIDX)
        except ProtocolError:
            self._fail(XENSTORE_ERROR_PROTO)
        if moved:
            self._notify()
        return moved

    def _receive(self) -> bool:
        """Take bytes up to the end of one message."""
        if not self._connection.may_send:
            return False
        consumer, producer = self._indices(_REQ_CONS)
        if consumer == producer:
            return False
        start = consumer % XENSTORE_RING_SIZE
        size = min(self._decoder.wanted, producer - consumer, XENSTORE_RING_SIZE - start)
        chunk = self._page[_REQ + start : _REQ + start + size]
        packets = self._decoder.feed(chunk)
        _U32.pack_into(self._page, _REQ_CONS, (consumer + size) & 0xFFFFFFFF)
        for packet in packets:
            self._store.handle(self._connection, packet)
        return True

    def _send(self) -> bool:
        """Give bytes of the first waiting message."""
        data = self._connection.next_bytes()
        if not data:
            return False
        consumer, producer = self._indices(_RSP_CONS)
        start = producer % XENSTORE_RING_SIZE
        room = XENSTORE_RING_SIZE - (producer - consumer)
        size = min(len(data), room, XENSTORE_RING_SIZE - start)
        if not size:
            return False
        self._page[_RSP + start : _RSP + start + size] = data[:size]
        _U32.pack_into(self._page, _RSP_PROD, (producer + size) & 0xFFFFFFFF)
        self._connection.sent(size)
        return True

    def _indices(self, offset: int) -> tuple[int, int]:
        """(consumer, producer) with the producer unwrapped to be the larger one."""
        consumer, producer = _PAIR.unpack_from(self._page, offset)
        used = (producer - consumer) & 0xFFFFFFFF
        if used > XENSTORE_RING_SIZE:
            raise _IndexError
        return consumer, consumer + used

    def _fail(self, error: int) -> None:
        _U32.pack_into(self._page, _ERROR, error)
        self._store.ignore(self._connection)
