"""XenStore on a Unix socket: for the stock tools, as xenstored's own socket is.

Rules:

1. The socket's file keeps the rules of hv/backends/socket_file.py.
2. Many clients, one thread, no waiting: a client that does not read its replies is not asked further, one that breaks
   the protocol is dropped, and nobody else notices either.
3. Whoever may open the socket is privileged, as domain 0.

Works alone (`hv xenstored`: `serve` in a loop) and as an input of a machine (`poll`).

Specification: docs/misc/xenstore.txt.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time

from hv.backends import socket_file
from hv.backends.store import StoreBackend
from hv.core.xenstore.connection import Connection
from hv.core.xenstore.wire import Decoder, ProtocolError

CHUNK = 16384  # asked of a client at once: 1,024 requests at most, before others have their turn
MAX_UNREAD = 16 << 20  # bytes of events that a client may leave unread before it is dropped
BURST_S, PAUSE_S = 0.005, 0.0005  # how long a machine stays with clients that ask again at once
READ, WRITE = select.EPOLLIN, select.EPOLLOUT
NOT_NOW = (errno.EAGAIN, errno.EINTR)
FULL = (errno.EMFILE, errno.ENFILE)


class Client:
    """One connection of the socket."""

    def __init__(self, service: SocketService, endpoint: socket.socket, connection: Connection) -> None:
        self.endpoint = endpoint
        self.connection = connection
        self.waits_to_write = False
        self._service = service
        self._receive = endpoint.recv
        self._send = endpoint.send
        self._handle = service.backend.store.handle
        self._decoder = Decoder()
        self._unsent: bytes | memoryview = b""

    def serve(self) -> None:
        """Take what has come, and answer."""
        try:
            data = self._receive(CHUNK)
        except OSError as error:
            if error.errno not in NOT_NOW:
                self._service.drop(self)
            return
        if not data:
            self._service.drop(self)
            return
        handle, connection = self._handle, self.connection
        try:
            for packet in self._decoder.feed(data):
                handle(connection, packet)
        except ProtocolError:
            self.send()
            self._service.drop(self)
            return
        self.send()

    def send(self) -> bool:
        """Send what waits, unless the client has yet to read what was sent; whether anything went."""
        if not self.waits_to_write:
            return self.write()
        if self.connection.queued_bytes > MAX_UNREAD:
            self._service.drop(self)
        return False

    def write(self) -> bool:
        """Send as much as the client takes now."""
        data = self._unsent or self.connection.drain()
        if not data:
            return False
        try:
            sent = self._send(data)
        except OSError as error:
            if error.errno not in NOT_NOW:
                self._service.drop(self)
                return False
            sent = 0
        self._unsent = memoryview(data)[sent:] if sent < len(data) else b""
        waits = bool(self._unsent or self.connection.queued_bytes)
        if waits is not self.waits_to_write:
            self.waits_to_write = waits
            self._service.watch(self)
        return sent > 0


class SocketService:
    """A listening socket at `path` for the store of `backend`. Close it, or use it as a context manager."""

    open = True  # as an input of a machine: a client can always come

    def __init__(self, backend: StoreBackend, path: str | os.PathLike[str]) -> None:
        self.backend = backend
        self.path = os.fspath(path)
        self._clients: dict[int, Client] = {}
        self._listener, self._identity = socket_file.listen(self.path)
        self._accepting = True
        self._epoll = select.epoll()
        self._epoll.register(self._listener, READ)

    def fileno(self) -> int:
        """Readable when `poll` has something to do."""
        return self._epoll.fileno()

    def register(self, descriptor: int) -> None:
        """End `serve` also when this can be read."""
        self._epoll.register(descriptor, READ)

    # --- serving

    def serve(self, seconds: float | None = None) -> list[int]:
        """One round: wait, at most so long, and serve everybody who has come.

        What of `register`'s descriptors can be read comes back.
        """
        others = []
        clients = self._clients
        for descriptor, events in self._epoll.poll(seconds, 64):
            client = clients.get(descriptor)
            if client is None:
                if descriptor == self._listener.fileno():
                    self._accept()
                else:
                    others.append(descriptor)
                continue
            if events & WRITE:
                client.write()
            if not client.waits_to_write:
                client.serve()
            if self.backend.store.busy:
                self.backend.flush()
        return others

    def poll(self) -> None:
        """Serve whoever has asked, and for a moment those who ask again because of the answer."""
        end = time.monotonic() + BURST_S
        wait = 0.0
        while self._epoll.poll(wait) and time.monotonic() < end:
            self.serve(0)
            wait = PAUSE_S

    def _accept(self) -> None:
        try:
            endpoint = self._listener.accept()[0]
        except OSError as error:
            if error.errno in FULL:  # wait until somebody leaves, and do not spin meanwhile
                self._accepting = False
                self._epoll.unregister(self._listener)
            return
        endpoint.setblocking(False)
        connection = self.backend.store.connect()
        client = Client(self, endpoint, connection)
        self._clients[endpoint.fileno()] = client
        self._epoll.register(endpoint, READ)
        self.backend.attach(connection, client.send)

    def watch(self, client: Client) -> None:
        """A client has begun, or ceased, to leave replies unread."""
        self._epoll.modify(client.endpoint, WRITE if client.waits_to_write else READ)

    def drop(self, client: Client) -> None:
        """A client is gone, or has to go."""
        if self._clients.pop(client.endpoint.fileno(), None) is None:
            return
        self._epoll.unregister(client.endpoint)
        client.endpoint.close()
        self.backend.detach(client.connection)
        self.backend.store.disconnect(client.connection)
        if not self._accepting:
            self._accepting = True
            self._epoll.register(self._listener, READ)

    # --- end

    def close(self) -> None:
        """Drop everybody, and remove the socket if it is still this one."""
        for client in list(self._clients.values()):
            self.drop(client)
        self._epoll.close()
        self._listener.close()
        socket_file.remove(self.path, self._identity)

    def __enter__(self) -> SocketService:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
