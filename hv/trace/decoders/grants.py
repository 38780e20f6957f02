"""Grant-table operations: flags, statuses and the two ends of a copy by name."""

from __future__ import annotations

from typing import Any

from hv.abi import grant_table
from hv.trace import words
from hv.trace.decoders import describes
from hv.trace.events import GrantUse
from hv.trace.structures import MEANINGS, special

MAP_FLAGS = {value: name for name, value in vars(grant_table).items() if name.startswith("GNTMAP_")}
COPY_FLAGS = {value: name for name, value in vars(grant_table).items() if name.startswith("GNTCOPY_")}
STATUS = MEANINGS["gnttab_copy", "status"]


def bits(names: dict[int, str], value: int) -> str:
    """`GNTMAP_host_map|GNTMAP_readonly`; what has no name is added as a number."""
    shown = [name for bit, name in names.items() if isinstance(bit, int) and bit and value & bit]
    rest = value & ~sum(bit for bit in names if isinstance(bit, int) and bit and value & bit)
    return "|".join([*shown, *([f"{rest:#x}"] if rest else [])]) or "0"


MEANINGS["gnttab_map_grant_ref", "flags"] = lambda value: bits(MAP_FLAGS, value)
MEANINGS["gnttab_copy", "flags"] = lambda value: bits(COPY_FLAGS, value)
MEANINGS["gnttab_copy_ptr", "domid"] = words.domid


@describes(GrantUse)
def use(event: GrantUse) -> str:
    """`grant 8 of domain 1 (mfn 0x43fa) mapped at 0xffffffff8000b000, read-only, handle 0`."""
    where = ""
    if event.address and not event.ended:
        place = "by the entry at" if event.flags & grant_table.GNTMAP_contains_pte else "at"
        where = f" {place} {event.address:#x}"
    for flag, name in ((grant_table.GNTMAP_device_map, "for devices"), (grant_table.GNTMAP_readonly, "read-only")):
        where += f", {name}" if event.flags & flag else ""
    what = f"grant {event.reference} of domain {event.granter} (mfn {event.mfn:#x})"
    return f"{what} {'unmapped' if event.ended else 'mapped'}{where}, handle {event.handle}"


@special(grant_table.gnttab_copy)
def copy(c: Any) -> str:
    """`grant 8 of domain 0 at 0 → gfn 0x1234 of DOMID_SELF at 0x10, 64 bytes, GNTST_okay`."""
    source = _end(c.source, c.flags & grant_table.GNTCOPY_source_gref)
    dest = _end(c.dest, c.flags & grant_table.GNTCOPY_dest_gref)
    return f"{{{source} → {dest}, {c.len} bytes, {STATUS(c.status)}}}"


def _end(end: Any, by_grant: int) -> str:
    what = f"grant {end.u.ref}" if by_grant else f"gfn {end.u.gmfn:#x}"
    return f"{what} of {words.domid(end.domid)} at {end.offset:#x}"
