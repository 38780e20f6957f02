"""Attacks on memory: what a guest may not do with page tables, and what Xen 4.17 answers (arch/x86/mm.c).

By calls for page tables, flags, slots and addresses; test_attacks_in_steps.py has the others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from attack_kit import (
    FRAMES,
    Attack,
    check,
    gdt_frame,
    guest_gdt,
    m2p_frame,
    of_own,
    on,
    other,
    own_entry,
    pinned_l1,
    shown,
    table,
    writable_page,
)
from guest_kit import (
    ADDRESS,
    GLOBAL,
    KERNEL_PAGE,
    MACHPHYS,
    PAT_PSE,
    PCD,
    PRESENT,
    PWT,
    READ_ONLY,
    RW,
    TABLE,
    UNMAPPED,
    USER,
    Puppet,
    known_bug,
)

import hv
from hv.abi import xen
from hv.abi.xen import DOMID_SELF

# What mapping each of them gives: get_page_from_l1e. The first MiB is DOMID_IO's on Xen (arch_init_memory).
MAPPING = {
    "frame 0": "-EPERM",
    "a frame of the M2P": "-EBUSY",
    "the last frame of the M2P": "-EBUSY",
    "the frame with hv's descriptors": "-EBUSY",
    "a free frame": "-EBUSY",
    "another domain's page": "-EBUSY",
    "the first frame beyond RAM": "-EPERM",
    "a frame far beyond RAM": "-EPERM",
    "no frame at all": "-EINVAL",
}

ROWS: dict[str, tuple[Callable[[Puppet], Attack], str]] = {}
BUGS: dict[str, str] = {}


def row(name: str, prepare: Callable[[Puppet], Attack], expected: str, bug: str | None = None) -> None:
    assert name not in ROWS
    ROWS[name] = prepare, expected
    if bug is not None:
        BUGS[name] = bug


def load_gdt(p: Puppet, mfn: int) -> int:
    return p.hypercall("set_gdt", struct.pack("<Q", mfn), 512)


def mapping(frame: Callable[[Puppet], int], flags: int) -> Callable[[Puppet], Attack]:
    """update_va_mapping of page 1."""

    def prepare(p: Puppet) -> Attack:
        mfn = frame(p)
        return lambda: p.map(p.page(1), mfn, flags)

    return prepare


def entry(level: int, value: Callable[[Puppet], int], preserve: bool = False) -> Callable[[Puppet], Attack]:
    """mmu_update of the entry of that level which page 1 goes through."""

    def prepare(p: Puppet) -> Attack:
        new = value(p)
        slot = p.slot(level, p.page(1)) | (xen.MMU_PT_UPDATE_PRESERVE_AD if preserve else 0)
        return lambda: p.mmu_update(slot, new)

    return prepare


def extended(
    command: int, frame: Callable[[Puppet], int], second: Callable[[Puppet], int] = lambda p: 0
) -> Callable[[Puppet], Attack]:
    """One mmuext_op."""

    def prepare(p: Puppet) -> Attack:
        first, other_argument = frame(p), second(p)
        return lambda: p.mmuext(command, first, other_argument)

    return prepare


def filled(*entries: tuple[int, Callable[[Puppet], int]]) -> Callable[[Puppet], int]:
    """Page 2 with these (slot, entry), read-only, ready to be pinned; its frame."""

    def prepare(p: Puppet) -> int:
        for slot, value in entries:
            p.store(p.page(2) + 8 * slot, value(p))
        return p.read_only(2)

    return prepare


def foreign_table(p: Puppet) -> int:
    q = other(p)
    return q.table(4, q.page(1))


# --- frames that are not the guest's

for name, frame in FRAMES.items():
    result = MAPPING[name]
    row(f"map {name} writable", mapping(frame, KERNEL_PAGE), result)
    row(f"map {name} read-only", mapping(frame, READ_ONLY), result)
    row(f"mmu_update an L1 entry to {name}", entry(1, lambda p, f=frame: f(p) << 12 | KERNEL_PAGE), result)
    row(f"link {name} as an L1 table", entry(2, lambda p, f=frame: f(p) << 12 | TABLE), "-EINVAL")
    row(f"pin {name} as an L1 table", extended(xen.MMUEXT_PIN_L1_TABLE, frame), "-EINVAL")
    row(
        f"pin an L1 table that maps {name}",
        extended(xen.MMUEXT_PIN_L1_TABLE, filled((7, lambda p, f=frame: f(p) << 12 | KERNEL_PAGE))),
        result,
    )
    row(f"unpin {name}", extended(xen.MMUEXT_UNPIN_TABLE, frame), "-EINVAL")
    row(f"clear {name}", extended(xen.MMUEXT_CLEAR_PAGE, frame), "-EINVAL")
    row(f"copy {name} into a page", extended(xen.MMUEXT_COPY_PAGE, writable_page, frame), "-EINVAL")
    row(f"copy a page over {name}", extended(xen.MMUEXT_COPY_PAGE, frame, writable_page), "-EINVAL")
    row(f"mmu_update inside {name}", on(frame, lambda p, mfn: p.mmu_update(mfn << 12 & ADDRESS, 0)), "-EINVAL")
    row(
        f"MACHPHYS_UPDATE of {name}",
        on(frame, lambda p, mfn: p.mmu_update(mfn << 12 & ADDRESS | xen.MMU_MACHPHYS_UPDATE, 0x1234)),
        "-EINVAL",
    )
    row(f"run on {name}", extended(xen.MMUEXT_NEW_BASEPTR, frame), "-EINVAL")
    row(f"a GDT in {name}", on(frame, load_gdt), "-EINVAL")
    if name != "frame 0":  # MMUEXT_NEW_USER_BASEPTR with 0 takes the table away
        row(f"user mode on {name}", extended(xen.MMUEXT_NEW_USER_BASEPTR, frame), "-EINVAL")

# --- the guest's own page tables

for level in (1, 2, 3, 4):
    row(f"map the L{level} table writable", mapping(table(level), KERNEL_PAGE), "-EBUSY")
    row(
        f"an L1 entry to the L{level} table, writable",
        entry(1, lambda p, k=level: p.table(k, p.page(1)) << 12 | TABLE),
        "-EBUSY",
    )
    row(f"clear the L{level} table", extended(xen.MMUEXT_CLEAR_PAGE, table(level)), "-EINVAL")
    row(f"copy over the L{level} table", extended(xen.MMUEXT_COPY_PAGE, table(level), writable_page), "-EINVAL")
    row(
        f"a GDT in the L{level} table",
        on(table(level), load_gdt),
        "-EINVAL",
    )
    for wrong in {1, 2, 3, 4} - {level}:
        row(
            f"pin the L{level} table as L{wrong}",
            extended(xen.MMUEXT_PIN_L1_TABLE + wrong - 1, table(level)),
            "-EINVAL",
        )
    if level < 4:
        row(f"run on the L{level} table", extended(xen.MMUEXT_NEW_BASEPTR, table(level)), "-EINVAL")
        row(f"user mode on the L{level} table", extended(xen.MMUEXT_NEW_USER_BASEPTR, table(level)), "-EINVAL")
for level in (2, 3, 4):
    row(
        f"link the L{level} table writable into itself",
        entry(level, lambda p, k=level: p.table(k, p.page(1)) << 12 | TABLE),
        "-EINVAL",
    )
    row(f"link a page of data at level {level}", entry(level, of_own(TABLE)), "-EINVAL")
row("link the L4 table at level 2", entry(2, lambda p: p.table(4, p.page(1)) << 12 | TABLE), "-EINVAL")
row("link the L1 table at level 4", entry(4, lambda p: p.table(1, p.page(1)) << 12 | TABLE), "-EINVAL")

# --- flags

for name, flag in {"PWT": PWT, "PCD": PCD, "PAT": PAT_PSE, "PWT and PCD": PWT | PCD}.items():
    row(f"{name} in an L1 entry", mapping(writable_page, KERNEL_PAGE | flag), "-EINVAL")
    row(f"{name} in an L1 entry by mmu_update", entry(1, own_entry(1, flag)), "-EINVAL")
    row(f"{name} in an L1 entry, preserving A and D", entry(1, own_entry(1, flag), preserve=True), "-EINVAL")
    row(
        f"pin an L1 table with {name}",
        extended(xen.MMUEXT_PIN_L1_TABLE, filled((0, of_own(READ_ONLY | flag)))),
        "-EINVAL",
    )
for level in (2, 3, 4):
    for name, flag in {"PWT": PWT, "PCD": PCD, "PSE": PAT_PSE, "GLOBAL": GLOBAL}.items():
        row(f"{name} in an L{level} entry", entry(level, own_entry(level, flag)), "-EINVAL")
        row(
            f"{name} in an L{level} entry, preserving A and D",
            entry(level, own_entry(level, flag), preserve=True),
            "-EINVAL",
        )
    row(
        f"pin an L{level} table with PSE",
        extended(xen.MMUEXT_PIN_L1_TABLE + level - 1, filled((0, of_own(TABLE | PAT_PSE)))),
        "-EINVAL",
    )
row("a 2 MiB page over all of RAM", entry(2, lambda p: PRESENT | RW | USER | PAT_PSE), "-EINVAL")
row("a 1 GiB page over all of RAM", entry(3, lambda p: PRESENT | RW | USER | PAT_PSE), "-EINVAL")

# --- the hypervisor's slots and addresses

for slot in (256, 257, 260, 261, 270, 271):
    for name, value in {"nothing": lambda p: 0, "the L3 table": lambda p: p.table(3, p.page(1)) << 12 | TABLE}.items():
        row(
            f"{name} in L4 slot {slot}",
            on(value, lambda p, new, s=slot: p.mmu_update(p.table(4, p.page(1)) << 12 | s * 8, new)),
            "-EINVAL",
        )
for name, address in {
    "the M2P": MACHPHYS,
    "behind the M2P": MACHPHYS + (1 << 38),
    "the descriptor tables": 0xFFFF_8200_0000_0000,
    "the end of hv's range": 0xFFFF_87FF_FFFF_F000,
    "the first non-canonical address": 1 << 47,
    "the last non-canonical address": 0xFFFF_7FFF_FFFF_F000,
    "bit 63 alone": 1 << 63,
    "where the guest has no L1 table": UNMAPPED,
}.items():
    row(f"update_va_mapping at {name}", lambda p, a=address: lambda: p.map(a, p.mfn(p.page(4))), "-EINVAL")
    row(
        f"update_va_mapping to nothing at {name}",
        lambda p, a=address: lambda: p.hypercall("update_va_mapping", a, 0, 0),
        "-EINVAL",
    )
    if name == "the M2P":
        row(f"write to {name}", lambda p, a=address: lambda: p.store(a, 0), "#14 error 0x3")
    elif "canonical" in name or "bit 63" in name:
        row(f"write to {name}", lambda p, a=address: lambda: p.store(a, 0), "#13 error 0x0")
        row(f"read from {name}", lambda p, a=address: lambda: p.load(a), "#13 error 0x0")
    else:
        mapped = name == "the descriptor tables"  # for Xen, not for the guest
        row(f"write to {name}", lambda p, a=address: lambda: p.store(a, 0), f"#14 error {2 | mapped:#x}")
        row(f"read from {name}", lambda p, a=address: lambda: p.load(a), f"#14 error {0 | mapped:#x}")
        row(f"jump to {name}", lambda p, a=address: lambda: p.execute(a), f"#14 error {16 | mapped:#x}")
row("jump into the M2P", lambda p: lambda: p.execute(MACHPHYS), "#14 error 0x11")

# --- pinning garbage

row(
    "pin a page full of ones",
    extended(xen.MMUEXT_PIN_L1_TABLE, filled(*((i, lambda p: (1 << 64) - 1) for i in range(4)))),
    "-EINVAL",
)
for level in (2, 3, 4):
    row(
        f"pin an L{level} table with a page of data in it",
        extended(xen.MMUEXT_PIN_L1_TABLE + level - 1, filled((5, of_own(TABLE)))),
        "-EINVAL",
    )
    row(
        f"pin an L{level} table that holds itself, writable",
        extended(xen.MMUEXT_PIN_L1_TABLE + level - 1, filled((5, of_own(TABLE, page=2)))),
        "-EINVAL",
    )
row(
    "pin an L1 table that maps itself writable",
    extended(xen.MMUEXT_PIN_L1_TABLE, filled((5, of_own(KERNEL_PAGE, page=2)))),
    "-EBUSY",
)
row(
    "pin an L1 table that maps the L4 table writable",
    extended(xen.MMUEXT_PIN_L1_TABLE, filled((511, lambda p: p.table(4, p.page(1)) << 12 | RW | 1))),
    "-EBUSY",
)
row("pin a page that is mapped writable", extended(xen.MMUEXT_PIN_L1_TABLE, writable_page), "-EINVAL")
row("pin a frame of descriptors", extended(xen.MMUEXT_PIN_L1_TABLE, guest_gdt), "-EINVAL")
row("map a frame of descriptors writable", mapping(guest_gdt, KERNEL_PAGE), "-EBUSY")
row("pin twice", extended(xen.MMUEXT_PIN_L1_TABLE, pinned_l1), "-EINVAL")
row("pin as L2 what is pinned as L1", extended(xen.MMUEXT_PIN_L2_TABLE, pinned_l1), "-EINVAL")
row("map a pinned table writable", mapping(pinned_l1, KERNEL_PAGE), "-EBUSY")
row("unpin what is not pinned", extended(xen.MMUEXT_UNPIN_TABLE, writable_page), "-EINVAL")
row("unpin a table in use that is not pinned", extended(xen.MMUEXT_UNPIN_TABLE, table(2)), "-EINVAL")
row("pin another domain's L4 table", extended(xen.MMUEXT_PIN_L4_TABLE, foreign_table), "-EINVAL")
row("unpin another domain's L4 table", extended(xen.MMUEXT_UNPIN_TABLE, foreign_table), "-EINVAL")
row("run on another domain's L4 table", extended(xen.MMUEXT_NEW_BASEPTR, foreign_table), "-EINVAL")
row("user mode on another domain's L4 table", extended(xen.MMUEXT_NEW_USER_BASEPTR, foreign_table), "-EINVAL")
row("run on a page of data", extended(xen.MMUEXT_NEW_BASEPTR, writable_page), "-EINVAL")
row("user mode on a page of data", extended(xen.MMUEXT_NEW_USER_BASEPTR, writable_page), "-EINVAL")
for name, root in {
    "a page of data": writable_page,
    "another domain's L4 table": foreign_table,
    "frame 0": lambda p: 0,
}.items():
    row(f"mov to CR3 of {name}", on(root, lambda p, mfn: p.load_cr3(mfn << 12)), "#13 error 0x0")
row("a GDT with a system descriptor", on(filled((1, lambda p: 0x0000_8900_0000_0067)), load_gdt), "-EINVAL")
row("a GDT in a writable page", on(writable_page, load_gdt), "-EINVAL")

# --- behind the back of the checks: hv as the writer


for level in (1, 2, 3, 4):
    table_name = f"the L{level} table"
    row(
        f"let hv write a result into {table_name}",
        on(shown(level), lambda p, at: p.hypercall("xen_version", 1, at)),
        "-EFAULT",
    )
    row(
        f"let hv count its work in {table_name}",
        on(shown(level), lambda p, at: p.hypercall("mmu_update", b"", 0, at, DOMID_SELF)),
        "0",
    )
    if level > 1:  # a store to an L1 table is a request, of which Xen takes what is valid
        row(f"store to {table_name}", on(shown(level), lambda p, at: p.store(at, 0)), "#14 error 0x3")
        row(f"exchange with {table_name}", on(shown(level), lambda p, at: p.exchange(at, 0)), "#14 error 0x3")
row("store a bad entry to the L1 table", on(shown(1), lambda p, at: p.store(at, KERNEL_PAGE | PCD)), "#14 error 0x3")
row("let hv write into the M2P", lambda p: lambda: p.hypercall("xen_version", 1, MACHPHYS), "-EFAULT")
row(
    "let hv read the descriptor tables",
    lambda p: lambda: p.hypercall("mmu_update", 0xFFFF_8200_0000_0000, 1, 0, DOMID_SELF),
    "-EFAULT",
)
row(
    "let hv read the M2P as requests",
    lambda p: lambda: p.hypercall("mmu_update", MACHPHYS, 1, 0, DOMID_SELF),
    "-EFAULT",
)

# --- other domains by number

for call, request in {
    "mmu_update": lambda p: struct.pack("<2Q", p.slot(1, p.page(1)), p.mfn(p.page(1)) << 12 | KERNEL_PAGE),
    "mmuext_op": lambda p: struct.pack("<I4x2Q", xen.MMUEXT_UNPIN_TABLE, 0, 0),
}.items():

    def as_domain(p: Puppet, c: str, r: Callable[[Puppet], bytes], domain: int) -> Attack:
        return lambda: p.hypercall(c, r(p), 1, 0, domain)

    row(f"{call} for domain 0", lambda p, c=call, r=request: as_domain(p, c, r, 0), "-EPERM")
    row(f"{call} for another guest", lambda p, c=call, r=request: as_domain(p, c, r, other(p).domain.domid), "-EPERM")
    as_io = "0" if call == "mmu_update" else "-EPERM"  # the entry that is there stays
    row(f"{call} for DOMID_IO", lambda p, c=call, r=request: as_domain(p, c, r, xen.DOMID_IO), as_io)
    row(f"{call} for nobody", lambda p, c=call, r=request: as_domain(p, c, r, 999), "-ESRCH")
    row(f"{call} for its own number", lambda p, c=call, r=request: as_domain(p, c, r, p.domain.domid), "-ESRCH")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=known_bug(BUGS[name])) if name in BUGS else name for name in ROWS]
)
def test_attack(name: str) -> None:
    check(*ROWS[name])


def test_there_are_enough() -> None:
    assert len(ROWS) >= 60  # and test_attacks_in_steps.py has more


def test_hv_frames_are_where_the_attacks_aim() -> None:
    with hv.Machine() as machine:
        p = Puppet(machine)
        assert (
            struct.unpack_from("<Q", machine.engine.page(gdt_frame(p)), (0xE033 & 0xFFF) & ~7)[0] == 0x00AFFB000000FFFF
        )
        mfn = p.mfn(p.page(0))
        m2p = struct.unpack_from("<Q", machine.engine.ram, (m2p_frame(p) << 12) + 8 * mfn)[0]
        assert m2p == p.guest.pfn_of(mfn) == p.load(MACHPHYS + 8 * mfn)
