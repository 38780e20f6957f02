"""XenStore: a pure function of its state and a request.

Rules: `handle` never raises for anything a peer sends, and calls nobody back but observers; replies
and watch events collect in the queues of the connections, and `pending_connections` holds those with
something to send; one peer's mistake never touches another peer.

Theory of operation: a transport makes a connection with `connect` (a socket) or `introduce` (a
ring), decodes packets with `wire.Decoder` or `ring.Ring`, passes them to `handle`, and sends what
it finds in the queues. The host side of a machine uses `read`, `write` and their like, which act
as a privileged client and fire watches the same way.

An empty store holds "/", "/tool" and "/tool/xenstored", as that of Xen 4.17.
Source: docs/misc/xenstore.txt, public/io/xs_wire.h.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable

from hv.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX, XS_ERROR
from hv.core.xenstore import dump as text_form
from hv.core.xenstore import permissions as perms
from hv.core.xenstore.access import Access
from hv.core.xenstore.connection import Cause, Connection, Domain
from hv.core.xenstore.domain_operations import close_domain, introduced, open_domain
from hv.core.xenstore.errors import XenStoreError
from hv.core.xenstore.operations import InTransaction, by_number, dispatch
from hv.core.xenstore.paths import absolute
from hv.core.xenstore.permissions import Permission
from hv.core.xenstore.quotas import Quotas
from hv.core.xenstore.state import Observer, RingChange, State
from hv.core.xenstore.tree import Node
from hv.core.xenstore.watches import RELEASE_DOMAIN
from hv.core.xenstore.wire import Packet

_DOMID_FIRST_RESERVED = 0x7FF0
_new = tuple.__new__  # as in wire.py
_REFUSED, _IGNORED = InTransaction.REFUSED, InTransaction.IGNORED


def _is_domid(domid: int) -> bool:
    return domid < _DOMID_FIRST_RESERVED


class Store:
    """One XenStore. `domain_exists` tells which domain ids SET_PERMS may name."""

    def __init__(self, domain_exists: Callable[[int], bool] = _is_domid) -> None:
        self._state = State(domain_exists)
        self._operations = by_number()
        self._dispatch = dispatch()
        self._plant()
        self._host = self._state.connection(None, privileged=True)
        self._host_access = Access(self._state, self._host, None)
        self.introduce(0)

    def _plant(self) -> None:
        state, tree = self._state, self._state.tree
        permissions = (Permission(0, perms.NONE),)
        state.domain(0)
        root = Node.empty(b"", permissions, tree.next_generation())
        tree.put("/", root)
        state.domain(0).nodes += 1
        host = Access(state, state.connection(None, privileged=True), None)
        host.make("/tool/xenstored")

    # Peers

    def connect(self, domid: int = 0, privileged: bool = True) -> Connection:
        """A client: a privileged one on a socket, or one that acts for a domain."""
        if privileged:
            return self._state.connection(None, privileged=True)
        return self._state.connection(self._state.domain(domid), privileged=False)

    def disconnect(self, connection: Connection) -> None:
        """The client is gone: its watches, transactions and messages go too."""
        self.ignore(connection)

    def ignore(self, connection: Connection) -> None:
        """Answer a peer no more, without forgetting its domain (a ring in an error state)."""
        self._state.reset(connection)
        connection.ignored = True

    def reconnect(self, connection: Connection) -> None:
        """A guest asked for its ring to begin anew: as after INTRODUCE, also if it was ignored."""
        self._state.reset(connection)
        connection.ignored = False

    def introduce(self, domid: int, gfn: int = 0, port: int = 1) -> Connection:
        """Connect a domain and fire @introduceDomain; again: reset its connection."""
        return open_domain(self._state, domid, gfn, port)

    def release(self, domid: int) -> None:
        """Disconnect a domain, delete what it owns and fire @releaseDomain. Raises ENOENT."""
        domain = introduced(self._state, domid).domain
        assert domain is not None
        close_domain(self._state, domain)

    def domain_shut_down(self, domid: int) -> None:
        """A domain has shut down or crashed: fire @releaseDomain, once until RESUME."""
        domain = self._state.domains.get(domid)
        if domain is not None and domain.introduced and not domain.shutdown:
            domain.shutdown = True
            self._state.fire_special(RELEASE_DOMAIN, domid)

    @property
    def busy(self) -> bool:
        """Whether `take_busy` would return anybody, or a ring has to be opened or closed."""
        state = self._state
        return bool(state.pending or state.resumed or state.ring_changes)

    @property
    def pending_connections(self) -> Collection[Connection]:
        """The connections with messages to send, in the order they got the first."""
        return self._state.pending.keys()

    def take_busy(self) -> list[Connection]:
        """Those with messages, and those that may be asked again since the last call."""
        state = self._state
        busy = [*state.pending, *state.resumed]
        state.resumed.clear()
        return busy

    def observe(self, observer: Observer) -> None:
        """Tell somebody of every request, reply and watch event as it happens."""
        self._state.observers += (observer,)

    def unobserve(self, observer: Observer) -> None:
        """Tell it no more."""
        self._state.observers = tuple(o for o in self._state.observers if o is not observer)

    def path_of(self, connection: Connection, packet: Packet) -> str | None:
        """The absolute path of the node that a request is about, or None."""
        row = self._operations.get(packet.type)
        name, nul, _ = packet.payload.partition(b"\0")
        if row is None or not row.names_node or not nul:
            return None
        return absolute(name.decode("latin-1"), connection.base)

    @property
    def ring_changes(self) -> deque[RingChange]:
        """Rings that INTRODUCE and RELEASE requests ask to open and close: take from the left."""
        return self._state.ring_changes

    @property
    def messages(self) -> deque[str]:
        """What CONTROL "print" and "check" said."""
        return self._state.messages

    @property
    def quotas(self) -> Quotas:
        """The limits of every domain that SET_QUOTA gave none of its own."""
        return self._state.quotas

    def domain(self, domid: int) -> Domain | None:
        """What is known of a domain: its counts, its limits, its connection."""
        return self._state.domains.get(domid)

    # Requests

    def handle(self, connection: Connection, packet: Packet) -> None:
        """Serve one request; its reply and events are queued."""
        if connection.ignored:
            return
        kind, req_id, tx_id, payload = packet
        state = self._state
        for observer in state.observers:
            observer.request(connection, packet)
        cause = None
        if not connection.privileged:
            cause = state.cause = Cause(connection)
        try:
            answer = self._answer(connection, kind, tx_id, payload)
            if len(answer) > XENSTORE_PAYLOAD_MAX:
                raise XenStoreError("E2BIG")
        except XenStoreError as error:
            kind, answer = XS_ERROR, error.name.encode() + b"\0"
        finally:
            state.cause = None
        reply: Packet = _new(Packet, (kind, req_id, tx_id, answer))
        connection.reply(reply, cause)
        if cause is not None:
            connection.outstanding += 1
        if state.first_event is not None:
            watch, state.first_event = state.first_event, None
            state.send(watch, watch.reported(watch.path))
        for observer in state.observers:
            observer.reply(connection, packet, reply)

    def _answer(self, connection: Connection, kind: int, tx_id: int, payload: bytes) -> bytes:
        row = self._dispatch.get(kind)
        if row is None:
            raise XenStoreError("ENOSYS")
        shape, privileged, in_transaction, handler = row
        if privileged and not connection.privileged:
            raise XenStoreError("EACCES")
        if tx_id and in_transaction is not _IGNORED:
            transaction = connection.transactions.get(tx_id)
            if transaction is None:
                raise XenStoreError("ENOENT")
            if in_transaction is _REFUSED:
                raise XenStoreError("EBUSY")
            return handler(Access(self._state, connection, transaction), *shape(payload))
        access = connection.access
        if access is None:
            access = connection.access = Access(self._state, connection, None)
        return handler(access, *shape(payload))

    # The host side of the machine. Errors are XenStoreError.

    def read(self, path: str) -> bytes:
        """The value of a node. Raises ENOENT, EINVAL."""
        return self._host_access.lookup(path, perms.READ)[1].value

    def exists(self, path: str) -> bool:
        """Whether there is such a node."""
        return path in self._state.tree

    def ls(self, path: str) -> list[str]:
        """The names of the children, in order of creation. Raises ENOENT, EINVAL."""
        return list(self._host_access.lookup(path, perms.READ)[1].children)

    def write(
        self, path: str, value: bytes | str, permissions: Iterable[str] | None = None
    ) -> None:
        """Set a value, creating the node if it is missing, then perhaps its permissions."""
        self._host_access.write(path, value.encode() if isinstance(value, str) else value)
        if permissions is not None:
            self.set_permissions(path, permissions)

    def mkdir(self, path: str, permissions: Iterable[str] | None = None) -> None:
        """Create a node unless it exists, then perhaps set its permissions."""
        self._host_access.make(path)
        if permissions is not None:
            self.set_permissions(path, permissions)

    def rm(self, path: str) -> None:
        """Delete a subtree. Raises ENOENT if not even the parent exists."""
        self._host_access.remove(path)

    def get_permissions(self, path: str) -> list[str]:
        """Entries such as "n0", "r1". Raises ENOENT, EINVAL."""
        return perms.render(self._host_access.lookup(path, perms.READ)[1].permissions)

    def set_permissions(self, path: str, permissions: Iterable[str]) -> None:
        """Replace the permissions. Raises ENOENT, EINVAL."""
        entries = perms.parse(permissions)
        if not entries:
            raise XenStoreError("EINVAL")
        for entry in entries:
            self._state.domain(entry.domid)
        self._host_access.set_permissions(path, entries)

    def dump(self) -> str:
        """All nodes as text, at one moment; `dump` has the form."""
        return "".join(text_form.dump(self._state))

    def load(self, text: str) -> None:
        """Replace all nodes by those of a dump. Raises DumpError."""
        text_form.load(self._state, text)
