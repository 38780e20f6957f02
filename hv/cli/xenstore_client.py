"""A client of a XenStore socket, for the xenstore-* commands.

Rules: one request at a time; events that come before its reply wait; a service that is not there, or goes away, is a
ConfigError with one sentence.
"""

from __future__ import annotations

import os
import socket
from collections import deque

from hv.abi.io import xs_wire as xs
from hv.core.xenstore.client import Client, encoded
from hv.core.xenstore.errors import XenStoreError
from hv.core.xenstore.wire import Decoder, Packet, ProtocolError, encode
from hv.errors import ConfigError

USUAL = "/var/run/xenstored"


def socket_path(named: str | None) -> str:
    """Where the service is: as named, else as the stock tools look for it."""
    environment = os.environ.get
    return named or environment("XENSTORED_PATH") or os.path.join(environment("XENSTORED_RUNDIR") or USUAL, "socket")


class SocketClient(Client):
    """A store behind a Unix socket. Close it, or use it as a context manager."""

    def __init__(self, path: str) -> None:
        super().__init__(self._exchange)
        self._path = path
        self._endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._decoder = Decoder()
        self._packets: deque[Packet] = deque()
        self._events: deque[bytes] = deque()
        try:
            self._endpoint.connect(path)
        except OSError as error:
            self._endpoint.close()
            raise ConfigError(
                f"{path}: no XenStore answers there ({error.strerror or error}): start hv xenstored or hv run "
                "--xenstore-socket, and name its socket with --socket or $XENSTORED_PATH"
            ) from None

    def watch(self, path: str, token: str) -> None:
        """Hear of changes: `next_event` returns them."""
        self._ask(xs.XS_WATCH, path, encoded(token))

    def next_event(self) -> str:
        """Wait for a change; its path."""
        while not self._events:
            self._receive()
        return self._events.popleft().split(b"\0")[0].decode("latin-1")

    def _exchange(self, operation: int, transaction: int, payload: bytes) -> bytes:
        try:
            self._endpoint.sendall(encode(Packet(operation, 0, transaction, payload)))
        except OSError:
            self._lost()
        while not self._packets:
            self._receive()
        reply = self._packets.popleft()
        if reply.type == xs.XS_ERROR:
            raise XenStoreError(reply.payload[:-1].decode("latin-1"))
        return reply.payload

    def _receive(self) -> None:
        try:
            data = self._endpoint.recv(65536)
            if not data:
                self._lost()
            for packet in self._decoder.feed(data):
                if packet.type == xs.XS_WATCH_EVENT:
                    self._events.append(packet.payload)
                else:
                    self._packets.append(packet)
        except (OSError, ProtocolError):
            self._lost()

    def _lost(self) -> None:
        raise ConfigError(f"{self._path}: the XenStore service has ended the connection: look whether it still runs")

    def __enter__(self) -> SocketClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._endpoint.close()
