"""Mapping granted pages: the same memory on both sides, references, notes in the entry, and the end of it."""

from __future__ import annotations

import struct

import pytest
from grant_kit import DEVICE, HOST, PTE, READ_ONLY, RO, Party, parties
from guest_kit import ACCESSED, DIRTY, NX, PAGE, PRESENT, RW, USER, Fault

from hv.abi import grant_table as abi

GUEST_KERNEL = 1 << 52


@pytest.mark.parametrize("version", [1, 2])
def test_a_granted_page_is_the_same_memory(version: int) -> None:
    with parties() as (a, b):
        assert a.version(version) == 0
        mfn = a.grant_page(8, b)
        a.store(a.page(0), 0x1111)
        status, handle, bus = b.map_grant(a, 8, b.page(1))
        assert (status, bus) == ("okay", mfn << 12)
        assert b.load(b.page(1)) == 0x1111
        b.store(b.page(1), 0x2222)
        assert a.load(a.page(0)) == 0x2222
        assert (a.noted(8), a.revoke(8)) == ("rw", False)
        assert b.unmap_grant(handle, b.page(1)) == "okay"
        assert (a.noted(8), a.revoke(8)) == ("", True)
        with pytest.raises(Fault):
            b.load(b.page(1))
        assert a.engine.frame(mfn)[2:4] == (1, 2)  # as before: one mapping, and its owner's own reference


@pytest.mark.parametrize("version", [1, 2])
def test_read_only(version: int) -> None:
    with parties() as (a, b):
        a.version(version)
        a.grant_page(8, b, flags=READ_ONLY)
        assert b.map_grant(a, 8, b.page(1))[0] == "general_error"
        assert a.noted(8) == ""
        status, handle, _ = b.map_grant(a, 8, b.page(1), HOST | RO)
        assert (status, a.noted(8)) == ("okay", "r")
        b.load(b.page(1))
        with pytest.raises(Fault):
            b.store(b.page(1), 1)
        assert b.unmap_grant(handle, b.page(1)) == "okay"


def test_the_entry_that_a_mapping_makes() -> None:
    with parties() as (a, b):
        mfn = a.grant_page(8, b)
        common = mfn << 12 | PRESENT | USER | ACCESSED | DIRTY | NX
        for flags, entry in (
            (HOST, common | RW | GUEST_KERNEL),
            (HOST | RO, common | GUEST_KERNEL),
            (HOST | abi.GNTMAP_application_map, common | RW | 0x100),
            (HOST | 5 << 16, common | RW | GUEST_KERNEL | 5 << 9),
        ):
            _, handle, _ = b.map_grant(a, 8, b.page(1), flags)
            assert b.leaf(b.page(1))[1] == entry
            assert b.unmap_grant(handle, b.page(1)) == "okay"
            assert b.leaf(b.page(1))[1] == 0


def test_by_page_table_entry() -> None:
    with parties() as (a, b):
        mfn = a.grant_page(8, b)
        where, _ = b.leaf(b.page(1))
        status, handle, _ = b.map_grant(a, 8, where, HOST | PTE)
        assert (status, b.mapped_at(b.page(1))) == ("okay", mfn)
        assert b.unmap_grant(handle, where) == "okay"
        assert b.mapped_at(b.page(1)) is None


def test_device_and_host_mappings_end_apart() -> None:
    with parties() as (a, b):
        mfn = a.grant_page(8, b)
        _, handle, bus = b.map_grant(a, 8, b.page(1), HOST | DEVICE)
        assert a.engine.frame(mfn)[2:4] == (3, 4)
        assert b.unmap_grant(handle, 0, bus + PAGE) == "bad_dev_addr"
        assert b.unmap_grant(handle, b.page(1)) == "okay"
        assert a.noted(8) == "rw"
        assert b.unmap_grant(handle, 0, bus) == "okay"
        assert (a.noted(8), b.unmap_grant(handle, 0, bus)) == ("", "bad_handle")
        assert a.engine.frame(mfn)[2:4] == (1, 2)


def test_replace_moves_a_mapping_of_its_own_there() -> None:
    with parties() as (a, b):
        a.grant_page(8, b)
        own = b.mfn(b.page(2))
        _, handle, _ = b.map_grant(a, 8, b.page(1))
        assert b.replace(handle, b.page(1), b.page(2)) == "okay"
        assert (b.mapped_at(b.page(1)), b.mapped_at(b.page(2))) == (own, None)
        assert (a.noted(8), b.guest.foreign_frames()) == ("", {})


def test_uses_add_up_and_readers_outlast_writers() -> None:
    with parties() as (a, b):
        mfn = a.grant_page(8, b)
        _, one, _ = b.map_grant(a, 8, b.page(1), HOST | RO)
        _, two, _ = b.map_grant(a, 8, b.page(2))
        _, three, _ = b.map_grant(a, 8, b.page(3))
        assert a.noted(8) == "rw"
        assert b.guest.foreign_frames() == {mfn: (1, 2, 0, 0)}
        assert b.unmap_grant(two, b.page(2)) == "okay"
        assert a.noted(8) == "rw"
        assert b.unmap_grant(three, b.page(3)) == "okay"
        assert a.noted(8) == "r"
        assert b.unmap_grant(one, b.page(1)) == "okay"
        assert (a.noted(8), b.guest.foreign_frames()) == ("", {})


def test_an_entry_overwritten_by_the_mapper_stays_in_use_but_holds_nothing() -> None:
    with parties() as (a, b):
        mfn = a.grant_page(8, b)
        own = b.mfn(b.page(2))
        _, handle, _ = b.map_grant(a, 8, b.page(1))
        assert b.map(b.page(1), own) == 0
        assert a.engine.frame(mfn)[2:4] == (1, 2)
        assert b.guest.foreign_frames() == {}
        assert (a.noted(8), b.unmap_grant(handle, b.page(1))) == ("rw", "general_error")


def test_several_in_one_call_fail_one_by_one() -> None:
    with parties() as (a, b):
        for i in range(4):
            a.grant_page(8 + i, b, i)
        operations = [
            struct.pack("<QIIHhIQ", b.page(i), HOST, ref, a.domid, 0, 0, 0) for i, ref in enumerate((8, 9, 100, 11))
        ]
        result, data = b.operate(abi.GNTTABOP_map_grant_ref, b"".join(operations), 4)
        assert result == 0
        assert [struct.unpack_from("<h", data, 32 * i + 18)[0] for i in range(4)] == [0, 0, -1, 0]


def test_handles_are_used_again_in_order_and_are_limited() -> None:
    with parties(1) as (a,):
        c = Party(a.machine, name="c", max_maptrack_frames=1)
        handles = []
        for i in range(256):
            a.grant_page(8 + i // 100, c)
            status, handle, _ = c.map_grant(a, 8 + i // 100, c.page(0), HOST | RO)
            handles.append(handle)
        assert (status, handles) == ("no_space", [*range(255), 0])
        # what is mapped at the address matches any of the handles of that grant
        assert c.unmap_grant(250, c.page(0)) == "okay"
        assert c.map_grant(a, 8, c.page(0), HOST | RO)[:2] == ("okay", 255)  # the last free one is kept back
        assert c.map_grant(a, 8, c.page(1), HOST | RO)[0] == "no_space"


def test_a_counter_of_uses_has_an_end() -> None:
    with parties() as (a, b):
        a.grant_page(8, b)
        found = [b.map_grant(a, 8, b.page(0), HOST | RO)[0] for _ in range(129)]
        assert found == ["okay"] * 128 + ["general_error"]


def test_the_mapper_dies() -> None:
    with parties() as (a, b):
        mfn = a.grant_page(8, b)
        b.map_grant(a, 8, b.page(1))
        b.map_grant(a, 8, b.page(2), HOST | DEVICE | RO)
        b.domain.destroy()
        assert (a.noted(8), a.engine.frame(mfn)[2:4]) == ("", (1, 2))


def test_the_granter_dies_and_its_page_lives_on_until_it_is_unmapped() -> None:
    with parties() as (a, b):
        mfn = a.grant_page(8, b)
        a.store(a.page(0), 0x1234)
        domid = a.domid
        _, one, _ = b.map_grant(a, 8, b.page(1))
        _, two, _ = b.map_grant(a, 8, b.page(2), HOST | RO)
        a.domain.destroy()
        assert b.load(b.page(1)) == 0x1234
        b.store(b.page(1), 0x4321)
        assert b.load(b.page(2)) == 0x4321
        assert b.engine.frame(mfn)[0] == domid
        assert b.unmap_grant(one, b.page(1)) == "okay"
        assert b.unmap_grant(two, b.page(2)) == "okay"
        assert b.engine.frame(mfn)[0] is None
        assert b.map_grant(domid, 8, b.page(1))[0] == "bad_domain"


def test_a_handle_without_entry_and_granter_is_the_mappers_end() -> None:
    with parties() as (a, b):
        a.grant_page(8, b)
        _, handle, _ = b.map_grant(a, 8, b.page(1))
        b.map(b.page(1), b.mfn(b.page(2)))
        a.domain.destroy()
        with pytest.raises(AssertionError):
            b.unmap_grant(handle, b.page(1))
        assert b.domain.ended and "no longer exists" in b.domain.reason
