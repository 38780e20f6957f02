"""Grant tables: the frames that hold a domain's grants and their status, and their version.

Rules:

1. The table is an array of hv's own frames that the domain maps; it grows by whole frames up to `max_frames`.
2. Entries have 8 bytes in version 1 and 16 in version 2; version 2 keeps the status words in frames of their own.
3. Changing the version clears the table but for the reserved entries (console and store of the toolstack), which are
   rewritten in the new form. It is possible only while no grant is in use: nothing can be in use yet.

Mapping, copying and transferring grants is not here yet. Specification: grant_table.h; Xen 4.17 common/grant_table.c.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from hv.abi import grant_table as abi

PAGE = 4096
DEFAULT_MAX_FRAMES = 64  # xl's max_grant_frames
_V1 = struct.Struct("<HHI")  # flags, domid, frame
_V2 = struct.Struct("<HH4xQ")  # flags, domid, frame (of a full-page entry)
_ENTRY = {1: _V1, 2: _V2}
STATUS_SIZE = 2


class Frames(Protocol):
    """Where table frames come from (hv.engine.machine.GuestDomain)."""

    def xenheap_page(self) -> int: ...


class GrantTable:
    """One domain's table. `page` gives the memory of a machine frame."""

    def __init__(self, frames: Frames, page: Callable[[int], memoryview], max_frames: int = DEFAULT_MAX_FRAMES) -> None:
        self._frames = frames
        self._page = page
        self.max_frames = max_frames
        self.version = 1
        self.mfns: list[int] = [frames.xenheap_page()]
        self._status: list[int] = []

    @property
    def status_mfns(self) -> list[int]:
        """The frames of version 2's status words; none in version 1."""
        if self.version != 2:
            return []
        self._populate_status()
        return self._status

    def grow(self, count: int) -> int:
        """Have at least `count` frames: a GNTST_* status."""
        if count > self.max_frames:
            return abi.GNTST_general_error
        while len(self.mfns) < count:
            self.mfns.append(self._frames.xenheap_page())
        return abi.GNTST_okay

    def set_version(self, version: int) -> None:
        """Change between 1 and 2."""
        if version == self.version:
            return
        old, new = _ENTRY[self.version], _ENTRY[version]
        first = self._page(self.mfns[0])
        reserved = [old.unpack_from(first, i * old.size) for i in range(abi.GNTTAB_NR_RESERVED_ENTRIES)]
        for mfn in [*self.mfns, *self._status]:
            self._page(mfn)[:] = bytes(PAGE)
        for i, entry in enumerate(reserved):
            new.pack_into(first, i * new.size, *entry)
        self.version = version

    def _populate_status(self) -> None:
        entries = len(self.mfns) * PAGE // _V2.size
        while len(self._status) * PAGE < entries * STATUS_SIZE:
            self._status.append(self._frames.xenheap_page())
