"""One peer: what it waits for, what it has begun, and the messages that wait for it.

Rules: replies come in the order of the requests; an event that already waits is not queued twice
(special events are); a request of a guest stays outstanding until its reply and all events that it
caused, for whomever, have been sent, which is what stops a guest from flooding others.

Theory of operation: the store only appends; a transport takes. `next_message` shows the first
message and `message_sent` removes it, so that a ring may send it in pieces; `take` and `drain`
take all. A connection with messages is in the store's `pending_connections`; one that may be asked
again, because what its requests caused has been sent, is in what the store's `take_busy` returns.
"""

from collections import deque
from typing import TYPE_CHECKING

from hv.abi.io.xs_wire import (
    XENSTORE_PAYLOAD_MAX,
    XENSTORE_SERVER_FEATURE_ERROR,
    XENSTORE_SERVER_FEATURE_RECONNECTION,
    XS_WATCH_EVENT,
)
from hv.core.xenstore.paths import domain_path
from hv.core.xenstore.quotas import Quotas
from hv.core.xenstore.wire import Packet, encode

if TYPE_CHECKING:
    from hv.core.xenstore.access import Access
    from hv.core.xenstore.transactions import Transaction
    from hv.core.xenstore.watches import Watch

_HEADER_SIZE = 16
XENSTORE_SERVER_FEATURE_WATCHDEPTH = 4  # in 4.17's specification, but not in its header
# What a ring offers in server_features, unless SET_FEATURE says less.
SUPPORTED_FEATURES = (
    XENSTORE_SERVER_FEATURE_RECONNECTION
    | XENSTORE_SERVER_FEATURE_ERROR
    | XENSTORE_SERVER_FEATURE_WATCHDEPTH
)


class Domain:
    """What the store knows of a domain: from its first mention until its release."""

    __slots__ = (
        "birth",
        "connection",
        "domid",
        "features",
        "gfn",
        "introduced",
        "nodes",
        "port",
        "quotas",
        "shutdown",
        "watches",
    )  # fmt: skip

    def __init__(self, domid: int, birth: int, quotas: Quotas) -> None:
        self.domid = domid
        self.birth = birth  # the store's generation when it was first mentioned
        self.quotas = quotas
        self.nodes = 0
        self.watches = 0
        self.features = SUPPORTED_FEATURES
        self.introduced = False
        self.shutdown = False
        self.gfn = 0
        self.port = 0
        self.connection: Connection | None = None


class Cause:
    """A guest's request that is outstanding as long as messages it caused wait somewhere."""

    __slots__ = ("connection", "messages")

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection
        self.messages = 0


class Connection:
    """A client, made by `Store.connect` or `Store.introduce`."""

    __slots__ = (
        "_events",
        "_output",
        "_pending",
        "_resumed",
        "_unsent",
        "access",
        "base",
        "domain",
        "domid",
        "ignored",
        "last_transaction",
        "outstanding",
        "privileged",
        "queued_bytes",
        "serial",
        "target",
        "transactions",
        "watches",
    )  # fmt: skip

    def __init__(
        self,
        domain: Domain | None,
        privileged: bool,
        serial: int,
        pending: "dict[Connection, None]",
        resumed: "dict[Connection, None]",
    ) -> None:
        self.domain = domain  # None: a client on a socket
        self.domid = domain.domid if domain else 0
        self.privileged = privileged
        self.base = domain_path(self.domid)
        self.target: int | None = None
        self.serial = serial  # watches fire in the order of connecting
        self.ignored = False
        self.access: Access | None = None  # of its requests outside transactions
        self.watches: dict[tuple[str, bytes], Watch] = {}
        self.transactions: dict[int, Transaction] = {}
        self.last_transaction = 0
        self.outstanding = 0
        self.queued_bytes = 0
        self._output: deque[tuple[Packet, Cause | None]] = deque()
        self._events: set[bytes] = set()
        self._unsent = b""  # of the first message, once it is begun
        self._pending = pending
        self._resumed = resumed

    @property
    def may_send(self) -> bool:
        """False while too many requests of a guest are outstanding: leave the next unread."""
        if self.privileged or self.domain is None:
            return True
        limit = self.domain.quotas.outstanding
        return limit == 0 or self.outstanding < limit

    def settled(self) -> None:
        """All messages that one of its requests caused have been sent."""
        waited = not self.may_send
        self.outstanding -= 1
        if waited and self.may_send:
            self._resumed[self] = None

    def reply(self, packet: Packet, cause: Cause | None = None) -> None:
        """Queue the answer to a request."""
        if cause is not None:
            cause.messages += 1
        if not self._output:
            self._pending[self] = None
        self._output.append((packet, cause))
        self.queued_bytes += _HEADER_SIZE + len(packet.payload)

    def event(self, path: str, token: bytes, cause: Cause | None = None) -> None:
        """Queue a watch event, unless it is too long, waits already, or the guest does not read."""
        payload = path.encode("latin-1") + b"\0" + token + b"\0"
        if len(payload) > XENSTORE_PAYLOAD_MAX:
            return
        if payload in self._events and not path.startswith("@"):
            return
        if not self.privileged and self.domain is not None:
            limit = self.domain.quotas.memory
            if limit and self.queued_bytes + _HEADER_SIZE + len(payload) >= limit:
                return
        self._events.add(payload)
        self.reply(Packet(XS_WATCH_EVENT, 0, 0, payload), cause)

    def next_bytes(self) -> bytes:
        """What is still to be sent of the first waiting message; empty if none waits."""
        if not self._unsent and self._output:
            self._unsent = encode(self._output[0][0])
        return self._unsent

    def sent(self, count: int) -> None:
        """So many of `next_bytes` are sent; a message that is sent whole is gone."""
        self._unsent = self._unsent[count:]
        if not self._unsent:
            self._pop()

    def take(self) -> list[Packet]:
        """Remove and return all waiting messages, whole."""
        return [self._pop() for _ in range(len(self._output))]

    def drain(self) -> bytes:
        """Remove and return all that is still to be sent."""
        if len(self._output) == 1 and not self._unsent:  # what nearly always waits: one reply
            return encode(self._pop())
        first = self.next_bytes()
        return first + b"".join(map(encode, self.take()[1:]))

    def _pop(self) -> Packet:
        self._unsent = b""
        packet, cause = self._output.popleft()
        self.queued_bytes -= _HEADER_SIZE + len(packet.payload)
        if packet.type == XS_WATCH_EVENT:
            self._events.discard(packet.payload)
        if cause is not None:
            cause.messages -= 1
            if not cause.messages:
                cause.connection.settled()
        if not self._output:
            del self._pending[self]
        return packet
