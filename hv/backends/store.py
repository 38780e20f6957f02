"""XenStore for guests and tools: one store, and everybody that it has messages for.

Rules:

1. A peer is served when it has rung or sent, and whenever the store has something to send to it.
2. Nothing that one peer sends, or leaves unread, can disturb another.
3. INTRODUCE and RELEASE of a tool act on a ring that is here: it begins anew, or is served no more.

A peer is a connection of the store with a function that moves what can be moved: the ring of a guest here, a client of
a socket (xenstore_socket.py), the host's own interface (hv.machine.xenstore).

Specification: xenstore-ring.txt; the rules of the store itself are hv.core.xenstore's.
"""

from __future__ import annotations

from collections.abc import Callable

from hv.core.xenstore.connection import Connection
from hv.core.xenstore.ring import Ring
from hv.core.xenstore.store import Store

Serve = Callable[[], bool]


class StoreBackend:
    """The peers of one `store`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._peers: dict[Connection, Serve] = {}
        self._of_domain: dict[int, tuple[Connection, Ring]] = {}
        self._flushing = False

    def attach(self, connection: Connection, serve: Serve) -> None:
        """`serve()` is called when messages wait for the connection; it says whether it has moved anything."""
        self._peers[connection] = serve

    def detach(self, connection: Connection) -> None:
        self._peers.pop(connection, None)

    def flush(self) -> None:
        """Send what the store has for anybody, and take what a guest may ask again because of that."""
        if self._flushing:  # a peer that is being served has asked something: the loop below goes on with it
            return
        self._flushing = True
        try:
            moved = True
            while moved:
                moved = False
                if self.store.ring_changes:
                    self._follow_tools()
                for connection in self.store.take_busy():
                    serve = self._peers.get(connection)
                    if serve is not None and serve():
                        moved = True
        finally:
            self._flushing = False

    # --- rings

    def connect(self, domid: int, page: memoryview, gfn: int, port: int, notify: Callable[[], None]) -> None:
        """Introduce a domain and serve its ring; `notify()` sends its event."""
        connection = self.store.introduce(domid, gfn, port)
        ring = Ring(page, connection, self.store, notify)
        ring.offer()
        self._of_domain[domid] = connection, ring
        self.attach(connection, ring.service)
        self.flush()

    def disconnect(self, domid: int) -> None:
        """The domain is gone, and what it owned."""
        entry = self._of_domain.pop(domid, None)
        if entry is not None:
            self.detach(entry[0])
            self.store.release(domid)
        self.flush()

    def service(self, domid: int) -> None:
        """The guest has rung."""
        entry = self._of_domain.get(domid)
        if entry is not None:
            entry[1].service()
            self.flush()

    def _follow_tools(self) -> None:
        changes = self.store.ring_changes
        while changes:
            change = changes.popleft()
            entry = self._of_domain.get(change.domid)
            if entry is None:
                continue  # no guest of this machine: there is no page to look at
            if change.port is None:
                del self._of_domain[change.domid]
                self.detach(entry[0])
            else:
                entry[1].begin_anew()
