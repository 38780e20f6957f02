"""What rows of attacks on memory are made of: frames that are not the guest's, its tables, and the check of a row.

A row prepares something legal and returns the attack. `check` has it end with the given result (an errno, or the
exception that the CPU raises); the guest must be alive, and no frame of the machine may have another owner, type or
count, and no page table another entry than before (accessed and dirty bits excepted).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from guest_kit import ACCESSED, ADDRESS, DIRTY, MACHPHYS, PAGE, READ_ONLY, Fault, Puppet, error_name, puppet

from hv.abi import xen

Attack = Callable[[], object]
NO_SUCH_FRAME = ADDRESS >> 12


def m2p_frame(p: Puppet) -> int:
    """The first frame of hv's machine-to-physical table."""
    return p.mfn(MACHPHYS)


def gdt_frame(p: Puppet) -> int:
    """hv's page of flat descriptors stands behind the table."""
    return m2p_frame(p) + -(-p.engine.nr_frames * 8 // PAGE)


def free_frame(p: Puppet) -> int:
    return next(mfn for mfn in range(p.engine.nr_frames - 1, 0, -1) if p.engine.frame(mfn)[0] is None)


def other(p: Puppet) -> Puppet:
    """A second domain on the machine."""
    return Puppet(p.machine)


def foreign(p: Puppet) -> int:
    q = other(p)
    return q.mfn(q.page(0))


FRAMES: dict[str, Callable[[Puppet], int]] = {
    "frame 0": lambda p: 0,
    "a frame of the M2P": m2p_frame,
    "the last frame of the M2P": lambda p: gdt_frame(p) - 1,
    "the frame with hv's descriptors": gdt_frame,
    "a free frame": free_frame,
    "another domain's page": foreign,
    "the first frame beyond RAM": lambda p: p.engine.nr_frames,
    "a frame far beyond RAM": lambda p: 1 << 39,
    "no frame at all": lambda p: NO_SUCH_FRAME,
}


def on(make: Callable[[Puppet], int], act: Callable[[Puppet, int], object]) -> Callable[[Puppet], Attack]:
    """Prepare something, a frame or an address, and act on it."""

    def prepare(p: Puppet) -> Attack:
        made = make(p)
        return lambda: act(p, made)

    return prepare


def own_entry(level: int, flags: int) -> Callable[[Puppet], int]:
    """The entry that is there, with further flags."""
    return lambda p: int.from_bytes(bytes(p.engine.ram[p.slot(level, p.page(1)) :][:8]), "little") | flags


def of_own(flags: int, page: int = 3) -> Callable[[Puppet], int]:
    return lambda p: p.mfn(p.page(page)) << 12 | flags


def writable_page(p: Puppet) -> int:
    return p.mfn(p.page(4))


def table(level: int) -> Callable[[Puppet], int]:
    return lambda p: p.table(level, p.page(1))


def pinned_l1(p: Puppet) -> int:
    mfn = p.read_only(2)
    assert p.mmuext(xen.MMUEXT_PIN_L1_TABLE, mfn) == 0
    return mfn


def guest_gdt(p: Puppet) -> int:
    """A frame of descriptors in use."""
    mfn = p.read_only(5)
    assert p.hypercall("set_gdt", struct.pack("<Q", mfn), 512) == 0
    return mfn


def shown(level: int) -> Callable[[Puppet], int]:
    """The table of that level mapped read-only; its address."""

    def prepare(p: Puppet) -> int:
        assert p.map(p.page(6), p.table(level, p.page(1)), READ_ONLY) == 0
        return p.page(6)

    return prepare


def fact(p: Puppet, mfn: int) -> tuple[object, ...]:
    """Of one frame; without references a type says nothing."""
    owner, kind, type_count, count, pinned = p.engine.frame(mfn)
    return owner, kind if type_count else "", type_count, count, pinned


def facts(p: Puppet) -> tuple[dict[int, object], dict[int, bytes]]:
    """Owner, type and counts of every frame in use, and hv's own; the entries of every table without A and D."""
    engine = p.engine
    top = max(domain.guest.shared_mfn for domain in p.machine.domains) + 8192
    used = {mfn: fact(p, mfn) for mfn in range(gdt_frame(p) + 1, min(top, engine.nr_frames))}
    used = {mfn: fact for mfn, fact in used.items() if fact[0] is not None}
    used |= {mfn: fact(p, mfn) for mfn in (0, m2p_frame(p), gdt_frame(p) - 1, gdt_frame(p))}
    keep = (1 << 64) - 1 - ACCESSED - DIRTY
    tables = {
        mfn: bytes(struct.pack("<512Q", *(value & keep for value in struct.unpack("<512Q", engine.page(mfn)))))
        for mfn, fact in used.items()
        if fact[1] in ("l1", "l2", "l3", "l4")
    }
    return used, tables


def check(prepare: Callable[[Puppet], Attack], expected: str) -> None:
    """The attack of a row ends as expected, and has changed nothing."""
    with puppet() as p:
        attack = prepare(p)
        m2p = bytes(p.engine.page(m2p_frame(p))), bytes(p.engine.page(gdt_frame(p)))
        before = facts(p)
        try:
            result = str(error_name(int(attack() or 0)))
        except Fault as fault:
            result = f"#{fault.vector} error {fault.error:#x}"
        assert result == expected
        assert facts(p) == before
        assert m2p == (bytes(p.engine.page(m2p_frame(p))), bytes(p.engine.page(gdt_frame(p))))
        assert p.alive
        assert [domain.reason for domain in p.machine.domains] == ["running"] * len(p.machine.domains)
