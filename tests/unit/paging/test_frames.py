"""What happens to a frame over time: freed while mapped, given to another domain, changing its type, mapped often.

A stale translation is the danger: the TLB may know more than the page tables say.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from guest_kit import (
    ACCESSED,
    DIRTY,
    GLOBAL,
    KERNEL_PAGE,
    MACHPHYS,
    NX,
    PRESENT,
    READ_ONLY,
    RW,
    TABLE,
    USER,
    Fault,
    Puppet,
    error_name,
    puppet,
)

from hv.abi import memory, xen
from hv.abi.xen import DOMID_SELF

GUEST_KERNEL = 1 << 52
SECRET = 0x5EC4E7


def release(p: Puppet, mfn: int) -> int:
    """decrease_reservation of one frame."""
    reservation = struct.pack("<QQIIH6x", p.place(struct.pack("<Q", mfn)), 1, 0, 0, DOMID_SELF)
    return p.hypercall("memory_op", memory.XENMEM_decrease_reservation, reservation)


def populate(p: Puppet, pfn: int) -> int:
    """populate_physmap of one frame; its mfn."""
    extents = p.place(struct.pack("<Q", pfn))
    reservation = struct.pack("<QQIIH6x", extents, 1, 0, 0, DOMID_SELF)
    assert p.hypercall("memory_op", memory.XENMEM_populate_physmap, reservation) == 1
    return int.from_bytes(p.guest.read(extents, 8), "little")


def by_va(p: Puppet, index: int) -> None:
    """Unmap with the flush of update_va_mapping."""
    assert p.hypercall("update_va_mapping", p.page(index), 0, xen.UVMF_INVLPG) == 0


def by_va_without_flush(p: Puppet, index: int) -> None:
    assert p.hypercall("update_va_mapping", p.page(index), 0, xen.UVMF_NONE) == 0


def by_entry(p: Puppet, index: int) -> None:
    """Unmap by mmu_update, which flushes nothing for L1 entries."""
    assert p.mmu_update(p.slot(1, p.page(index)), 0) == 0


UNMAP = (by_va, by_va_without_flush, by_entry)


def test_a_mapped_frame_is_freed_with_its_last_mapping() -> None:
    """decrease_reservation succeeds, the guest goes on using the page, nobody else gets it."""
    with puppet() as p:
        mfn = p.mfn(p.page(1))
        assert p.map(p.page(2), mfn, READ_ONLY) == 0
        p.store(p.page(1), SECRET)
        pages = p.guest.nr_pages
        assert release(p, mfn) == 1
        assert p.guest.nr_pages == pages  # it counts as long as it is in use
        assert p.engine.frame(mfn)[:4] == (p.domain.domid, "writable", 1, 2)
        q = Puppet(p.machine)
        p.store(p.page(1), SECRET + 1)
        assert p.load(p.page(2)) == SECRET + 1
        assert p.engine.frame(mfn)[0] == p.domain.domid
        by_va(p, 1)
        assert p.engine.frame(mfn)[:4] == (p.domain.domid, "writable", 0, 1)
        assert p.load(p.page(2)) == SECRET + 1
        by_va(p, 2)
        assert p.engine.frame(mfn) == (None, "none", 0, 0, False)
        assert not any(p.engine.page(mfn))
        assert release(p, mfn) == 0  # it is not the guest's any more
        assert p.alive
        assert q.alive


@pytest.mark.parametrize("unmap", UNMAP, ids=lambda how: how.__name__)
def test_a_freed_frame_is_out_of_reach(unmap: Callable[[Puppet, int], None]) -> None:
    """However it was unmapped: the TLB had a writable entry for it, another domain has the frame now."""
    with puppet() as p:
        mfn = p.mfn(p.page(1))
        p.store(p.page(1), SECRET)
        unmap(p, 1)
        assert release(p, mfn) == 1
        q = Puppet(p.machine, name="heir")
        assert p.engine.frame(mfn)[0] == q.domain.domid
        content = bytes(p.engine.page(mfn))
        for attempt in (lambda: p.load(p.page(1)), lambda: p.store(p.page(1), 1), lambda: p.execute(p.page(1))):
            with pytest.raises(Fault) as fault:
                attempt()
            assert (fault.value.vector, fault.value.address) == (14, p.page(1))
        assert bytes(p.engine.page(mfn)) == content


@pytest.mark.parametrize("unmap", UNMAP, ids=lambda how: how.__name__)
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_no_stale_write_reaches_a_new_page_table(unmap: Callable[[Puppet, int], None], level: int) -> None:
    """Write (the TLB learns the page), unmap, pin as a table, write again: it must fault."""
    with puppet() as p:
        mfn = p.mfn(p.page(1))
        p.store(p.page(1), 0)
        unmap(p, 1)
        assert p.mmuext(xen.MMUEXT_PIN_L1_TABLE + level - 1, mfn) == 0
        with pytest.raises(Fault):
            p.store(p.page(1), KERNEL_PAGE)
        assert not any(p.engine.page(mfn)) or level == 4
        assert p.engine.frame(mfn)[1:] == (f"l{level}", 1, 2, True)


def test_no_stale_write_reaches_descriptors() -> None:
    with puppet() as p:
        mfn = p.mfn(p.page(1))
        p.store(p.page(1), 0)
        by_entry(p, 1)
        assert p.hypercall("set_gdt", struct.pack("<Q", mfn), 512) == 0
        with pytest.raises(Fault):
            p.store(p.page(1), 0x0000_8900_0000_0067)


def test_no_stale_write_through_a_table_that_was_unlinked() -> None:
    """Clearing an L2 entry takes 512 mappings away; the frames under it are freed with it."""
    with puppet() as p:
        table = p.mfn(p.page(2))
        data = p.mfn(p.page(3))
        p.store(p.page(2), data << 12 | KERNEL_PAGE)
        by_va(p, 3)
        assert p.map(p.page(2), table, READ_ONLY) == 0
        far = p.page(0) & ~((1 << 30) - 1) | 0x2000_0000  # the same L3 table, another 2 MiB
        slot = p.slot(2, p.page(0)) & ~0xFFF | (far >> 21 & 511) * 8
        assert p.mmu_update(slot, table << 12 | TABLE) == 0
        p.store(far, SECRET)
        assert p.mmu_update(slot, 0) == 0
        with pytest.raises(Fault):
            p.store(far, SECRET + 1)
        assert release(p, data) == 1
        assert p.engine.frame(data) == (None, "none", 0, 0, False)


def test_freed_frames_come_back_empty() -> None:
    with puppet() as p:
        for index in range(8):
            p.store(p.page(index), SECRET)
        frames = [p.mfn(p.page(index)) for index in range(8)]
        for index, mfn in enumerate(frames):
            by_va(p, index)
            assert release(p, mfn) == 1
        again = []
        for index in range(8):
            mfn = populate(p, 100 + index)
            again.append(mfn)
            assert p.load(MACHPHYS + 8 * mfn) == 100 + index
            assert p.map(p.page(index), mfn) == 0
            assert not any(p.engine.page(mfn))
        assert set(again) == set(frames)


def test_a_frame_can_not_be_freed_twice() -> None:
    with puppet() as p:
        mfn = p.mfn(p.page(1))
        pages = p.guest.nr_pages
        assert release(p, mfn) == 1
        for _ in range(3):
            assert release(p, mfn) == 1  # Xen counts it, and nothing else happens while it is mapped
        assert p.guest.nr_pages == pages
        assert p.load(p.page(1)) == 0
        assert p.engine.frame(mfn)[:4] == (p.domain.domid, "writable", 1, 1)
        by_va(p, 1)
        assert p.guest.nr_pages == pages - 1


def test_freed_page_tables_stay_until_they_are_unlinked() -> None:
    """The L1 table that maps the very code that runs: given back, it goes on working."""
    with puppet() as p:
        table = p.table(1, p.page(0))
        assert release(p, table) == 1
        assert p.engine.frame(table)[0] == p.domain.domid
        assert p.engine.frame(table)[1] == "l1"
        assert p.alive
        p.store(p.page(1), SECRET)
        assert p.load(p.page(1)) == SECRET
    with puppet() as p:
        root = p.table(4, p.page(0))
        assert release(p, root) == 1
        assert p.mmuext(xen.MMUEXT_UNPIN_TABLE, root) == 0
        assert p.engine.frame(root)[0:2] == (p.domain.domid, "l4")
        assert p.alive


def test_hv_pages_are_not_the_guests_to_free() -> None:
    """shared_info is mapped by the guest, but never its own to give away."""
    with puppet() as p:
        shared = p.guest.shared_mfn
        assert release(p, shared) == 1  # it counts, and the page stays
        assert p.guest.shared_mfn == shared and p.engine.frame(shared)[0] == p.domain.domid
        assert p.mmuext(xen.MMUEXT_PIN_L1_TABLE, shared) == error_of("-EINVAL")
        assert p.alive


def error_of(name: str) -> int:
    return next(-number for number in range(1, 200) if error_name(-number) == name)


@pytest.mark.parametrize(("given", "read_back"), [
    (PRESENT | RW, PRESENT | RW | USER | GUEST_KERNEL),
    (PRESENT, PRESENT | USER | GUEST_KERNEL),
    (PRESENT | RW | USER, PRESENT | RW | USER | GLOBAL),
    (PRESENT | USER | GUEST_KERNEL, PRESENT | USER | GUEST_KERNEL),
    (PRESENT | GLOBAL, PRESENT | GLOBAL | USER | GUEST_KERNEL),
    (PRESENT | NX | 0xE00, PRESENT | NX | 0xE00 | USER | GUEST_KERNEL),
    (PRESENT | 1 << 58, PRESENT | 1 << 58 | USER | GUEST_KERNEL),
    (0, 0),
    (RW | 0xFF8 & ~PRESENT, RW | 0xFF8 & ~PRESENT),
])  # fmt: skip
def test_l1_entries_read_back_adjusted(given: int, read_back: int) -> None:
    """adjust_guest_l1e: the kernel of a PV guest runs in ring 3, bit 52 says that an entry was the kernel's."""
    with puppet() as p:
        mfn, where = p.mfn(p.page(2)), p.slot(1, p.page(1))  # a look at an entry would set its accessed bit
        for write in (lambda: p.map(p.page(1), mfn, given), lambda: p.mmu_update(where, mfn << 12 | given)):
            assert p.map(p.page(1), p.mfn(p.page(3))) == 0
            assert write() == 0
            assert struct.unpack_from("<Q", p.engine.ram, where)[0] == mfn << 12 | read_back


@pytest.mark.parametrize("level", [2, 3, 4])
def test_links_read_back_adjusted(level: int) -> None:
    with puppet() as p:
        mfn = p.read_only(2)
        assert p.mmuext(xen.MMUEXT_PIN_L1_TABLE + level - 2, mfn) == 0
        slot = p.slot(level, p.page(0)) & ~0xFFF | 8
        assert p.mmu_update(slot, mfn << 12 | PRESENT) == 0
        entry = struct.unpack_from("<Q", p.engine.ram, slot)[0]
        assert entry == mfn << 12 | PRESENT | USER | (ACCESSED if level == 4 else 0)
        assert p.engine.frame(mfn)[2:4] == (2, 4)  # pinned and linked; mapped read-only, and the guest's own


def test_preserve_ad() -> None:
    """Accessed and dirty bits survive MMU_PT_UPDATE_PRESERVE_AD, and no other update."""
    with puppet() as p:
        mfn, slot = p.mfn(p.page(1)), p.slot(1, p.page(1))
        p.store(p.page(1), 1)
        assert p.mmu_update(slot | xen.MMU_PT_UPDATE_PRESERVE_AD, mfn << 12 | PRESENT | RW) == 0
        assert struct.unpack_from("<Q", p.engine.ram, slot)[0] & (ACCESSED | DIRTY) == ACCESSED | DIRTY
        assert p.mmu_update(slot, mfn << 12 | PRESENT | RW) == 0
        assert struct.unpack_from("<Q", p.engine.ram, slot)[0] & (ACCESSED | DIRTY) == 0


def test_a_frame_mapped_many_times() -> None:
    """References are counted, not remembered: a hundred mappings, each taken away again."""
    with puppet() as p:
        mfn, slot = p.mfn(p.page(0)), p.slot(1, p.page(0))
        free = p.slot(1, p.page(31)) + 8 * 40  # entries of the same table behind the arena: unused memory
        places = [free + 8 * i for i in range(100) if (free + 8 * i) >> 12 == slot >> 12]
        assert len(places) > 50
        updates = b"".join(
            struct.pack("<2Q", place, mfn << 12 | (KERNEL_PAGE if i % 2 else READ_ONLY))
            for i, place in enumerate(places)
        )
        before = p.engine.frame(mfn)
        kept = [struct.unpack_from("<Q", p.engine.ram, place)[0] for place in places]
        assert p.hypercall("mmu_update", updates, len(places), 0, DOMID_SELF) == 0
        assert p.engine.frame(mfn)[2:4] == (before[2] + len(places) // 2, before[3] + len(places))
        undo = b"".join(struct.pack("<2Q", place, value) for place, value in zip(places, kept, strict=True))
        assert p.hypercall("mmu_update", undo, len(places), 0, DOMID_SELF) == 0
        assert p.engine.frame(mfn) == before


def test_an_update_that_fails_in_the_middle_says_how_far_it_came() -> None:
    with puppet() as p:
        slot, mfn = p.slot(1, p.page(1)), p.mfn(p.page(2))
        updates = struct.pack("<6Q", slot, mfn << 12 | KERNEL_PAGE, slot + 8, 0x18, slot + 16, mfn << 12 | KERNEL_PAGE)
        done = p.place(struct.pack("<I", 99))
        kept = p.leaf(p.page(3))
        assert (
            error_name(
                p.hypercall(
                    "mmu_update", updates[:24] + struct.pack("<Q", PRESENT | 8) + updates[32:], 3, done, DOMID_SELF
                )
            )
            == "-EINVAL"
        )
        assert p.guest.read(done, 4) == struct.pack("<I", 1)
        assert p.mfn(p.page(1)) == mfn
        assert p.leaf(p.page(3)) == kept


def test_long_updates_are_continued() -> None:
    """More elements than hv does at a time: all are done, and counted once."""
    with puppet() as p:
        count = 3000
        slot, mfn = p.slot(1, p.page(1)), p.mfn(p.page(1))
        element = struct.pack("<2Q", slot, mfn << 12 | KERNEL_PAGE)
        updates = p.place(element * count)
        done = p.place(bytes(4))
        for calls in (count, 0, 1):
            assert p.hypercall("mmu_update", updates, calls, done, DOMID_SELF) == 0
            assert p.guest.read(done, 4) == struct.pack("<I", calls)
        flushes = p.place(struct.pack("<I4x2Q", xen.MMUEXT_TLB_FLUSH_LOCAL, 0, 0) * 300)
        assert p.hypercall("mmuext_op", flushes, 300, done, DOMID_SELF) == 0
        assert p.guest.read(done, 4) == struct.pack("<I", 300)


def test_user_root_and_kernel_root_hold_references() -> None:
    with puppet() as p:
        root = p.table(4, p.page(0))
        before = p.engine.frame(root)
        assert p.mmuext(xen.MMUEXT_NEW_USER_BASEPTR, root) == 0
        assert p.engine.frame(root)[2:4] == (before[2] + 1, before[3] + 1)
        assert p.mmuext(xen.MMUEXT_NEW_USER_BASEPTR, root) == 0  # again: nothing
        assert p.engine.frame(root)[2:4] == (before[2] + 1, before[3] + 1)
        assert p.mmuext(xen.MMUEXT_NEW_USER_BASEPTR, 0) == 0
        assert p.engine.frame(root) == before
        assert p.mmuext(xen.MMUEXT_NEW_BASEPTR, root) == 0
        p.load_cr3(root << 12)
        assert p.engine.frame(root) == before


def test_another_root_of_its_own() -> None:
    """A copy of the L4 table is a good root; the old one stays pinned, and they can be exchanged at will."""
    with puppet() as p:
        old = p.table(4, p.page(0))
        p.guest.write(p.page(2), bytes(p.engine.page(old)))
        new = p.read_only(2)
        assert p.mmuext(xen.MMUEXT_NEW_BASEPTR, new) == 0
        assert p.engine.frame(new)[1:3] == ("l4", 1)
        assert p.engine.frame(old)[1:5] == ("l4", 1, 2 + 1, True)
        assert p.alive
        p.load_cr3(old << 12)
        assert p.engine.frame(new)[2] == 0
        assert p.alive


def test_recursive_l4_entry() -> None:
    """A read-only link of a table into itself holds no reference; pages of it can be read through, never written."""
    with puppet() as p:
        root = p.table(4, p.page(0))
        before = p.engine.frame(root)
        slot = (root << 12) + 8 * 300
        assert p.mmu_update(slot, root << 12 | PRESENT | USER) == 0
        assert p.engine.frame(root) == before
        window = 0xFFFF_0000_0000_0000 | 300 << 39 | 300 << 30 | 300 << 21 | 300 << 12
        assert p.load(window + 8 * 300) & ~0xFFF == root << 12
        with pytest.raises(Fault) as fault:
            p.store(window, 0)
        assert fault.value.vector == 14
        assert error_name(p.mmu_update(slot, root << 12 | TABLE)) == "-EINVAL"
        assert p.mmu_update(slot, 0) == 0
        assert p.engine.frame(root) == before


def test_machphys_update_of_its_own_frame() -> None:
    with puppet() as p:
        mfn = p.mfn(p.page(1))
        assert p.mmu_update(mfn << 12 | xen.MMU_MACHPHYS_UPDATE, 0x4321) == 0
        assert p.load(MACHPHYS + 8 * mfn) == 0x4321
        assert p.guest.pfn_of(mfn) == 0x4321


def test_plain_write_by_mmu_update() -> None:
    """A frame that is no page table is just memory: 8 bytes, wherever."""
    with puppet() as p:
        mfn = p.mfn(p.page(1))
        assert p.mmu_update(mfn << 12 | 0xFF8, SECRET) == 0
        assert p.load(p.page(1) + 0xFF8) == SECRET
        before = p.engine.frame(mfn)
        assert p.mmu_update(mfn << 12 | xen.MMU_PT_UPDATE_PRESERVE_AD, SECRET) == 0
        assert p.load(p.page(1)) == SECRET
        assert p.engine.frame(mfn) == before


@pytest.mark.parametrize("command", [4, 5, 6, 7])
def test_unknown_mmu_update_commands(command: int) -> None:
    with puppet() as p:
        assert error_name(p.mmu_update(p.slot(1, p.page(1)) | command, 0)) == "-ENOSYS"
        assert p.load(p.page(1)) == 0
