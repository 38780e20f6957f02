"""The LDT's pages: the CPU reads them only as checked descriptors, and a guest gets them back."""

from __future__ import annotations

import struct

import pytest
from guest_kit import KERNEL_PAGE, PAGE, Fault, Puppet, puppet

from hv.abi.xen import MMUEXT_SET_LDT

DATA = 0x00CF_9300_0000_FFFF
CALL_GATE_TO_XEN = 0x0000_EC00_E008_0000
LOAD_FS = bytes.fromhex("b80f0000008ee0c3")  # mov $0xf, %eax; mov %eax, %fs; ret: entry 1 of the LDT
GENERAL_PROTECTION, PAGE_FAULT = 13, 14


def ldt(p: Puppet, descriptor: int = DATA, pages: int = 1) -> int:
    """An LDT in the puppet's first pages; its frame. The pages are writable still."""
    p.guest.write(p.page(0), struct.pack("<QQ", 0, descriptor))
    assert p.mmuext(MMUEXT_SET_LDT, p.page(0), pages * 512) == 0
    return p.mfn(p.page(0))


def load(p: Puppet) -> None:
    p.execute(p.place(LOAD_FS))


def test_a_writable_page_is_no_ldt() -> None:
    """What the guest could still change must not be what the CPU reads: the fault is at the guest's own address."""
    with puppet() as p:
        ldt(p)
        with pytest.raises(Fault) as fault:
            load(p)
        assert (fault.value.vector, fault.value.address) == (PAGE_FAULT, p.page(0) + 8)


def test_a_page_is_checked_when_it_is_first_read() -> None:
    with puppet() as p:
        mfn = ldt(p)
        p.read_only(0)
        assert p.engine.frame(mfn)[1:3] == ("writable", 0)
        load(p)
        assert p.engine.frame(mfn)[1:3] == ("segdesc", 1)
        assert p.guest.registers()["fs"] == 0xF
        assert p.map(p.page(1), mfn, KERNEL_PAGE) == -16
        load(p)
        assert p.engine.frame(mfn)[1:3] == ("segdesc", 1)


def test_a_bad_gate_is_never_read() -> None:
    with puppet() as p:
        mfn = ldt(p, CALL_GATE_TO_XEN)
        p.guest.write(p.page(0) + 16, struct.pack("<Q", 0x0000_8900_0000_0067))  # a TSS
        p.read_only(0)
        with pytest.raises(Fault) as fault:
            load(p)
        assert fault.value.vector == PAGE_FAULT
        assert p.engine.frame(mfn)[1] != "segdesc"


def test_an_entry_behind_the_end() -> None:
    with puppet() as p:
        ldt(p)
        p.read_only(0)
        assert p.mmuext(MMUEXT_SET_LDT, p.page(0), 1) == 0
        with pytest.raises(Fault) as fault:
            load(p)
        assert (fault.value.vector, fault.value.error) == (GENERAL_PROTECTION, 0xC)


@pytest.mark.parametrize("how", ["none", "another", "new root"])
def test_the_guest_gets_the_page_back(how: str) -> None:
    with puppet() as p:
        mfn = ldt(p)
        p.read_only(0)
        load(p)
        assert p.engine.frame(mfn)[2] == 1
        if how == "none":
            assert p.mmuext(MMUEXT_SET_LDT, 0, 0) == 0
        elif how == "another":
            assert p.mmuext(MMUEXT_SET_LDT, p.page(2), 512) == 0
        else:
            old, new = p.table(4, p.page(0)), p.mfn(p.page(6))
            p.load_cr3(old << 12)
            assert p.map(p.page(0), 0, 0) == 0
            assert p.engine.frame(mfn)[2] == 1  # neither the same root nor an unmapping makes the CPU forget
            p.guest.write(p.page(6), bytes(p.engine.page(old)))
            p.read_only(6)
            p.load_cr3(new << 12)
        assert p.engine.frame(mfn)[2] == 0
        assert p.map(p.page(1), mfn, KERNEL_PAGE) == 0
        p.store(p.page(1) + 8, 0)
        with pytest.raises(Fault):
            load(p)
        assert p.alive


def test_an_ldt_of_several_pages() -> None:
    with puppet() as p:
        ldt(p, pages=3)
        p.guest.write(p.page(2), struct.pack("<Q", DATA))
        for index in (0, 2):
            p.read_only(index)
        load(p)
        assert p.engine.frame(p.mfn(p.page(2)))[1] == "writable"  # not read yet
        selector = 2 * PAGE | 7
        p.execute(p.place(b"\xb8" + struct.pack("<I", selector) + LOAD_FS[5:]))
        assert p.guest.registers()["fs"] == selector
        assert [p.engine.frame(p.mfn(p.page(i)))[1] for i in (0, 1, 2)] == ["segdesc", "writable", "segdesc"]


def test_a_gdt_entry_that_is_not_there() -> None:
    """A descriptor that the CPU cannot read is #GP with its selector, not a page fault in Xen's range."""
    with puppet() as p:
        with pytest.raises(Fault) as fault:
            p.execute(p.place(b"\xb8\x43\x10\x00\x00" + LOAD_FS[5:]))
        assert (fault.value.vector, fault.value.error) == (GENERAL_PROTECTION, 0x1040)
