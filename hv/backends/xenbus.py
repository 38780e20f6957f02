"""XenStore between the two ends of split devices: the toolstack's nodes, and the backends' watches.

Rules:

1. Both directories of a device are written before its frontend's domain runs, with libxl's permissions: each end owns
   its own directory, and the other may only read it.
2. A backend sees its frontend's state change by a watch of the host's own client; nobody polls.

Specification: libxl__device_generic_add (tools/libs/light/libxl_device.c) of Xen 4.17; docs/misc/xenstore-paths.pandoc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hv.abi.io.xs_wire import XS_UNWATCH, XS_WATCH, XS_WATCH_EVENT
from hv.backends.device import Device, Peer
from hv.backends.store import StoreBackend
from hv.core.xenstore.errors import XenStoreError
from hv.core.xenstore.store import Store
from hv.core.xenstore.wire import Packet

HOST = "/local/domain/0"


class DeviceNodes:
    """The two directories of one device: see hv.backends.device.Nodes."""

    def __init__(self, store: Store, kind: str, domid: int, number: int, forget: Callable[[], None]) -> None:
        self._store = store
        self._forget = forget
        self.domid = domid
        self.front_path = f"/local/domain/{domid}/device/{kind}/{number}"
        self.back_path = f"{HOST}/backend/{kind}/{domid}/{number}"
        self.error_path = f"{HOST}/error/backend/{kind}/{domid}/{number}"

    def create(self, front: Mapping[str, str], back: Mapping[str, str]) -> None:
        """As a toolstack: what both ends need to find each other, then `front` and `back`."""
        owned_by_guest, owned_by_host = (f"n{self.domid}", "r0"), ("n0", f"r{self.domid}")
        self._clear()
        links = {"backend": self.back_path, "backend-id": "0", "state": "1"}
        self._make(self.front_path, owned_by_guest, links | dict(front))
        links = {"frontend": self.front_path, "frontend-id": str(self.domid), "online": "1", "state": "1"}
        self._make(self.back_path, owned_by_host, links | dict(back))

    def _make(self, path: str, permissions: tuple[str, str], values: Mapping[str, str]) -> None:
        self._store.mkdir(path, permissions)
        for key, value in values.items():
            self._store.write(f"{path}/{key}", value, permissions)

    def front(self, key: str) -> str | None:
        return self._read(f"{self.front_path}/{key}")

    def back(self, key: str) -> str | None:
        return self._read(f"{self.back_path}/{key}")

    def _read(self, path: str) -> str | None:
        try:
            return self._store.read(path).decode("latin-1")
        except XenStoreError:
            return None

    def write(self, values: Mapping[str, str]) -> None:
        for key, value in values.items():
            self._store.write(f"{self.back_path}/{key}", value)

    def fail(self, message: str) -> None:
        self._store.write(f"{self.error_path}/error", f"22 {message}")

    def remove(self) -> None:
        self._clear()
        self._forget()

    def _clear(self) -> None:
        for path, above in ((self.front_path, 4), (self.back_path, 4), (self.error_path, 5)):
            self._remove(path, above)

    def _remove(self, path: str, above: int) -> None:
        """Remove a node, and what is empty without it of the parents; the first `above` parts of its path stay."""
        try:
            self._store.rm(path)
            parent = path.rpartition("/")[0]
            while parent.count("/") > above and not self._store.ls(parent):
                self._store.rm(parent)
                parent = parent.rpartition("/")[0]
        except XenStoreError:
            pass


class Xenbus:
    """All devices of a machine: plugs them in, and tells them when their frontend has changed its state."""

    def __init__(self, backend: StoreBackend) -> None:
        self._backend = backend
        self._store = backend.store
        self._connection = self._store.connect()
        self._devices: dict[bytes, Device] = {}
        self._tokens = 0
        backend.attach(self._connection, self._serve)

    def plug(self, device: Device, peer: Peer) -> None:
        """Make the device's nodes, and watch for its frontend."""
        self._tokens += 1
        token = str(self._tokens).encode()
        nodes = DeviceNodes(
            self._store, device.kind, peer.domid, device.number, lambda: self._unwatch(nodes.front_path, token)
        )
        nodes.create(device.frontend_keys(), device.backend_keys())
        self._devices[token] = device
        device.attach(peer, nodes)
        self._ask(XS_WATCH, nodes.front_path, token)

    def _unwatch(self, path: str, token: bytes) -> None:
        if self._devices.pop(token, None) is not None:
            self._ask(XS_UNWATCH, path, token)

    def _ask(self, request: int, path: str, token: bytes) -> None:
        payload = f"{path}/state".encode() + b"\0" + token + b"\0"
        self._store.handle(self._connection, Packet(request, 0, 0, payload))

    def _serve(self) -> bool:
        """Take the watch events that wait."""
        packets = self._connection.take()
        for packet in packets:
            if packet.type == XS_WATCH_EVENT:
                device = self._devices.get(packet.payload.split(b"\0")[1])
                if device is not None:
                    device.frontend_changed()
        return bool(packets)
