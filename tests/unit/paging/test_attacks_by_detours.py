"""Attacks on memory by detours: answers aimed at tables, linear maps, roots that were dropped, aliases of code.

Each ends with the guest alive, every table as it was or as Xen has it, and all references of the machine as they can be
counted from outside. Sources: Xen 4.17 arch/x86/mm.c, common/memory.c (memory_exchange).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from attack_kit import guest_gdt, pinned_l1, table
from guest_kit import KERNEL_PAGE, PAGE, READ_ONLY, TABLE, Fault, Puppet, error_name, puppet
from recount import wrong_counts

from hv.abi import memory, xen
from hv.abi.xen import DOMID_SELF

LINEAR = TABLE & ~2
SLOT = 300
VICTIMS: dict[str, Callable[[Puppet], int]] = {
    **{f"the L{k} table": table(k) for k in (1, 2, 3, 4)},
    "a pinned table": pinned_l1,
    "a GDT": guest_gdt,
}


def exchange(p: Puppet, out: int) -> int:
    mfn = p.mfn(p.page(7))
    assert p.map(p.page(7), 0, 0) == 0
    given = p.place(struct.pack("<Q", mfn))
    halves = b"".join(struct.pack("<QQIIH6x", at, 1, 0, 0, DOMID_SELF) for at in (given, out))
    return p.hypercall("memory_op", memory.XENMEM_exchange, halves + bytes(8))


def reservation(command: int) -> Callable[[Puppet, int], int]:
    return lambda p, out: p.hypercall("memory_op", command, struct.pack("<QQIIH6x", out, 1, 0, 0, DOMID_SELF))


ANSWERS: dict[str, Callable[[Puppet, int], int]] = {
    "exchange": exchange,
    "increase": reservation(memory.XENMEM_increase_reservation),
    "populate": reservation(memory.XENMEM_populate_physmap),
    "machphys mapping": lambda p, out: p.hypercall("memory_op", memory.XENMEM_machphys_mapping, out),
    "version": lambda p, out: p.hypercall("xen_version", 1, out),
    "a multicall's result": lambda p, out: p.hypercall("multicall", out, 1),
    "a count of updates": lambda p, out: p.hypercall("mmu_update", 0, 0, out, DOMID_SELF),
    "a count of operations": lambda p, out: p.hypercall("mmuext_op", 0, 0, out, DOMID_SELF),
    "a port": lambda p, out: p.hypercall("event_channel_op", 6, out),
}


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("call", ANSWERS)
def test_no_answer_goes_into_a_table(victim: str, call: str) -> None:
    with puppet() as p:
        mfn = VICTIMS[victim](p)
        assert p.map(p.page(6), mfn, READ_ONLY) == 0
        at = p.page(6) + 8 * 500
        word = p.load(at)
        ANSWERS[call](p, at)
        assert p.load(at) == word
        assert not wrong_counts(p.machine)
        assert p.alive


def linear_address(level: int, own: int) -> int:
    """An address through slot 300 of the table of that level, which shows the table: it ends one level early."""
    slots = [own >> 12 + 9 * (k - 1) & 511 for k in (4, 3, 2, 1)]
    slots.insert(4 - level, SLOT)
    address = sum(slot << 12 + 9 * (3 - i) for i, slot in enumerate(slots[:4]))
    return address | (0xFFFF << 48 if address >> 47 else 0)


@pytest.mark.parametrize("level", [2, 3, 4])
def test_a_linear_map_is_only_for_looking(level: int) -> None:
    """The entry of the L1 table that maps a page, seen through the tables' own map of themselves."""
    with puppet() as p:
        assert p.hypercall("vm_assist", xen.VMASST_CMD_enable, xen.VMASST_TYPE_writable_pagetables) == 0
        mfn = p.table(level, p.page(1))
        slot = (mfn << 12) + 8 * SLOT
        assert error_name(p.mmu_update(slot, mfn << 12 | TABLE)) == "-EINVAL"
        assert p.mmu_update(slot, mfn << 12 | LINEAR) == 0
        at = linear_address(level, p.page(1)) + (p.page(1) >> 12 & 511) * 8
        before = p.leaf(p.page(1))[1]
        assert p.load(at) == before
        for write in (lambda: p.store(at, 0), lambda: p.exchange(at, 0)):
            with pytest.raises(Fault, match="vector 14, error 0x3"):
                write()
        assert error_name(p.hypercall("xen_version", 1, at)) == "-EFAULT"
        assert p.leaf(p.page(1))[1] == before
        assert error_name(p.map(at & ~0xFFF, p.mfn(p.page(4)), KERNEL_PAGE)) == "-EINVAL"  # its L1 is none
        assert p.mmu_update(slot, 0) == 0
        with pytest.raises(Fault, match="vector 14, error 0x0"):
            p.load(at)  # gone at once: Xen flushes after changes above L1
        assert not wrong_counts(p.machine)
        assert p.alive


def test_a_root_in_use_stays_one_whatever_is_given_up() -> None:
    with puppet() as p:
        root = p.read_only(2)
        assert p.mmuext(xen.MMUEXT_PIN_L4_TABLE, root) == 0
        assert p.mmuext(xen.MMUEXT_NEW_USER_BASEPTR, root) == 0
        assert p.mmuext(xen.MMUEXT_UNPIN_TABLE, root) == 0
        given = struct.pack("<QQIIH6x", p.place(struct.pack("<Q", root)), 1, 0, 0, DOMID_SELF)
        assert p.hypercall("memory_op", memory.XENMEM_decrease_reservation, given) == 1
        assert p.map(p.page(2), 0, 0) == 0
        for page in (2, 3):
            assert error_name(p.map(p.page(page), root, KERNEL_PAGE)) == "-EBUSY"
        assert error_name(p.mmuext(xen.MMUEXT_PIN_L1_TABLE, root)) == "-EINVAL"
        assert p.engine.frame(root)[:3] == (p.domain.domid, "l4", 1)
        assert p.mmuext(xen.MMUEXT_NEW_USER_BASEPTR, 0) == 0
        assert p.engine.frame(root)[0] is None
        assert not wrong_counts(p.machine)
        assert p.alive


def returning(value: int) -> int:
    """nop; mov $value, %eax; ret: a word that is no present descriptor and no present entry."""
    return 0x90 | 0xB8 << 8 | value << 16 | 0xC3 << 48


ALIASES: dict[str, Callable[[Puppet, int], object]] = {
    "its own store": lambda p, mfn: p.store(p.page(4), returning(2)),
    "its own exchange": lambda p, mfn: p.exchange(p.page(4), returning(2)),
    "mmu_update": lambda p, mfn: p.mmu_update(mfn << 12, returning(2)),
    "a copied page": lambda p, mfn: (
        p.store(p.page(5), returning(2)),
        p.mmuext(xen.MMUEXT_COPY_PAGE, mfn, p.mfn(p.page(5))),
    ),
    "update_descriptor": lambda p, mfn: p.hypercall("update_descriptor", mfn << 12, returning(2)),
    "hv's own write": lambda p, mfn: p.guest.write(p.page(4), struct.pack("<Q", returning(2))),
}


@pytest.mark.parametrize("alias", ALIASES)
def test_code_is_what_was_written_through_an_alias(alias: str) -> None:
    """Page 3 runs; page 4 shows the same frame, writable."""
    with puppet() as p:
        mfn = p.mfn(p.page(3))
        assert p.map(p.page(4), mfn, KERNEL_PAGE) == 0
        for _ in range(3):
            p.store(p.page(4), returning(1))
            assert p.execute(p.page(3)) == 1
            ALIASES[alias](p, mfn)
            assert p.execute(p.page(3)) == 2
        assert p.alive


def test_a_page_of_code_becomes_a_table_and_code_again() -> None:
    with puppet() as p:
        p.store(p.page(3), returning(1))
        assert p.execute(p.page(3)) == 1
        mfn = p.mfn(p.page(3))
        for i in range(0, PAGE, 8):
            p.guest.write(p.page(3) + i, bytes(8))
        assert p.map(p.page(3), mfn, READ_ONLY) == 0
        assert p.mmuext(xen.MMUEXT_PIN_L1_TABLE, mfn) == 0
        assert p.mmu_update(mfn << 12, returning(2)) == 0  # not present: Xen takes it
        assert p.execute(p.page(3)) == 2
        assert p.mmuext(xen.MMUEXT_UNPIN_TABLE, mfn) == 0
        assert p.map(p.page(3), mfn, KERNEL_PAGE) == 0
        p.store(p.page(3), returning(3))
        assert p.execute(p.page(3)) == 3
