"""A guest as the backends of its devices see it: granted pages and event channels of domain 0.

Rules:

1. A backend answers at the end of the hypercall that rings, before the guest goes on: its work takes no time.
2. But a guest of one vCPU that has rung `PATIENCE` times without a rest is answered `LATER_NS` after that, as by a
   backend that waits for its turn. A kernel whose threads only change when one waits (Mini-OS) would never get to the
   others, if its ring were never full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hv.abi.vcpu import RUNSTATE_blocked
from hv.backends.device import DeviceError
from hv.core.grant_table import GrantRefused, Mapping

if TYPE_CHECKING:
    from hv.machine.domain import Domain


PATIENCE = 64
LATER_NS = 250_000


class GuestPeer:
    """See hv.backends.device.Peer."""

    def __init__(self, domain: Domain) -> None:
        self._domain, self._machine, self._host = domain, domain.machine, domain.machine.domain0
        self.domid = domain.domid
        self._handlers: dict[int, Callable[[], None]] = {}  # by port of domain 0
        self._waiting: set[int] = set()  # of these ports, those that are answered later
        self._rested, self._rung = 0, 0  # ns that the vCPU has been blocked; rings since then

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
        self._handlers[own] = handler
        self._host.bind(own, lambda _: self._later(own, handler) if self._restless() else handler())
        return own

    def _restless(self) -> bool:
        """Whether the guest has rung too often since its only vCPU was last blocked."""
        if self._domain.config.vcpus > 1:
            return False
        rested = self._domain.guest.runstate(0)[2][RUNSTATE_blocked]
        if rested != self._rested:
            self._rested, self._rung = rested, 0
        self._rung += 1
        return self._rung > PATIENCE

    def _later(self, own: int, handler: Callable[[], None]) -> None:
        if own in self._waiting:
            return
        self._waiting.add(own)
        engine = self._machine.engine
        cause = engine.set_cause(0)
        engine.set_cause(cause)

        def answer() -> None:
            if self._handlers.get(own) is handler:  # it may have hung up meanwhile
                self._waiting.discard(own)
                with self._machine.trace.as_effect_of(cause):
                    handler()

        self._machine.at(engine.now_ns + LATER_NS, answer)
        engine.stop()  # to be asked again how far it may run

    def notify(self, own_port: int) -> None:
        self._host.notify(own_port)

    def hang_up(self, own_port: int) -> None:
        self._handlers.pop(own_port, None)
        self._waiting.discard(own_port)
        self._host.unbind(own_port)
