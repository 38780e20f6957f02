"""Guests that grant, map and copy by order of a test: puppets with a grant table.

Entries are written from outside, as the guest itself would write them; everything that Xen does is a real hypercall.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

from guest_kit import Puppet

import hv
from hv.abi import grant_table as abi
from hv.abi.xen import DOMID_SELF

ACCESS, READ_ONLY = abi.GTF_permit_access, abi.GTF_permit_access | abi.GTF_readonly
HOST, DEVICE, RO, PTE = abi.GNTMAP_host_map, abi.GNTMAP_device_map, abi.GNTMAP_readonly, abi.GNTMAP_contains_pte
NAMES = {value: name for name, value in vars(abi).items() if name.startswith("GNTST_")}
ENTRY = {1: "<HHI", 2: "<HH4xQ"}

# The beginning of a guest that maps its own page: grant 8, and `map` is for it.
GRANTED_TO_ITSELF = """
        .include "grants.inc"
        use_shared_info
        use_grants
main:   call    map_shared_info
        call    map_grant_table
        call    own_domid
        mov     %ax, map + gnttab_map_grant_ref_dom
        mov     $8, %edi
        mov     $page, %rsi
        mov     %eax, %edx
        mov     $GTF_permit_access, %ecx
        call    grant_page
"""


def status_name(status: int) -> str:
    return NAMES.get(status, str(status)).removeprefix("GNTST_")


class Party(Puppet):
    """A puppet that knows the operations on grants; they return Xen's status by name."""

    @property
    def domid(self) -> int:
        return self.domain.domid

    # --- its own table

    def _entry(self, ref: int) -> tuple[memoryview, int]:
        size = 8 if self.domain.grants.version == 1 else 16
        return self.engine.page(self.domain.grants.mfns[ref * size // 4096]), ref * size % 4096

    def entry(self, ref: int, data: bytes) -> None:
        page, at = self._entry(ref)
        page[at : at + len(data)] = data

    def grant(self, ref: int, domid: int, mfn: int, flags: int = ACCESS) -> int:
        """Write a full-page entry; the ref."""
        self.entry(ref, struct.pack(ENTRY[self.domain.grants.version], flags, domid, mfn))
        return ref

    def grant_page(self, ref: int, to: Puppet, index: int = 0, flags: int = ACCESS) -> int:
        """Grant a page of the arena; its frame."""
        mfn = self.mfn(self.page(index))
        self.grant(ref, to.domain.domid, mfn, flags)
        return mfn

    def grant_part(self, ref: int, domid: int, mfn: int, offset: int, length: int, flags: int = ACCESS) -> None:
        self.entry(ref, struct.pack("<HHHHQ", flags | abi.GTF_sub_page, domid, offset, length, mfn))

    def grant_transitive(self, ref: int, domid: int, third: int, third_ref: int, flags: int = 0) -> None:
        self.entry(ref, struct.pack("<HHHHI4x", flags | abi.GTF_transitive, domid, third, 0, third_ref))

    def flags(self, ref: int) -> int:
        page, at = self._entry(ref)
        return int(struct.unpack_from("<H", page, at)[0])

    def noted(self, ref: int) -> str:
        """Which use is noted in the entry, or in its status word: "", "r" or "rw"."""
        word = self.flags(ref)
        if self.domain.grants.version == 2:
            page = self.engine.page(self.domain.grants.status_mfns[ref // 2048])
            word = struct.unpack_from("<H", page, ref % 2048 * 2)[0]
        return ("r" if word & abi.GTF_reading else "") + ("w" if word & abi.GTF_writing else "")

    def revoke(self, ref: int) -> bool:
        """End a grant as a guest does: False where it is in use."""
        if self.noted(ref):
            return False
        self.entry(ref, b"\0\0")
        return True

    def version(self, version: int) -> int:
        return self.hypercall("grant_table_op", abi.GNTTABOP_set_version, struct.pack("<I", version), 1)

    # --- operations

    def operate(self, command: int, argument: bytes, count: int = 1) -> tuple[int, bytes]:
        """(result of the hypercall, the structures behind it)."""
        address = self.place(argument)
        result = self.hypercall("grant_table_op", command, address, count)
        self._bump = address
        return result, self.guest.read(address, len(argument))

    def map_grant(self, other: int | Puppet, ref: int, address: int = 0, flags: int = HOST) -> tuple[str, int, int]:
        """(status, handle, bus address)."""
        domid = other if isinstance(other, int) else other.domain.domid
        argument = struct.pack("<QIIHhIQ", address, flags, ref, domid, 77, 0, 0)
        result, data = self.operate(abi.GNTTABOP_map_grant_ref, argument)
        assert result == 0
        _, _, _, _, status, handle, bus = struct.unpack("<QIIHhIQ", data)
        return status_name(status), handle, bus

    def unmap_grant(self, handle: int, address: int = 0, bus: int = 0) -> str:
        result, data = self.operate(abi.GNTTABOP_unmap_grant_ref, struct.pack("<QQIh2x", address, bus, handle, 77))
        assert result == 0
        return status_name(struct.unpack("<QQIh2x", data)[3])

    def replace(self, handle: int, address: int, new: int) -> str:
        result, data = self.operate(abi.GNTTABOP_unmap_and_replace, struct.pack("<QQIh2x", address, new, handle, 77))
        assert result == 0
        return status_name(struct.unpack("<QQIh2x", data)[3])

    def transfer(self, mfn: int, domid: int, ref: int) -> str:
        result, data = self.operate(abi.GNTTABOP_transfer, struct.pack("<QH2xIh6x", mfn, domid, ref, 77))
        assert result == 0
        return status_name(struct.unpack("<QH2xIh6x", data)[3])

    def swap(self, a: int, b: int) -> str:
        result, data = self.operate(abi.GNTTABOP_swap_grant_ref, struct.pack("<IIh2x", a, b, 77))
        assert result == 0
        return status_name(struct.unpack("<IIh2x", data)[2])

    def cache_flush(self, address: int, offset: int = 0, length: int = 64, op: int = abi.GNTTAB_CACHE_CLEAN) -> int:
        return self.operate(abi.GNTTABOP_cache_flush, struct.pack("<QHHI", address, offset, length, op))[0]

    def copy(self, *operations: bytes) -> list[str]:
        """Status of each of `copy_op`s, in one call."""
        result, data = self.operate(abi.GNTTABOP_copy, b"".join(operations), len(operations))
        assert result == 0
        return [status_name(struct.unpack_from("<h", data, 40 * i + 36)[0]) for i in range(len(operations))]

    def mapped_at(self, address: int) -> int | None:
        return self.guest.walk(address)[1]


def frame(mfn: int, offset: int = 0, domid: int = DOMID_SELF) -> tuple[int, int, int, bool]:
    """A side of a copy: a frame of the caller's own."""
    return mfn, domid, offset, False


def granted(ref: int, domid: int, offset: int = 0) -> tuple[int, int, int, bool]:
    """A side of a copy: a grant."""
    return ref, domid, offset, True


def copy_op(source: tuple[int, int, int, bool], dest: tuple[int, int, int, bool], length: int = 64) -> bytes:
    """A struct gnttab_copy."""
    flags = (abi.GNTCOPY_source_gref if source[3] else 0) | (abi.GNTCOPY_dest_gref if dest[3] else 0)
    return struct.pack("<QHH4xQHH4xHHh2x", *source[:3], *dest[:3], length, flags, 77)


@contextmanager
def parties(count: int = 2) -> Iterator[list[Party]]:
    """So many guests on one machine."""
    with hv.Machine() as machine:
        yield [Party(machine, name=f"party{i + 1}") for i in range(count)]
