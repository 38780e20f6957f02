"""XenStore from the machine's own side: `machine.xenstore`.

Rules:

1. It is a privileged client as one on the socket is: the same operations, the same watches, the same transactions.
2. What it changes reaches the guests at once; they see it when they run on.
3. A watch's events wait in it until they are taken; a listener hears of them at the moment of the change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from hv.abi.io import xs_wire as xs
from hv.core.xenstore.client import Client, encoded
from hv.core.xenstore.dump import DumpError
from hv.core.xenstore.errors import XenStoreError
from hv.core.xenstore.wire import Packet
from hv.errors import ConfigError, StoreError, Timeout

if TYPE_CHECKING:
    from hv.machine.machine import Machine

Listener = Callable[[str], None]


class Watch:
    """A registration: `events` are the changed paths, the oldest first. Close it, or use it as a context manager."""

    def __init__(self, store: XenStore, path: str, token: str, listener: Listener | None) -> None:
        self.path = path
        self.events: deque[str] = deque()
        self._store = store
        self._token = token
        self._listener = listener
        self._waited_for = False

    def wait(self, timeout: float = 30) -> str:
        """Run the machine until there is an event, and take it.

        Timeout after so many host seconds, or if none can come any more.
        """
        machine = self._store.machine
        self._waited_for = True
        try:
            outcome = "satisfied" if self.events else machine.run_until(lambda: bool(self.events), timeout)
        finally:
            self._waited_for = False
        if not self.events:
            why = f"within {timeout:g} s" if outcome == "timeout" else "any more: nothing runs that could change it"
            raise Timeout(f"{self.path} did not change {why}")
        return self.events.popleft()

    def close(self) -> None:
        """Hear no more."""
        self._store.forget(self._token)

    def add(self, path: str) -> None:
        """An event."""
        self.events.append(path)
        if self._waited_for:
            self._store.machine.engine.stop()  # at this moment of virtual time, whatever the host's speed
        if self._listener is not None:
            self._listener(path)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class XenStore(Client):
    """A machine's store."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(self._exchange)
        self.machine = machine
        self._connection = machine.store.connect()
        self._events: deque[bytes] = deque()
        self._watches: dict[str, Watch] = {}
        self._last = 0
        machine.store_backend.attach(self._connection, self._receive)

    def watch(self, path: str, listener: Listener | None = None) -> Watch:
        """Hear of every change of a node, and of those below it. The first event comes at once, with `path` itself.

        "@introduceDomain" and "@releaseDomain" tell of domains. A listener is called with each changed path, in the
        middle of whatever changed it: it may use the store, but not run the machine.
        """
        self._last += 1
        token = f"{self._last}"
        watch = self._watches[token] = Watch(self, path, token, listener)
        try:
            self._ask(xs.XS_WATCH, path, encoded(token))
        except StoreError:
            del self._watches[token]
            raise
        return watch

    def forget(self, token: str) -> None:
        """End a watch."""
        watch = self._watches.pop(token, None)
        if watch is not None:
            self._ask(xs.XS_UNWATCH, watch.path, encoded(token))

    def dump(self) -> str:
        """All nodes with values and permissions as text, in the form of `xenstore-ls -f -p`."""
        return self.machine.store.dump()

    def load(self, text: str) -> None:
        """Replace all nodes by those of a dump. ConfigError where it is none; nothing is changed then."""
        try:
            self.machine.store.load(text)
        except DumpError as error:
            raise ConfigError(f"the dump cannot be loaded: {error}") from None
        self.machine.store_backend.flush()

    # --- the transport

    def _exchange(self, operation: int, transaction: int, payload: bytes) -> bytes:
        self.machine.store.handle(self._connection, Packet(operation, 0, transaction, payload))
        reply = self._take()
        assert reply is not None
        self.machine.store_backend.flush()
        self._deliver()
        if reply.type == xs.XS_ERROR:
            raise XenStoreError(reply.payload[:-1].decode())
        return reply.payload

    def _receive(self) -> bool:
        """Called when events wait."""
        self._take()
        self._deliver()
        return True

    def _take(self) -> Packet | None:
        """The reply that waits, if one does; events go to `_events`."""
        reply = None
        for packet in self._connection.take():
            if packet.type == xs.XS_WATCH_EVENT:
                self._events.append(packet.payload)
            else:
                reply = packet
        return reply

    def _deliver(self) -> None:
        while self._events:  # a listener may ask the store, and so come here too
            path, token, _ = self._events.popleft().decode("latin-1").split("\0")
            watch = self._watches.get(token)
            if watch is not None:
                watch.add(path)
