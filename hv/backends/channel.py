"""A channel: a further console of a guest whose other end is a Unix socket or a pseudo-terminal of the host's.

Rules:

1. What the guest writes while nobody is there, or nobody reads, is kept, and follows as soon as somebody does; of more
   than LIMIT bytes the oldest are dropped, as xenconsoled drops them.
2. What comes from outside is taken as long as the guest has not left more than LIMIT bytes of it; then it waits there.
3. One client at a time has a socket; the next one may connect when it has left.
4. Nothing here waits: a channel is an input of the machine, and the descriptor it gives for that also becomes readable
   when something that was kept can be written.

Specification: xen-pv-channel(7); libxl__init_console_from_channel of Xen 4.17 for what stands in XenStore.
"""

from __future__ import annotations

import os
import select
import socket
import tty
from collections.abc import Mapping

from hv.backends import socket_file
from hv.backends.console_device import ConsoleDevice

LIMIT = 1 << 20
CHUNK = 4096
READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class Channel(ConsoleDevice):
    """Channel `number` with the name by which programs in the guest find it: a pty, or a socket at `path`."""

    def __init__(self, number: int, name: str, path: str | None = None) -> None:
        super().__init__(number, name)
        self.path = path
        self.open = True  # as an input of a machine
        self._unsent = bytearray()
        self._epoll = select.epoll()
        self._listener: socket.socket | None = None
        self._slave = -1
        self._end = -1  # who reads and writes: the client of the socket, or the pty's master
        self.tty = ""  # the pty's name
        if path is None:
            self._end, self._slave = os.openpty()
            tty.setraw(self._slave)
            self.tty = os.ttyname(self._slave)
            self._begin()
        else:
            self._listener, self._identity = socket_file.listen(path)
            self._epoll.register(self._listener, READ)

    def frontend_keys(self) -> Mapping[str, str]:
        output = "pty" if self.path is None else f"chardev:libxl-channel{self.number}"
        return {**super().frontend_keys(), "type": "ioemu", "output": output, "tty": self.tty}

    def backend_keys(self) -> Mapping[str, str]:
        way = {"connection": "pty"} if self.path is None else {"connection": "socket", "path": self.path}
        return {"name": self.name, "protocol": "vt100", **way}

    # --- from the guest

    def _write(self, data: bytes) -> None:
        super()._write(data)
        self._unsent += data
        del self._unsent[: max(0, len(self._unsent) - LIMIT)]
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent and self._end >= 0:
                del self._unsent[: os.write(self._end, self._unsent[:CHUNK])]
        except BlockingIOError:
            pass
        except OSError:
            self._hang_up()
        self._attend()

    def serve(self) -> None:
        super().serve()
        self._attend()  # the guest has read something

    # --- from outside

    def fileno(self) -> int:
        """Readable when `poll` has something to do."""
        return self._epoll.fileno()

    def poll(self) -> None:
        """Take what has come, and pass on what was kept."""
        for descriptor, events in self._epoll.poll(0):
            if self._listener is not None and descriptor == self._listener.fileno():
                self._accept(self._listener)
            elif descriptor == self._end:
                if events & WRITE:
                    self._flush()
                if events & ~WRITE:
                    self._read()

    def _accept(self, listener: socket.socket) -> None:
        try:
            client = listener.accept()[0]
        except OSError:
            return
        self._epoll.unregister(listener)
        self._end = client.detach()
        self._begin()
        self._flush()
        self._read()  # what it sent at once is there before the guest goes on

    def _read(self) -> None:
        try:
            data = os.read(self._end, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.send(data)
            self._attend()
        else:
            self._hang_up()

    def _begin(self) -> None:
        os.set_blocking(self._end, False)
        self._epoll.register(self._end, 0)
        self._attend()

    def _attend(self) -> None:
        if self._end >= 0:
            wanted = (READ if self.waiting < LIMIT else 0) | (WRITE if self._unsent else 0)
            self._epoll.modify(self._end, wanted)

    def _hang_up(self) -> None:
        """The client has gone: the next one may come."""
        if self._end < 0 or self._listener is None:
            return
        self._epoll.unregister(self._end)
        os.close(self._end)
        self._end = -1
        self._epoll.register(self._listener, READ)

    def close(self) -> None:
        if not self.open:
            return
        self.open = False
        self._hang_up()
        self._epoll.close()
        if self._listener is not None:
            self._listener.close()
            socket_file.remove(self.path or "", self._identity)
        else:
            os.close(self._end)
            os.close(self._slave)
