"""Devices in a machine's trace: requests and responses of disks and network interfaces, frames on a switch.

Rules:

1. A request is the effect of the event that made the backend look into the ring; what is done for it (grants mapped) is
   the request's effect, and so is its response. The event for the guest is the effect of the last response.
2. A slot of a network interface's rings is noted once, when it is answered. A frame on a switch and the slots of its
   receivers are effects of the sender's first slot.
3. hv/trace/decoders/devices.py reads the notes: a disk request is `BLOCK_REQUEST` and the disk's name, its response
   `BLOCK_RESPONSE` and the name; a slot is `NET_SLOT`; a frame is the switch's name, a zero byte, and the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hv.backends.block import Answered, Block, Step, Taken, Told
from hv.backends.device import Device
from hv.backends.net import Vif
from hv.backends.net_queue import Slot
from hv.trace.notes import BLOCK_REQUEST, BLOCK_RESPONSE, NET_SLOT

if TYPE_CHECKING:
    from hv.machine.domain import Domain
    from hv.machine.trace import Trace


def watch(domain: Domain, device: Device) -> None:
    """Report a device's requests while somebody listens; of kinds not named here there is nothing to report."""
    if isinstance(device, Block):
        device.observers.append(DiskTrace(domain, device))
    if isinstance(device, Vif):
        device.watch = SlotTrace(domain, device.number)


class DiskTrace:
    """Observes a disk for the trace of its domain's machine."""

    def __init__(self, domain: Domain, disk: Block) -> None:
        self._domain, self._disk = domain, disk
        self._ring = self._request = self._response = 0  # ids: why the ring is looked at, and what came last
        self._since = 0

    def __call__(self, step: Step) -> None:
        if not self._domain.machine.trace.attached:
            return
        if isinstance(step, Taken):
            self._taken(step)
        elif isinstance(step, Answered):
            self._answered(step)
        elif isinstance(step, Told):
            self._domain.engine.set_cause(self._response)

    def _taken(self, request: Taken) -> None:
        engine = self._domain.engine
        self._ring, self._since = engine.set_cause(0), engine.now_ns
        self._request = self._note("request", BLOCK_REQUEST.pack(*request), self._ring)
        engine.set_cause(self._request)

    def _answered(self, response: Answered) -> None:
        latency = self._domain.engine.now_ns - self._since
        self._response = self._note("response", BLOCK_RESPONSE.pack(*response, latency), self._request)
        self._domain.engine.set_cause(self._ring)

    def _note(self, what: str, data: bytes, cause: int) -> int:
        name = self._disk.vdev.encode()
        return self._domain.machine.trace.note(self._domain.domid, "block", what, data + name, cause)


class SlotTrace:
    """Reports the slots of one interface's rings: see hv.backends.net_queue.Watch."""

    def __init__(self, domain: Domain, interface: int) -> None:
        self._domain, self._interface = domain, interface

    @property
    def attached(self) -> bool:
        return self._domain.machine.trace.attached

    def slot(self, slot: Slot) -> int:
        data = NET_SLOT.pack(self._interface, *slot)
        return self._domain.machine.trace.note(self._domain.domid, "vif", "slot", data)

    def because(self, cause: int) -> int:
        return self._domain.engine.set_cause(cause)


def frames(trace: Trace, switch: str) -> Callable[[bytes], None]:
    """What reports the frames that pass a switch: a tap of it."""

    def tap(frame: bytes) -> None:
        trace.note(0, "net", "frame", switch.encode() + b"\0" + frame)

    return tap
