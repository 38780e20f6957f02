"""A guest as the backends of its devices see it: granted pages and event channels of domain 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hv.abi import grant_table as abi
from hv.backends.device import DeviceError
from hv.trace import notes

if TYPE_CHECKING:
    from hv.engine.machine import Engine, GuestDomain
    from hv.machine.machine import Domain0

STATUS = {value: name for name, value in vars(abi).items() if name.startswith("GNTST_")}


class GrantedPage:
    """A frame of a guest that domain 0 has mapped: see hv.backends.device.Page."""

    __slots__ = ("_engine", "_handle", "_host", "_mfn", "view")

    def __init__(self, engine: Engine, host: GuestDomain, handle: int, mfn: int, readonly: bool) -> None:
        self._engine, self._host, self._handle, self._mfn = engine, host, handle, mfn
        view = engine.page(mfn)
        self.view = view.toreadonly() if readonly else view

    def written(self) -> None:
        self._engine.written(self._mfn)

    def unmap(self) -> None:
        self._host.unmap_grant(self._handle)


class GuestPeer:
    """See hv.backends.device.Peer."""

    def __init__(self, engine: Engine, host: Domain0, domid: int) -> None:
        self._engine, self._host, self.domid = engine, host, domid

    def map(self, ref: int, readonly: bool = False) -> GrantedPage:
        status, handle, mfn = self._host.guest.map_grant(self.domid, ref, readonly)
        self._engine.note(self.domid, notes.encode("grant", "map", notes.GRANT_MAP.pack(ref, readonly)))
        if status:
            raise DeviceError(f"grant {ref} of domain {self.domid} cannot be mapped: {STATUS.get(status, status)}")
        return GrantedPage(self._engine, self._host.guest, handle, mfn, readonly)

    def read(self, segments: list[tuple[int, int, int]], into: bytearray | memoryview) -> None:
        """Copy parts of granted pages, (ref, offset, length) of each, one behind the other. DeviceError."""
        status = self._host.guest.read_grants(self.domid, segments, into)
        if status:
            raise DeviceError(f"a grant of domain {self.domid} cannot be read: {STATUS.get(status, status)}")

    def write(self, segments: list[tuple[int, int, int]], data: bytes | bytearray | memoryview) -> None:
        """The other direction. DeviceError."""
        status = self._host.guest.write_grants(self.domid, segments, data)
        if status:
            raise DeviceError(f"a grant of domain {self.domid} cannot be written: {STATUS.get(status, status)}")

    def listen(self, port: int, handler: Callable[[], None]) -> int:
        own = self._host.events.bind_interdomain(self.domid, port)
        if own < 0:
            raise DeviceError(f"event channel {port} of domain {self.domid} is not offered to domain 0 (error {own})")
        self._host.bind(own, lambda _: handler())
        return own

    def notify(self, own_port: int) -> None:
        self._host.notify(own_port)

    def hang_up(self, own_port: int) -> None:
        self._host.unbind(own_port)
