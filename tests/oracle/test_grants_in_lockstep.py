"""Random operations on grants, on hv and on real Xen: the same statuses, handles, entries and page-table entries.

The guest grants its pages to itself, in both versions of the table: what needs a second domain can not be asked of Xen
here, but the code is the same. `HV_GRANT_STEPS` and `HV_GRANT_SEED` make more of them, and others.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest
from guest_kit import ADDRESS, PAGE, Puppet
from xen_puppet import XenPuppet, image

import hv
from hv.abi import grant_table as abi
from hv.abi.xen import DOMID_SELF
from hv.testing import xen_in_qemu

STEPS = int(os.environ.get("HV_GRANT_STEPS", "1000"))
SEED = int(os.environ.get("HV_GRANT_SEED", "1"))
REFS = (*range(8, 16), 8, 9, 10, 255, 256, 511, 512, 100_000, 0xFFFFFFFF)
WINDOWS, GRANTED = range(1, 6), range(6, 12)  # pages of the arena
NO_FRAME, NOBODY = 0xFFFFFFF, 9999
JUNK = (0, 8, 0x123456789000, 0xFFFF830000000000, 1 << 63)
PTE_SHOWN = ~(ADDRESS | 0x60)  # without frame, accessed and dirty
Order = tuple[str, tuple[Any, ...]]


class Grantor:
    """A puppet with a grant table; what it answers does not depend on which frames it happens to have."""

    def __init__(self, puppet: Puppet, own: int, page: Callable[[int], memoryview]) -> None:
        self.p, self.own, self._page = puppet, own, page
        self.handles: list[int] = []
        self.mapped: dict[int, tuple[int, int]] = {}  # by handle: the address, and the bus's where devices may use it
        self.version = 1
        self._frames = [puppet.mfn(puppet.page(i)) for i in GRANTED]
        self._tables = self._ask(abi.GNTTABOP_setup_table, struct.pack("<HxxIh6xQ", DOMID_SELF, 1, 77, self._list()))
        self.table = self._page(struct.unpack("<Q", puppet.guest.read(self._list(), 8))[0])

    def _list(self) -> int:
        return self.p.arena + 31 * PAGE

    def _ask(self, command: int, argument: bytes, count: int = 1) -> tuple[int, bytes]:
        bump = self.p._bump
        address = self.p.place(argument)
        result = self.p.hypercall("grant_table_op", command, address, count)
        self.p._bump = bump
        return result, self.p.guest.read(address, len(argument))

    # --- names of things

    def frame(self, what: int | str) -> int:
        if what == "page table":
            return self.p.table(1, self.p.arena)
        return self._frames[what] if isinstance(what, int) else NO_FRAME

    def name_of(self, mfn: int) -> Any:
        return self._frames.index(mfn) if mfn in self._frames else mfn if mfn in (0, NO_FRAME) else "another"

    def domid(self, who: str) -> int:
        return {"own": self.own, "self": DOMID_SELF, "nobody": NOBODY}[who]

    def address(self, where: tuple[str, int]) -> int:
        kind, index = where
        if kind == "window":
            return self.p.page(index)
        return self.p.slot(1, self.p.page(index)) if kind == "entry" else index

    def handle(self, which: int) -> int:
        return self.handles[which % len(self.handles)] if self.handles and which >= 0 else 0xFFFF

    # --- orders; each returns what must be the same

    def write(self, ref: int, flags: int, who: str, frame: int | str, low: int, high: int) -> Any:
        size = 8 * self.version
        if (ref + 1) * size > PAGE:
            return None
        if self.version == 1:
            entry = struct.pack("<HHI", flags, self.domid(who), self.frame(frame) & 0xFFFFFFFF)
        elif flags & abi.GTF_type_mask == abi.GTF_transitive:
            entry = struct.pack("<HHHHI4x", flags, self.domid(who), self.own, 0, low)
        else:
            entry = struct.pack("<HHHHQ", flags, self.domid(who), low, high, self.frame(frame))
        self.table[ref * size : (ref + 1) * size] = entry
        return None

    def map(self, ref: int, flags: int, who: str, where: tuple[str, int]) -> Any:
        argument = struct.pack("<QIIHhIQ", self.address(where), flags, ref, self.domid(who), 77, 0x55, 0x66)
        result, data = self._ask(abi.GNTTABOP_map_grant_ref, argument)
        *_, status, handle, bus = struct.unpack("<QIIHhIQ", data)
        if status == 0:
            self.handles.append(handle)
            host = self.address(where) if flags & abi.GNTMAP_host_map else 0
            self.mapped[handle] = host, bus if flags & abi.GNTMAP_device_map else 0
        return result, status, handle, self.name_of(bus >> 12) if status == 0 else bus

    def unmap(self, which: int, where: tuple[str, int], bus: int | str | None) -> Any:
        bus_address = 0 if bus is None else self.frame(bus) << 12
        return self._unmap(self.handle(which), self.address(where), bus_address)

    def unmap_rightly(self, which: int) -> Any:
        handle = self.handle(which)
        return self._unmap(handle, *self.mapped.get(handle, (0, 0)))

    def release(self) -> Any:
        """The end of everything: the version may change then, but for mappings that were written over."""
        answers = [self._unmap(handle, *where) for handle, where in self.mapped.items()]
        self.handles.clear()
        self.mapped.clear()
        return answers

    def _unmap(self, handle: int, address: int, bus: int) -> Any:
        result, data = self._ask(abi.GNTTABOP_unmap_grant_ref, struct.pack("<QQIh2x", address, bus, handle, 77))
        return result, struct.unpack("<QQIh2x", data)[3]

    def replace(self, which: int, where: tuple[str, int], new: tuple[str, int]) -> Any:
        argument = struct.pack("<QQIh2x", self.address(where), self.address(new), self.handle(which), 77)
        result, data = self._ask(abi.GNTTABOP_unmap_and_replace, argument)
        return result, struct.unpack("<QQIh2x", data)[3]

    def copy(self, *operations: tuple[Any, ...]) -> Any:
        packed = b""
        for (s_ref, s_what, s_who, s_at), (d_ref, d_what, d_who, d_at), length, flags in operations:
            source = s_ref if flags & abi.GNTCOPY_source_gref else self.frame(s_what)
            dest = d_ref if flags & abi.GNTCOPY_dest_gref else self.frame(d_what)
            packed += struct.pack("<QHH4x", source, self.domid(s_who), s_at)
            packed += struct.pack("<QHH4xHHh2x", dest, self.domid(d_who), d_at, length, flags, 77)
        result, data = self._ask(abi.GNTTABOP_copy, packed, len(operations))
        return result, [struct.unpack_from("<h", data, 40 * i + 36)[0] for i in range(len(operations))]

    def swap(self, one: int, other: int) -> Any:
        result, data = self._ask(abi.GNTTABOP_swap_grant_ref, struct.pack("<IIh2x", one, other, 77))
        return result, struct.unpack("<IIh2x", data)[2]

    def flush(self, what: int | str, offset: int, length: int, op: int) -> Any:
        argument = struct.pack("<QHHI", self.frame(what) << 12, offset, length, op)
        return self._ask(abi.GNTTABOP_cache_flush, argument)[0]

    def transfer(self, what: int | str, who: str, ref: int) -> Any:
        """Of a frame that is mapped, which can not go."""
        argument = struct.pack("<QH2xIh6x", self.frame(what), self.domid(who), ref, 77)
        result, data = self._ask(abi.GNTTABOP_transfer, argument)
        return result, struct.unpack("<QH2xIh6x", data)[3]

    def set_version(self, version: int) -> Any:
        result, data = self._ask(abi.GNTTABOP_set_version, struct.pack("<I", version))
        self.version = struct.unpack("<I", data)[0]
        return result, self.version

    def status_frames(self, count: int, who: str) -> Any:
        argument = struct.pack("<IHhQ", count, self.domid(who), 77, self._list())
        result, data = self._ask(abi.GNTTABOP_get_status_frames, argument)
        return result, struct.unpack("<IHhQ", data)[2]

    def query(self, who: str) -> Any:
        result, data = self._ask(abi.GNTTABOP_query_size, struct.pack("<HxxIIhxx", self.domid(who), 5, 6, 77))
        _, frames, _most, status = struct.unpack("<HxxIIhxx", data)
        return result, status, frames

    # --- what it has come to

    def picture(self) -> Any:
        """The first entries' flags, and the page-table entries of the windows."""
        size = 8 * self.version
        entries = [struct.unpack_from("<H", self.table, ref * size)[0] for ref in range(8, 16)]
        leaves = [self.p.leaf(self.p.page(i))[1] for i in WINDOWS]
        shown = [(leaf & PTE_SHOWN & (1 << 64) - 1, self.name_of((leaf & ADDRESS) >> 12)) for leaf in leaves]
        return entries, shown


def orders(rng: random.Random) -> list[Order]:
    """STEPS of them: mostly sensible ones, so that there is something to be wrong with."""

    def ref() -> int:
        return rng.choice(REFS) if rng.random() < 0.3 else rng.randrange(8, 14)

    def who() -> str:
        return rng.choice(("own",) * 12 + ("self", "nobody"))

    def frame() -> int | str:
        return rng.choice((*range(len(GRANTED)), *range(len(GRANTED)), "nothing", "page table"))

    def where() -> tuple[str, int]:
        kind = rng.choice(("window",) * 6 + ("entry", "junk"))
        return kind, rng.choice(JUNK if kind == "junk" else WINDOWS)

    def copy_side() -> tuple[Any, ...]:
        return ref(), frame(), rng.choice(("own", "own", "self", "nobody")), rng.choice((0, 0, 100, 4090, 4096, 65535))

    def copy_operation() -> tuple[Any, ...]:
        return copy_side(), copy_side(), rng.choice((0, 1, 6, 64, 4096, 65535)), rng.choice((0, 1, 1, 2, 2, 3, 7))

    access = (abi.GTF_permit_access,) * 6 + (abi.GTF_permit_access | abi.GTF_readonly,) * 2
    kinds = (*access, 0, abi.GTF_accept_transfer, abi.GTF_transitive, abi.GTF_permit_access | abi.GTF_sub_page, 0xFFFF)
    maps = (abi.GNTMAP_host_map,) * 6 + (abi.GNTMAP_host_map | abi.GNTMAP_readonly,) * 3
    devices = (abi.GNTMAP_device_map, abi.GNTMAP_device_map | abi.GNTMAP_host_map, 0, abi.GNTMAP_readonly)
    more = (0, 0, 0, abi.GNTMAP_application_map, 5 << 16)
    make: list[tuple[int, str, Callable[[], tuple[Any, ...]]]] = [
        (8, "write", lambda: (rng.randrange(8, 16), rng.choice(kinds), who(), frame(),
                              rng.choice((0, 8, 9, 10, 100, 600)), rng.choice((0, 50, 4096)))),
        (10, "map", lambda: map_arguments()),
        (4, "unmap_rightly", lambda: (rng.randrange(40),)),
        (1, "release", lambda: ()),
        (4, "unmap", lambda: (rng.randrange(-1, 40), where(), rng.choice((None, None, None, frame())))),
        (2, "replace", lambda: (rng.randrange(-1, 40), where(), where())),
        (8, "copy", lambda: tuple(copy_operation() for _ in range(rng.choice((1, 1, 2, 5))))),
        (3, "swap", lambda: (ref(), ref())),
        (1, "flush", lambda: (frame(), rng.choice((0, 64, 4096)), rng.choice((0, 64, 4096, 65535)), rng.randrange(5))),
        (1, "transfer", lambda: (frame(), who(), ref())),
        (1, "set_version", lambda: (rng.choice((0, 1, 1, 2, 2, 3)),)),
        (1, "status_frames", lambda: (rng.choice((0, 1, 1, 2, 1 << 31)), who())),
        (1, "query", lambda: (who(),)),
    ]  # fmt: skip

    def map_arguments() -> tuple[Any, ...]:
        place = where()
        flags = rng.choice(maps * 3 + devices) | rng.choice(more)
        return ref(), flags | (abi.GNTMAP_contains_pte if place[0] == "entry" else 0), who(), place

    weighted = [(name, arguments) for weight, name, arguments in make for _ in range(weight)]
    return [(name, arguments()) for name, arguments in (rng.choice(weighted) for _ in range(STEPS))]


@pytest.mark.parametrize("version", [1, 2])
def test_the_same_answers(version: int) -> None:
    made, where = image()
    with xen_in_qemu.Session(made, memory=256, share_ram=True) as session, hv.Machine() as machine:
        ram = memoryview(session.ram)  # type: ignore[arg-type]
        theirs = Grantor(XenPuppet(session, where), 0, lambda mfn: ram[mfn << 12 : (mfn + 1) << 12])
        puppet = Puppet(machine, max_grant_version=2)
        ours = Grantor(puppet, puppet.domain.domid, machine.engine.page)
        done: list[Order] = []
        for order in [("set_version", (version,)), *orders(random.Random(SEED))]:
            name, arguments = order
            done.append(order)
            answers = [(getattr(side, name)(*arguments), side.picture()) for side in (ours, theirs)]
            assert answers[0] == answers[1], f"step {len(done)}: {order}: hv {answers[0]}, Xen {answers[1]}"
        theirs.table.release()
        ram.release()
