"""The base of every split device's backend: two drivers that meet through XenStore (xenbus).

Rules:

1. The backend's state follows the frontend's, as Linux's backends do: InitWait until the frontend has written where its
   rings are, Connected while they are used, Closing and Closed when it leaves; and InitWait again when it comes back.
2. A frontend that breaks the protocol loses this device: an error in XenStore, Closing, nothing else. What it can do
   wrong is a DeviceError or a RingError here, never another exception.
3. Every page and port that `map` and `listen` gave is given back by `disconnect`, whatever ended the connection.

A device is a subclass: `kind`, `connect` and mostly `serve`; docs/devices.md has one of 30 lines. It is plugged into a
domain by `domain.devices.add`. Specification: io/xenbus.h; drivers/xen/xenbus of Linux 6.1 for the order of states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol

from hv.abi.io.xenbus import (
    XenbusStateClosed,
    XenbusStateClosing,
    XenbusStateConnected,
    XenbusStateInitialised,
    XenbusStateInitialising,
    XenbusStateInitWait,
)
from hv.fastpath.rings import RingError


class DeviceError(Exception):
    """What a frontend did wrong, in one sentence: it costs the frontend its device. `status` is a grant's GNTST_*."""

    def __init__(self, sentence: str, status: int = -1) -> None:
        super().__init__(sentence)
        self.status = status


class Page(Protocol):
    """A frame that the frontend has granted, mapped into the host."""

    view: memoryview  # 4096 bytes; read-only where the grant is

    def written(self) -> None:
        """The host has changed it."""

    def unmap(self) -> None:
        """Give it back; the view is not to be used any more."""


class Peer(Protocol):
    """The frontend's domain, as far as a backend may see it. Errors are DeviceError."""

    domid: int

    def map(self, ref: int, readonly: bool = False) -> Page:
        """Map a frame by its grant reference."""

    def read(self, segments: list[tuple[int, int, int]], into: bytearray | memoryview) -> None:
        """Copy parts of granted pages, (ref, offset, length) of each, one behind the other."""

    def write(self, segments: list[tuple[int, int, int]], data: bytes | bytearray | memoryview) -> None:
        """The other direction."""

    def listen(self, port: int, handler: Callable[[], None]) -> int:
        """Bind to an event channel that the frontend offers; the number that `notify` and `hang_up` take."""

    def notify(self, own_port: int) -> None: ...

    def hang_up(self, own_port: int) -> None: ...


class Nodes(Protocol):
    """The device's two directories in XenStore."""

    def front(self, key: str) -> str | None:
        """What the frontend has written; None where there is nothing."""

    def back(self, key: str) -> str | None:
        """What stands in the backend's directory."""

    def write(self, values: Mapping[str, str]) -> None:
        """Write into the backend's directory."""

    def fail(self, message: str) -> None:
        """Write the error where administrators look for it."""

    def remove(self) -> None:
        """Remove both directories."""


class Device:
    """One device of one domain. `kind` names the directory: device/KIND/NUMBER of the frontend."""

    kind: ClassVar[str]
    peer: Peer
    nodes: Nodes

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.state = XenbusStateInitialising
        self.attached = False
        self.error: str | None = None
        self.on_detached: Callable[[], None] | None = None  # whoever plugged it in wants to know that it is out
        self._pages: list[Page] = []
        self._ports: list[int] = []

    @property
    def label(self) -> str:
        """What it is called in messages, and by whoever unplugs it: "console/1", or a disk's name."""
        return f"{self.kind}/{self.number}"

    # --- for subclasses

    def frontend_keys(self) -> Mapping[str, str]:
        """What the frontend's directory holds from the start, beside what every device has."""
        return {}

    def backend_keys(self) -> Mapping[str, str]:
        """What the backend's directory holds before the frontend looks: its features."""
        return {}

    def connect(self) -> None:
        """Read the frontend's keys, map its rings, listen to its ports. Raises DeviceError."""
        raise NotImplementedError

    def connected_keys(self) -> Mapping[str, str]:
        """What is written just before Connected."""
        return {}

    def serve(self) -> None:
        """The frontend has rung."""

    def dropped(self) -> None:
        """The connection has ended: pages and ports are gone."""

    def frontend(self, key: str) -> str:
        """What the frontend wrote under a key; DeviceError where there is nothing."""
        value = self.nodes.front(key)
        if value is None:
            raise DeviceError(f"the frontend has not written {key}")
        return value

    def frontend_number(self, key: str, default: int | None = None, most: int = 0xFFFFFFFF) -> int:
        """A number that the frontend wrote, from 0 to `most`; without a default it must be there."""
        text = self.nodes.front(key)
        if text is None and default is not None:
            return default
        if text is None or not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > most:
            raise DeviceError(f"the frontend's {key} is {text!r}, not a number up to {most}")
        return int(text)

    def map(self, ref: int, readonly: bool = False) -> Page:
        """Map a granted frame until the connection ends. Raises DeviceError."""
        page = self.peer.map(ref, readonly)
        self._pages.append(page)
        return page

    def listen(self, port: int, handler: Callable[[], None] | None = None) -> int:
        """Let `handler` (or `serve`) run for every event that the frontend sends. Raises DeviceError."""
        own = self.peer.listen(port, lambda: self._guarded(handler or self.serve))
        self._ports.append(own)
        return own

    # --- life

    def attach(self, peer: Peer, nodes: Nodes) -> None:
        """Plug it into a domain: the directories are there, the frontend may come."""
        self.peer, self.nodes, self.attached = peer, nodes, True
        self.error = None
        self._switch(XenbusStateInitWait)

    def detach(self) -> None:
        """Pull it out without asking: surprise removal, or the domain is gone."""
        if self.attached:
            self._drop()
            self.attached = False
            self.nodes.remove()
            if self.on_detached is not None:
                self.on_detached()

    def unplug(self) -> None:
        """Ask the frontend to let go of it; it is detached when the frontend has closed its end."""
        self.nodes.write({"online": "0"})
        if self.state in (XenbusStateClosed, XenbusStateInitWait, XenbusStateInitialising):
            self.detach()
        else:
            self._switch(XenbusStateClosing)

    def kill(self) -> None:
        """What the death of a backend's process does: pages and ports are gone, XenStore stays as it is."""
        self._drop()

    def reconnect(self) -> None:
        """A new backend takes over the rings where the old one left them; what was not answered is done again.

        Where the frontend has not connected yet, or the backend has not died, there is nothing to take over.
        """
        if self.state == XenbusStateConnected and not self._ports:
            self._guarded(self._connect)

    def frontend_changed(self) -> None:
        """The frontend's state node may have changed."""
        if not self.attached:
            return
        action = self._ACTIONS.get(self.nodes.front("state"))
        if action is not None:
            action(self)

    def close(self) -> None:
        """It will not be attached again."""

    def fail(self, message: str) -> None:
        """The frontend has broken the protocol: it is told to close."""
        self.error = message
        self._drop()
        self.nodes.fail(message)
        self._switch(XenbusStateClosing)

    def _comes(self) -> None:
        if self.state == XenbusStateClosed:
            self.nodes.write(self.backend_keys())
            self._switch(XenbusStateInitWait)

    def _ready(self) -> None:
        if self.state == XenbusStateInitWait:
            self._guarded(self._connect_and_tell)

    def _leaves(self) -> None:
        self._drop()
        self._switch(XenbusStateClosing)

    def _left(self) -> None:
        self._drop()
        self._switch(XenbusStateClosed)
        if self.nodes.back("online") != "1":
            self.detach()

    def _vanished(self) -> None:
        self.detach()

    _ACTIONS: ClassVar[Mapping[str | None, Callable[[Device], None]]] = {
        str(XenbusStateInitialising): _comes,
        str(XenbusStateInitialised): _ready,
        str(XenbusStateConnected): _ready,
        str(XenbusStateClosing): _leaves,
        str(XenbusStateClosed): _left,
        None: _vanished,
    }

    def _connect(self) -> None:
        self.connect()
        self.serve()  # requests may have come before anybody listened

    def _connect_and_tell(self) -> None:
        self.connect()
        self.nodes.write(self.connected_keys())
        self._switch(XenbusStateConnected)
        self.serve()

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (DeviceError, RingError) as error:
            self.fail(str(error))

    def _drop(self) -> None:
        for port in self._ports:
            self.peer.hang_up(port)
        for page in self._pages:
            page.unmap()
        self._ports, self._pages = [], []
        self.dropped()

    def _switch(self, state: int) -> None:
        if state != self.state:
            self.state = state
            self.nodes.write({"state": str(state)})
