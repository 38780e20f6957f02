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
        self._pages: dict[int, tuple[memoryview, Callable[[], None]]] = {}
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
        self._pages[domid] = page, notify
        self._open(domid, self.store.introduce(domid, gfn, port))
        self.flush()

    def _open(self, domid: int, connection: Connection) -> Ring:
        page, notify = self._pages[domid]
        ring = Ring(page, connection, self.store, notify)
        ring.offer()
        self._of_domain[domid] = connection, ring
        self.attach(connection, ring.service)
        return ring

    def disconnect(self, domid: int) -> None:
        """The domain is gone, and what it owned."""
        self._pages.pop(domid, None)
        if domid in self._of_domain:
            self._close(domid)
            self.store.release(domid)
        self.flush()

    def _close(self, domid: int) -> None:
        connection, _ = self._of_domain.pop(domid)
        self.detach(connection)

    def service(self, domid: int) -> None:
        """The guest has rung."""
        entry = self._of_domain.get(domid)
        if entry is not None:
            entry[1].service()
            self.flush()

    def _follow_tools(self) -> None:
        changes = self.store.ring_changes
        while changes:
            domid, _, port = changes.popleft()
            if domid not in self._pages:
                continue  # no guest of this machine: there is no page to look at
            if domid in self._of_domain and (port is None or not self._is_current(domid)):
                self._close(domid)
            domain = self.store.domain(domid)
            if port is None or domain is None or domain.connection is None:
                continue
            entry = self._of_domain.get(domid)
            ring = entry[1] if entry is not None else self._open(domid, domain.connection)
            ring.begin_anew()

    def _is_current(self, domid: int) -> bool:
        domain = self.store.domain(domid)
        return domain is not None and domain.connection is self._of_domain[domid][0]
