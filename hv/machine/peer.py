"""A guest as the backends of its devices see it: granted pages and event channels of domain 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hv.backends.device import DeviceError
from hv.core.grant_table import GrantRefused, Mapping

if TYPE_CHECKING:
    from hv.machine.machine import Domain0


class GuestPeer:
    """See hv.backends.device.Peer."""

    def __init__(self, host: Domain0, domid: int) -> None:
        self._host, self.domid = host, domid

    def map(self, ref: int, readonly: bool = False) -> Mapping:
        try:
            return self._host.grants.map(self.domid, ref, readonly=readonly)
        except GrantRefused as refused:
            raise DeviceError(f"cannot map {refused}", refused.status) from None

    def read(self, segments: list[tuple[int, int, int]], into: bytearray | memoryview) -> None:
        """Copy parts of granted pages, (ref, offset, length) of each, one behind the other. DeviceError."""
        try:
            self._host.grants.read(self.domid, segments, into)
        except GrantRefused as refused:
            raise DeviceError(f"cannot read {refused}", refused.status) from None

    def write(self, segments: list[tuple[int, int, int]], data: bytes | bytearray | memoryview) -> None:
        """The other direction. DeviceError."""
        try:
            self._host.grants.write(self.domid, segments, data)
        except GrantRefused as refused:
            raise DeviceError(f"cannot write {refused}", refused.status) from None

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
