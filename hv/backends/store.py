"""XenStore for guests: every domain's ring page served by one store.

Rules:

1. A ring is served when its guest rings, and whenever the store has something to send to it.
2. Nothing that one guest puts into its ring can disturb another's.

Specification: xenstore-ring.txt; the rules of the store itself are hv.core.xenstore's.
"""

from __future__ import annotations

from collections.abc import Callable

from hv.core.xenstore.connection import Connection
from hv.core.xenstore.ring import Ring
from hv.core.xenstore.store import Store


class StoreBackend:
    """The rings of all domains over one `store`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._rings: dict[Connection, tuple[Ring, Callable[[], None]]] = {}
        self._of_domain: dict[int, Connection] = {}

    def connect(self, domid: int, page: memoryview, gfn: int, port: int, notify: Callable[[], None]) -> None:
        """Introduce a domain and serve its ring."""
        connection = self.store.introduce(domid, gfn, port)
        ring = Ring(page, connection, self.store.handle, self.store.ignore)
        ring.offer(0)
        self._rings[connection] = (ring, notify)
        self._of_domain[domid] = connection

    def disconnect(self, domid: int) -> None:
        connection = self._of_domain.pop(domid, None)
        if connection is not None:
            del self._rings[connection]
            self.store.release(domid)
            self.flush()

    def service(self, domid: int) -> None:
        """The guest has rung."""
        connection = self._of_domain.get(domid)
        if connection is not None:
            self._serve(connection)
            self.flush()

    def flush(self) -> None:
        """Send what the store has for anybody."""
        waiting = [connection for connection in self.store.pending_connections if connection in self._rings]
        for connection in waiting:
            self._serve(connection)
        if waiting:  # what was sent may have let somebody else ask again: its requests still stand in its ring
            for connection in list(self._rings):
                self._serve(connection)

    def _serve(self, connection: Connection) -> None:
        ring, notify = self._rings[connection]
        if ring.service():
            notify()
