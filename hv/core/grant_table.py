"""Grants as people and backends see them: a domain's table, and domain 0's use of others' grants.

Rules:

1. The state and its rules are hv.fastpath's (grants.pyx and its neighbours); nothing is kept here but names.
2. A backend reaches guests by `HostGrants` only: what was not granted to domain 0 is refused (`GrantRefused`),
   and what is mapped is marked as in use in the guest's table until `unmap`.
3. A mapping outlives its guest: the frame stays until the backend unmaps it.

Specification: grant_table.h; Xen 4.17 common/grant_table.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from hv.abi import grant_table as abi

DEFAULT_MAX_FRAMES = 64  # of a table, and of handles: Xen's own defaults, which xl takes
DEFAULT_MAX_MAPTRACK_FRAMES = 1024
LARGEST = 4096  # frames of a table, and...
LARGEST_MAPTRACK = 65536  # ...of handles, as hv makes them at most
STATUS_NAMES = {value: name for name, value in vars(abi).items() if name.startswith("GNTST_") and type(value) is int}
KINDS = {
    abi.GTF_permit_access: "access",
    abi.GTF_accept_transfer: "transfer",
    abi.GTF_transitive: "transitive",
}
Uses = tuple[int, int, int, int, int, int, int, int]
Segment = tuple[int, int, int]  # ref, offset, length
Buffer = bytes | bytearray | memoryview


class Guest(Protocol):
    """The hot side of a domain (hv.engine.machine.GuestDomain)."""

    def grants(self) -> tuple[int, int, list[int], list[int], int]: ...
    def grow_grants(self, frames: int) -> int: ...
    def set_grant_version(self, version: int) -> int: ...
    def seed_grant(self, ref: int, domid: int, mfn: int) -> None: ...
    def granted(self) -> list[tuple[int, int, int, int, int, Uses | None]]: ...
    def mapped_grants(self) -> list[tuple[int, int, int, int]]: ...


class Host(Guest, Protocol):
    """That of domain 0."""

    def map_grant(self, domid: int, ref: int, readonly: bool = ...) -> tuple[int, int, int]: ...
    def unmap_grant(self, handle: int) -> int: ...
    def read_grants(self, domid: int, segments: Iterable[Segment], into: bytearray | memoryview) -> int: ...
    def write_grants(self, domid: int, segments: Iterable[Segment], data: Buffer) -> int: ...


class GrantRefused(Exception):
    """A guest has not granted what a backend asks for; `status` is Xen's GNTST_*."""

    def __init__(self, domid: int, ref: int | None, status: int) -> None:
        which = "a grant" if ref is None else f"grant {ref}"
        super().__init__(f"{which} of domain {domid}: {STATUS_NAMES.get(status, status)}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Grant:
    """One entry of a table: what the guest has written there, and who uses it."""

    ref: int
    kind: str  # access, transfer, transitive; or "used", where the guest has cleared an entry in use
    domid: int  # to whom
    frame: int
    readonly: bool
    sub_page: bool
    user: int | None  # the domain that uses it now
    mfn: int | None  # the frame in use, whatever the entry says by now
    writers: int  # mappings and copies under way
    readers: int


@dataclass(frozen=True, slots=True)
class Mapped:
    """One grant of another domain that this domain has mapped."""

    handle: int
    domid: int
    ref: int
    readonly: bool
    device: bool
    host: bool


class GrantTable:
    """One domain's table; iterating gives its `Grant`s."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._at_end: tuple[list[Grant], list[Mapped]] | None = None

    def end(self) -> None:
        """The domain is going: what is there now can still be looked at."""
        self._at_end = list(self), self.mapped

    @property
    def version(self) -> int:
        return self._guest.grants()[0]

    @property
    def mfns(self) -> list[int]:
        """The frames of the table."""
        return self._guest.grants()[2]

    @property
    def status_mfns(self) -> list[int]:
        """The frames of version 2's status words; none in version 1."""
        return self._guest.grants()[3]

    @property
    def max_frames(self) -> int:
        return self._guest.grants()[4]

    def grow(self, count: int) -> int:
        """Have at least `count` frames: a GNTST_* status."""
        if count > self.max_frames or self._guest.grow_grants(count):
            return abi.GNTST_general_error
        return abi.GNTST_okay

    def set_version(self, version: int) -> int:
        """Change between 1 and 2: 0 or a negative errno."""
        return self._guest.set_grant_version(version)

    def seed(self, ref: int, domid: int, mfn: int) -> None:
        """Grant a page on the guest's behalf, as toolstacks do for console and store."""
        self._guest.seed_grant(ref, domid, mfn)

    def __iter__(self) -> Iterator[Grant]:
        return iter(self._at_end[0]) if self._at_end is not None else self._rows()

    def _rows(self) -> Iterator[Grant]:
        for ref, flags, domid, frame, _status, uses in self._guest.granted():
            user, mfn, writers, readers = None, None, 0, 0
            if uses is not None:
                user, mfn, writers, readers = uses[0], uses[1], uses[2] + uses[4], uses[3] + uses[5]
            kind = KINDS.get(flags & abi.GTF_type_mask, "used")
            readonly = bool(flags & abi.GTF_readonly) and kind != "transfer"
            yield Grant(ref, kind, domid, frame, readonly, bool(flags & abi.GTF_sub_page), user, mfn, writers, readers)

    @property
    def mapped(self) -> list[Mapped]:
        """What the domain has mapped of others."""
        if self._at_end is not None:
            return self._at_end[1]
        return [
            Mapped(
                handle,
                domid,
                ref,
                bool(flags & abi.GNTMAP_readonly),
                bool(flags & abi.GNTMAP_device_map),
                bool(flags & abi.GNTMAP_host_map),
            )
            for handle, domid, ref, flags in self._guest.mapped_grants()
        ]


class Mapping:
    """A guest's page, mapped for a backend: `view` is its memory until `unmap`."""

    def __init__(self, host: Host, handle: int, mfn: int, view: memoryview, written: Callable[[int], None]) -> None:
        self._host = host
        self._handle: int | None = handle
        self._written = written
        self.mfn = mfn
        self.view = view

    def written(self) -> None:
        """Say that `view` was written: code that the guest runs from this page is translated anew."""
        self._written(self.mfn)

    def unmap(self) -> None:
        """Give the grant back; a second time does nothing."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self.view = memoryview(b"")
            self._host.unmap_grant(handle)

    def __enter__(self) -> Mapping:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unmap()


class HostGrants:
    """What guests have granted to domain 0, for backends. `page` gives the memory of a machine frame."""

    def __init__(self, host: Host, page: Callable[[int], memoryview], written: Callable[[int], None]) -> None:
        self._host = host
        self._page = page
        self._written = written

    def map(self, domid: int, ref: int, *, readonly: bool = False) -> Mapping:
        """Map a page; GrantRefused where the guest does not permit it."""
        status, handle, mfn = self._host.map_grant(domid, ref, readonly)
        if status != abi.GNTST_okay:
            raise GrantRefused(domid, ref, status)
        view = self._page(mfn)
        return Mapping(self._host, handle, mfn, view.toreadonly() if readonly else view, self._written)

    def read(self, domid: int, segments: Iterable[Segment], into: bytearray | memoryview) -> None:
        """Copy parts (ref, offset, length) of granted pages, one behind the other, into a buffer."""
        self._check(domid, self._host.read_grants(domid, segments, into))

    def write(self, domid: int, segments: Iterable[Segment], data: Buffer) -> None:
        """Copy a buffer into parts (ref, offset, length) of granted pages."""
        self._check(domid, self._host.write_grants(domid, segments, data))

    def _check(self, domid: int, status: int) -> None:
        if status != abi.GNTST_okay:
            raise GrantRefused(domid, None, status)
