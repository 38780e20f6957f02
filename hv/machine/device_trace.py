"""Devices in a machine's trace: disk requests with their result, frames on a switch.

hv/trace/decoders/devices.py reads the notes: a disk request is `BLOCK_REQUEST` and the disk's name; a frame is the
switch's name, a zero byte, and the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hv.backends.block import Block, Done
from hv.backends.device import Device
from hv.trace.notes import BLOCK_REQUEST

if TYPE_CHECKING:
    from hv.machine.domain import Domain
    from hv.machine.trace import Trace


def watch(domain: Domain, device: Device) -> None:
    """Report the requests of a disk while somebody listens; of other devices there is nothing to report here."""
    if not isinstance(device, Block):
        return
    disk, trace = device, domain.machine.trace

    def done(request: Done) -> None:
        if trace.attached:
            trace.note(domain.domid, "block", "request", BLOCK_REQUEST.pack(*request) + disk.vdev.encode())

    disk.observers.append(done)


def frames(trace: Trace, switch: str) -> Callable[[bytes], None]:
    """What reports the frames that pass a switch: a tap of it."""

    def tap(frame: bytes) -> None:
        trace.note(0, "net", "frame", switch.encode() + b"\0" + frame)

    return tap
