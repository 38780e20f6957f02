"""Changes of page tables: the request, and what became of it."""

from __future__ import annotations

from typing import Any

from hv.abi import xen
from hv.trace import words
from hv.trace.decoders import describes
from hv.trace.events import PageTable
from hv.trace.structures import MEANINGS, special

COMMANDS = {value: name for name, value in vars(xen).items() if name.startswith("MMU_") and isinstance(value, int)}


@describes(PageTable)
def page_table(event: PageTable) -> str:
    where = f"maps {event.address:#x}" if event.address is not None else "is in no table"
    slot = event.slot % 4096 // 8
    return f"page table: L{event.level}[{slot}] {where}: {words.pte(event.old)} → {words.pte(event.new)}"


@special(xen.mmu_update)
def mmu_update(request: Any) -> str:
    command = request.ptr & 7
    name = COMMANDS.get(command, f"command {command}")
    value = words.pte(request.val) if command != xen.MMU_MACHPHYS_UPDATE else f"pfn {request.val:#x}"
    return f"{{{name} {request.ptr - command:#x} = {value}}}"


@special(xen.mmuext_op)
def mmuext_op(request: Any) -> str:
    """Which member of its unions an operation means, its row in the header's comment tells."""
    name = MEANINGS["mmuext_op", "cmd"](request.cmd)
    first = FIRST.get(name.removeprefix("MMUEXT_"))
    second = SECOND.get(name.removeprefix("MMUEXT_"))
    parts = [name]
    if first:
        parts.append(f"{first}={getattr(request.arg1, first):#x}")
    if second:
        parts.append(f"{second}={words.number(getattr(request.arg2, second))}")
    return "{" + " ".join(parts) + "}"


_OF_A_FRAME = ("PIN_L1_TABLE", "PIN_L2_TABLE", "PIN_L3_TABLE", "PIN_L4_TABLE", "UNPIN_TABLE", "NEW_BASEPTR",
               "NEW_USER_BASEPTR", "CLEAR_PAGE", "COPY_PAGE", "MARK_SUPER", "UNMARK_SUPER")  # fmt: skip
_OF_AN_ADDRESS = ("INVLPG_LOCAL", "INVLPG_MULTI", "INVLPG_ALL", "SET_LDT")
FIRST = dict.fromkeys(_OF_A_FRAME, "mfn") | dict.fromkeys(_OF_AN_ADDRESS, "linear_addr")
SECOND = {
    "SET_LDT": "nr_ents",
    "COPY_PAGE": "src_mfn",
    "TLB_FLUSH_MULTI": "vcpumask",
    "INVLPG_MULTI": "vcpumask",
}
