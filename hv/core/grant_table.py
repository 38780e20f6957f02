"""Grant tables: the frames that hold a domain's grants, and their version.

Rules:

1. The table is an array of hv's own frames that the domain maps; it grows by whole frames up to `max_frames`.
2. A version can change while no grant of the domain is in use; version 2 comes with mapping and copying.

Mapping, copying and transferring grants is not here yet. Specification: grant_table.h; Xen 4.17 common/grant_table.c.
"""

from __future__ import annotations

from typing import Protocol

from hv.abi import grant_table as abi

GRANTS_A_FRAME = 4096 // 8
DEFAULT_MAX_FRAMES = 64  # xl's max_grant_frames


class Frames(Protocol):
    """Where table frames come from (hv.engine.machine.GuestDomain)."""

    def xenheap_page(self) -> int: ...


class GrantTable:
    """One domain's table of version 1 entries."""

    def __init__(self, frames: Frames, max_frames: int = DEFAULT_MAX_FRAMES) -> None:
        self._frames = frames
        self.max_frames = max_frames
        self.version = 1
        self.mfns: list[int] = [frames.xenheap_page()]

    def grow(self, count: int) -> int:
        """Have at least `count` frames: a GNTST_* status."""
        if count > self.max_frames:
            return abi.GNTST_general_error
        while len(self.mfns) < count:
            self.mfns.append(self._frames.xenheap_page())
        return abi.GNTST_okay
