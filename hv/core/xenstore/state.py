"""Everything a store holds, and the effects of a change on those who watch.

Rules: a domain record exists from the first mention of a domain until its release; a watch event is
sent only to a connection that may read the node, or its parent, or could before the change.

Theory of operation: `operations`, `access` and `transactions` change this state; replies and events
collect in the connections' queues. Nothing is called back but observers.
`cause` is the guest's request at work.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from hv.core.xenstore import permissions as perms
from hv.core.xenstore.connection import Cause, Connection, Domain
from hv.core.xenstore.paths import parent
from hv.core.xenstore.permissions import Permission, Permissions
from hv.core.xenstore.quotas import Quotas
from hv.core.xenstore.tree import Node, Tree
from hv.core.xenstore.watches import INTRODUCE_DOMAIN, RELEASE_DOMAIN, Watch, Watches
from hv.core.xenstore.wire import Packet


class RingChange(NamedTuple):
    """A ring that INTRODUCE asked to open (again), or RELEASE to close (`port` is None)."""

    domid: int
    gfn: int
    port: int | None


class Observer(Protocol):
    """Who is told of everything as it happens: a tracer, a debugger. It must not use the store."""

    def request(self, connection: Connection, packet: Packet) -> None:
        """A request, before it is served."""

    def reply(self, connection: Connection, request: Packet, reply: Packet) -> None:
        """Its answer; what was fired between the two was caused by it."""

    def event(self, watch: Watch, path: str) -> None:
        """A watch fires, with `path` as it is reported; outside a request the host's own side is the cause."""


class State:
    """The tree, the domains, the watches and the connections of one store."""

    def __init__(self, domain_exists: Callable[[int], bool]) -> None:
        owner_only: Permissions = (Permission(0, perms.NONE),)
        self.tree = Tree()
        self.quotas = Quotas()
        self.watches = Watches()
        self.domains: dict[int, Domain] = {}
        self.births: dict[int, int] = {}
        self.special = {INTRODUCE_DOMAIN: owner_only, RELEASE_DOMAIN: owner_only}
        self.pending: dict[Connection, None] = {}
        self.resumed: dict[Connection, None] = {}
        self.ring_changes: deque[RingChange] = deque()
        self.messages: deque[str] = deque(maxlen=64)
        self.observers: tuple[Observer, ...] = ()
        self.cause: Cause | None = None
        self.first_event: Watch | None = None  # of a new watch: it follows the reply
        self._domain_exists = domain_exists
        self._connections = 0

    # Domains

    def domain(self, domid: int) -> Domain:
        """The record of a domain, made if there is none."""
        domain = self.domains.get(domid)
        if domain is None:
            domain = Domain(domid, self.tree.generation, self.quotas)
            self.domains[domid] = domain
            self.births[domid] = domain.birth
        return domain

    def existing(self, domid: int) -> Domain | None:
        """The record of a domain that exists, introduced or not."""
        known = domid in self.domains or self._domain_exists(domid)
        return self.domain(domid) if known else None

    def forget(self, domain: Domain) -> None:
        """Drop the record of a domain, and what refers to it."""
        del self.domains[domain.domid], self.births[domain.domid]
        for name, permissions in self.special.items():
            self.special[name] = perms.without(permissions, domain.domid)
        for other in self.domains.values():
            if other.connection is not None and other.connection.target == domain.domid:
                other.connection.target = None

    # Connections

    def connection(self, domain: Domain | None, privileged: bool) -> Connection:
        """A new connection."""
        self._connections += 1
        return Connection(domain, privileged, self._connections, self.pending, self.resumed)

    def reset(self, connection: Connection) -> None:
        """Drop all that a connection has begun, and what waits for it."""
        self.end_watches_and_transactions(connection)
        connection.take()

    def end_watches_and_transactions(self, connection: Connection) -> None:
        """Drop the watches and transactions of a connection."""
        if connection.domain is not None:
            connection.domain.watches -= len(connection.watches)
        for watch in list(connection.watches.values()):
            self.watches.remove(watch)
        for transaction in list(connection.transactions.values()):
            transaction.discard()
        connection.transactions.clear()

    # Rights

    def granted(self, connection: Connection, permissions: Permissions, generation: int) -> int:
        """What a connection may do with a node of these permissions."""
        if connection.privileged:
            return perms.ALL
        return perms.granted(
            permissions, generation, self.births, connection.domid, connection.target
        )

    def rewritten(self, node: Node) -> Permissions:
        """The permissions of a node for writing it, or a child of it, anew."""
        return perms.current(node.permissions, node.generation, self.births)

    # Events

    def fire(
        self,
        path: str,
        exact: bool = False,
        old: Permissions | None = None,
        node: Node | None = None,
        above: Node | None = None,
    ) -> None:
        """Tell the watchers that `path` changed.

        `old` are its permissions before the change; `node` and `above` stand for nodes that are no
        longer in the tree.
        """
        connection = None
        readable = False
        for watch in self.watches.matching(path, exact):
            if watch.connection is not connection:
                connection = watch.connection
                readable = self._readable(connection, path, old, node, above)
            if readable:
                self.send(watch, watch.reported(path))

    def fire_special(self, name: str, domid: int) -> None:
        """Tell the watchers of a special name that it happened to a domain."""
        permissions, now = self.special[name], self.tree.generation
        for watch in self.watches.matching_special(name, domid):
            if self.granted(watch.connection, permissions, now) & perms.READ:
                self.send(watch, watch.reported_special(name, domid))

    def send(self, watch: Watch, path: str) -> None:
        """An event for the owner of a watch; `path` as that spells it."""
        for observer in self.observers:
            observer.event(watch, path)
        watch.connection.event(path, watch.token, self.cause)

    def _readable(
        self,
        connection: Connection,
        path: str,
        old: Permissions | None,
        node: Node | None,
        above: Node | None,
    ) -> bool:
        now = self.tree.generation
        if old is not None and self.granted(connection, old, now) & perms.READ:
            return True
        node = node or self.tree.get(path)
        if node is None:
            return False
        if self.granted(connection, node.permissions, node.generation) & perms.READ:
            return True
        above = above or self.tree.get(parent(path))
        if above is None:
            return False
        return bool(self.granted(connection, above.permissions, above.generation) & perms.READ)
