"""Nobody maps, reads or writes what was not granted to it: a table of attacks, and what Xen answers.

In each row `a` has something, `b` wants it, and `c` is a third domain. A row is a function of the three that returns
what the attack got; behind every row all three still answer, and nothing of `a` has changed or is held.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from grant_kit import ACCESS, DEVICE, HOST, PTE, READ_ONLY, RO, Party, copy_op, frame, granted, parties
from guest_kit import KERNEL_PAGE, NX, PAGE, UNMAPPED, Fault, error_name
from recount import wrong_counts

from hv.abi import grant_table as abi
from hv.abi import xen
from hv.abi.xen import DOMID_SELF, MMUEXT_PIN_L1_TABLE

SECRET = 0x5EC2E7
XEN_ADDRESS = 0xFFFF_8300_0000_0000
Attack = Callable[[Party, Party, Party], Any]
ATTACKS: list[tuple[str, Attack, Any]] = []


def attack(expected: Any) -> Callable[[Attack], Attack]:
    def note(function: Attack) -> Attack:
        ATTACKS.append((function.__name__, function, expected))
        return function

    return note


def faults(function: Callable[[], Any]) -> bool:
    try:
        function()
    except Fault:
        return True
    return False


# --- mapping what is not granted ----------------------------------------------------------------------------------


@attack("general_error")
def map_an_empty_entry(a: Party, b: Party, c: Party) -> str:
    return b.map_grant(a, 9, b.page(1))[0]


@attack("general_error")
def map_a_grant_to_another(a: Party, b: Party, c: Party) -> str:
    a.grant_page(8, c)
    return b.map_grant(a, 8, b.page(1))[0]


@attack("general_error")
def map_a_read_only_grant_for_writing(a: Party, b: Party, c: Party) -> str:
    a.grant_page(8, b, flags=READ_ONLY)
    return b.map_grant(a, 8, b.page(1))[0]


@attack("bad_gntref")
def map_behind_the_table(a: Party, b: Party, c: Party) -> str:
    return b.map_grant(a, 512, b.page(1))[0]


@attack("bad_gntref")
def map_far_behind_the_table(a: Party, b: Party, c: Party) -> str:
    return b.map_grant(a, 0xFFFF_FFFF, b.page(1))[0]


@attack("bad_gntref")
def map_for_nothing(a: Party, b: Party, c: Party) -> str:
    a.grant_page(8, b)
    return b.map_grant(a, 8, b.page(1), 0)[0]


@attack(["bad_domain"] * 4)
def map_from_nobody(a: Party, b: Party, c: Party) -> list[str]:
    return [b.map_grant(domid, 8, b.page(1))[0] for domid in (99, DOMID_SELF, xen.DOMID_XEN, xen.DOMID_IO)]


@attack("general_error")
def map_from_domain_0(a: Party, b: Party, c: Party) -> str:
    return b.map_grant(0, 8, b.page(1))[0]


@attack("general_error")
def map_an_offer_to_accept_a_transfer(a: Party, b: Party, c: Party) -> str:
    a.grant_page(8, b, flags=abi.GTF_accept_transfer)
    return b.map_grant(a, 8, b.page(1))[0]


@attack(["general_error", "general_error"])
def map_parts_and_transitive_grants(a: Party, b: Party, c: Party) -> list[str]:
    a.version(2)
    a.grant_part(8, b.domid, a.mfn(a.page(0)), 0, 64)
    a.grant_transitive(9, b.domid, c.domid, 8)
    return [b.map_grant(a, ref, b.page(1))[0] for ref in (8, 9)]


@attack("general_error")
def map_a_version_1_entry_with_the_bit_for_parts(a: Party, b: Party, c: Party) -> str:
    a.grant_page(8, b, flags=ACCESS | abi.GTF_sub_page)
    return b.map_grant(a, 8, b.page(1))[0]


# --- granting what one does not own -------------------------------------------------------------------------------


@attack("bad_page")
def grant_a_frame_of_another(a: Party, b: Party, c: Party) -> str:
    b.grant(8, c.domid, a.mfn(a.page(0)))
    return c.map_grant(b, 8, c.page(1))[0]


@attack(["bad_page"] * 5)
def grant_frames_of_nobody_and_of_hv(a: Party, b: Party, c: Party) -> list[str]:
    result = []
    for mfn in (0, 0xB8, 0x100, 0xFFFF_FFFF, a.engine.nr_frames):
        b.grant(8, c.domid, mfn & 0xFFFF_FFFF)
        result.append(c.map_grant(b, 8, c.page(1))[0])
    return result


@attack("bad_page")
def pass_a_mapped_frame_on(a: Party, b: Party, c: Party) -> str:
    mfn = a.grant_page(8, b)
    _, handle, _ = b.map_grant(a, 8, b.page(1))
    b.grant(8, c.domid, mfn)
    status = c.map_grant(b, 8, c.page(1))[0]
    b.unmap_grant(handle, b.page(1))
    return status


@attack(["general_error", "okay"])
def grant_a_page_table(a: Party, b: Party, c: Party) -> list[str]:
    b.grant(8, c.domid, b.table(1, b.page(0)))
    writable = c.map_grant(b, 8, c.page(1))[0]
    status, handle, _ = c.map_grant(b, 8, c.page(1), HOST | RO)
    c.unmap_grant(handle, c.page(1))
    return [writable, status]


@attack(-22)
def make_a_page_table_of_a_page_that_others_write(a: Party, b: Party, c: Party) -> int:
    b.grant_page(8, c, 3)
    _, handle, _ = c.map_grant(b, 8, c.page(1))
    mfn = b.mfn(b.page(3))
    b.map(b.page(3), 0, 0)
    result = b.mmuext(MMUEXT_PIN_L1_TABLE, mfn)
    c.unmap_grant(handle, c.page(1))
    return result


@attack((0, False))
def a_page_table_that_was_writable_through_a_stale_tlb(a: Party, b: Party, c: Party) -> tuple[int, bool]:
    """c maps, touches, overwrites its entry without a flush; then b makes a page table of the page."""
    b.grant_page(8, c, 3)
    c.map_grant(b, 8, c.page(1))
    c.store(c.page(1), 0)
    c.map(c.page(1), 0, 0, 0)
    mfn = b.mfn(b.page(3))
    b.map(b.page(3), 0, 0)
    result = b.mmuext(MMUEXT_PIN_L1_TABLE, mfn)
    return result, not faults(lambda: c.store(c.page(1), 7))


# --- page tables --------------------------------------------------------------------------------------------------


@attack("-EBUSY")
def map_a_foreign_frame_without_a_grant(a: Party, b: Party, c: Party) -> int | str:
    return error_name(b.map(b.page(1), a.mfn(a.page(0))))


@attack(["-EBUSY", "-EBUSY"])
def use_a_granted_frame_in_another_entry(a: Party, b: Party, c: Party) -> list[int | str]:
    mfn = a.grant_page(8, b)
    _, handle, _ = b.map_grant(a, 8, b.page(1))
    tries = [b.map(b.page(2), mfn), b.map(b.page(2), mfn, 0x21)]
    b.unmap_grant(handle, b.page(1))
    return [error_name(result) for result in tries]


@attack(("-EBUSY", True))
def make_a_read_only_mapping_writable(a: Party, b: Party, c: Party) -> tuple[int | str, bool]:
    mfn = a.grant_page(8, b, flags=READ_ONLY)
    _, handle, _ = b.map_grant(a, 8, b.page(1), HOST | RO)
    result = error_name(b.mmu_update(b.slot(1, b.page(1)), mfn << 12 | KERNEL_PAGE))
    stopped = faults(lambda: b.store(b.page(1), 1))
    b.unmap_grant(handle, b.page(1))
    return result, stopped


@attack(["-EINVAL"] * 4)
def make_page_tables_of_a_granted_frame(a: Party, b: Party, c: Party) -> list[int | str]:
    mfn = a.grant_page(8, b)
    _, handle, _ = b.map_grant(a, 8, b.page(1))
    tries = [error_name(b.mmuext(MMUEXT_PIN_L1_TABLE + i, mfn)) for i in range(4)]
    b.unmap_grant(handle, b.page(1))
    return tries


@attack([True, True])
def read_and_write_after_the_end(a: Party, b: Party, c: Party) -> list[bool]:
    a.grant_page(8, b)
    _, handle, _ = b.map_grant(a, 8, b.page(1))
    b.store(b.page(1) + 8, 1)
    b.unmap_grant(handle, b.page(1))
    return [faults(lambda: b.load(b.page(1))), faults(lambda: b.store(b.page(1) + 8, 2))]


@attack([True, True])
def read_and_write_after_the_end_by_entry(a: Party, b: Party, c: Party) -> list[bool]:
    a.grant_page(8, b)
    slot = b.slot(1, b.page(1))
    _, handle, _ = b.map_grant(a, 8, slot, HOST | PTE)
    b.store(b.page(1) + 8, 1)
    b.unmap_grant(handle, slot)
    return [faults(lambda: b.load(b.page(1))), faults(lambda: b.store(b.page(1) + 8, 2))]


@attack(["general_error"] * 6)
def map_into_what_is_no_page_table_of_ones_own(a: Party, b: Party, c: Party) -> list[str]:
    a.grant_page(8, b)
    where = [
        a.slot(1, a.page(1)),  # another's page table
        b.mfn(b.page(1)) << 12,  # data
        b.slot(2, b.page(1)),  # a table, of the wrong level
        b.slot(1, b.page(1)) + 4,
        a.engine.nr_frames << 12,
        0x100 << 12,  # hv's
    ]
    return [b.map_grant(a, 8, address, HOST | PTE)[0] for address in where]


@attack(["general_error"] * 5)
def map_at_addresses_that_have_no_entry(a: Party, b: Party, c: Party) -> list[str]:
    a.grant_page(8, b)
    where = (UNMAPPED, 0x8000_0000_0000, XEN_ADDRESS, 0xFFFF_8000_0000_0000, 0xFFFF_7FFF_FFFF_F000)
    return [b.map_grant(a, 8, address)[0] for address in where]


@attack((0, True))
def execute_from_a_mapping(a: Party, b: Party, c: Party) -> tuple[int, bool]:
    """It is made no-execute; the guest may take that away, and then runs what stands there now, not what once did."""
    a.grant_page(8, b)
    _, handle, _ = b.map_grant(a, 8, b.page(1))
    b.store(b.page(1) + 512, 0xC3_0000_0001_B8)  # mov $1, %eax; ret
    stopped = faults(lambda: b.execute(b.page(1) + 512))
    slot, entry = b.leaf(b.page(1))
    assert b.mmu_update(slot, entry & ~NX) == 0
    b.hypercall("mmuext_op", struct.pack("<I4x2Q", xen.MMUEXT_TLB_FLUSH_LOCAL, 0, 0), 1, 0, DOMID_SELF)
    first = b.execute(b.page(1) + 512)
    a.store(a.page(0) + 512, 0xC3_0000_0002_B8)
    second = b.execute(b.page(1) + 512)
    a.store(a.page(0) + 512, 0xC3_0000_0003_B8)
    third = b.execute(b.page(1) + 512)
    b.unmap_grant(handle, b.page(1))
    a.store(a.page(0) + 512, 0)
    return (first, second, third) != (1, 2, 3), stopped


# --- unmapping ----------------------------------------------------------------------------------------------------


@attack(["bad_handle"] * 3)
def unmap_handles_of_nobody(a: Party, b: Party, c: Party) -> list[str]:
    return [b.unmap_grant(handle, b.page(1)) for handle in (0, 255, 0xFFFF_FFFF)]


@attack("bad_handle")
def unmap_the_handle_of_another(a: Party, b: Party, c: Party) -> str:
    a.grant_page(8, b)
    _, handle, _ = b.map_grant(a, 8, b.page(1))
    status = c.unmap_grant(handle, b.page(1))
    b.unmap_grant(handle, b.page(1))
    return status


@attack("bad_handle")
def unmap_twice(a: Party, b: Party, c: Party) -> str:
    a.grant_page(8, b)
    _, handle, _ = b.map_grant(a, 8, b.page(1))
    b.unmap_grant(handle, b.page(1))
    return b.unmap_grant(handle, b.page(1))


@attack(("general_error", "general_error", "rw"))
def unmap_at_other_addresses(a: Party, b: Party, c: Party) -> tuple[str, str, str]:
    a.grant_page(8, b)
    _, handle, _ = b.map_grant(a, 8, b.page(1))
    result = b.unmap_grant(handle, b.page(2)), b.unmap_grant(handle, UNMAPPED), a.noted(8)
    b.unmap_grant(handle, b.page(1))
    return result


@attack("general_error")
def unmap_a_reader_where_a_writer_is(a: Party, b: Party, c: Party) -> str:
    a.grant_page(8, b)
    _, reader, _ = b.map_grant(a, 8, b.page(1), HOST | RO)
    _, writer, _ = b.map_grant(a, 8, b.page(2))
    status = b.unmap_grant(reader, b.page(2))
    b.unmap_grant(reader, b.page(1))
    b.unmap_grant(writer, b.page(2))
    return status


@attack("bad_dev_addr")
def unmap_another_device_address(a: Party, b: Party, c: Party) -> str:
    a.grant_page(8, b)
    _, handle, bus = b.map_grant(a, 8, 0, DEVICE)
    status = b.unmap_grant(handle, 0, bus + PAGE)
    b.unmap_grant(handle, 0, bus)
    return status


@attack("general_error")
def replace_by_entry(a: Party, b: Party, c: Party) -> str:
    a.grant_page(8, b)
    slot = b.slot(1, b.page(1))
    _, handle, _ = b.map_grant(a, 8, slot, HOST | PTE)
    status = b.replace(handle, slot, b.page(2))
    b.unmap_grant(handle, slot)
    return status


@attack(("general_error", None))
def replace_at_a_wrong_address_loses_the_new_one(a: Party, b: Party, c: Party) -> tuple[str, int | None]:
    a.grant_page(8, b)
    _, handle, _ = b.map_grant(a, 8, b.page(1))
    status = b.replace(handle, b.page(3), b.page(2))
    b.unmap_grant(handle, b.page(1))
    return status, b.mapped_at(b.page(2))


# --- revoking -----------------------------------------------------------------------------------------------------


@attack((False, SECRET))
def clear_and_rewrite_an_entry_in_use(a: Party, b: Party, c: Party) -> tuple[bool, int]:
    """The entry's new words count for nobody while the old grant is in use."""
    a.grant_page(8, b)
    _, handle, _ = b.map_grant(a, 8, b.page(1))
    revoked = a.revoke(8)
    a.grant(8, c.domid, a.mfn(a.page(4)))
    stolen = c.map_grant(a, 8, c.page(1))[0] == "okay"
    value = b.load(b.page(1))
    b.unmap_grant(handle, b.page(1))
    return revoked or stolen, value


@attack(("rw", "general_error"))
def make_an_entry_read_only_while_it_is_read(a: Party, b: Party, c: Party) -> tuple[str, str]:
    a.grant_page(8, b)
    _, reader, _ = b.map_grant(a, 8, b.page(1), HOST | RO)
    _, writer, _ = b.map_grant(a, 8, b.page(2))
    noted = a.noted(8)
    b.unmap_grant(writer, b.page(2))
    a.entry(8, struct.pack("<H", READ_ONLY | abi.GTF_reading))
    status = b.map_grant(a, 8, b.page(2))[0]
    b.unmap_grant(reader, b.page(1))
    return noted, status


@attack(-16)
def change_the_version_under_a_mapping(a: Party, b: Party, c: Party) -> int:
    a.grant_page(8, b)
    _, handle, _ = b.map_grant(a, 8, b.page(1))
    result = a.version(2)
    b.unmap_grant(handle, b.page(1))
    return result


@attack(("eagain", "bad_gntref", "okay"))
def swap_entries_in_use(a: Party, b: Party, c: Party) -> tuple[str, str, str]:
    a.grant_page(8, b)
    _, handle, _ = b.map_grant(a, 8, b.page(1))
    busy = a.swap(8, 9)
    b.unmap_grant(handle, b.page(1))
    return busy, a.swap(8, 512), a.swap(8, 9)


@attack((0, SECRET))
def give_a_mapped_page_back(a: Party, b: Party, c: Party) -> tuple[int, int]:
    """The frame stays until nobody maps it."""
    mfn = a.mfn(a.page(5))
    a.guest.write(a.page(5), struct.pack("<Q", SECRET))
    a.grant(8, b.domid, mfn)
    _, handle, _ = b.map_grant(a, 8, b.page(1))
    a.map(a.page(5), 0, 0)
    a.guest.release(mfn)
    c_frame = c.guest.populate(c.guest.nr_pages + 7)
    value = b.load(b.page(1))
    b.unmap_grant(handle, b.page(1))
    return int(c_frame == mfn), value


# --- copies -------------------------------------------------------------------------------------------------------


@attack(["general_error", "bad_gntref", "bad_domain", "permission_denied", "bad_page", "general_error"])
def copy_from_what_is_not_granted(a: Party, b: Party, c: Party) -> list[str]:
    a.grant_page(8, c)
    mine, theirs = b.mfn(b.page(0)), a.mfn(a.page(0))
    sources = (
        granted(8, a.domid),
        granted(512, a.domid),
        granted(8, 99),
        frame(theirs, domid=a.domid),
        frame(theirs),
        granted(9, a.domid),
    )
    return [b.copy(copy_op(source, frame(mine)))[0] for source in sources]


@attack(["general_error", "bad_page", "permission_denied", "general_error", "bad_page"])
def copy_to_what_is_not_granted(a: Party, b: Party, c: Party) -> list[str]:
    theirs = a.grant_page(8, b, flags=READ_ONLY)
    mine = frame(b.mfn(b.page(0)))
    dests = (
        granted(8, a.domid),
        frame(theirs),
        frame(theirs, domid=a.domid),
        frame(b.table(1, b.page(0))),  # a page table of its own
        frame(0x100),
    )
    return [b.copy(copy_op(mine, dest))[0] for dest in dests]


@attack(["bad_copy_arg", "bad_copy_arg", "bad_copy_arg"])
def copy_across_the_end_of_a_page(a: Party, b: Party, c: Party) -> list[str]:
    a.grant_page(8, b)
    mine = b.mfn(b.page(0))
    operations = (
        copy_op(granted(8, a.domid, 4095), frame(mine), 2),
        copy_op(granted(8, a.domid), frame(mine, 4096), 1),
        copy_op(granted(8, a.domid, 0xFFFF), frame(mine, 0xFFFF), 0xFFFF),
    )
    return [b.copy(operation)[0] for operation in operations]


@attack(["okay", "general_error", "general_error", "general_error"])
def copy_around_a_granted_part(a: Party, b: Party, c: Party) -> list[str]:
    a.version(2)
    a.grant_part(8, b.domid, a.mfn(a.page(0)), 64, 64)
    mine = frame(b.mfn(b.page(0)))
    parts = (64, 64), (63, 2), (127, 2), (0, 4096)
    return [b.copy(copy_op(granted(8, a.domid, offset), mine, length))[0] for offset, length in parts]


@attack(["okay", "general_error", "general_error", "general_error"])
def copy_through_transitive_grants(a: Party, b: Party, c: Party) -> list[str]:
    for party in (a, c):
        party.version(2)
    a.grant_page(8, c)
    c.grant_transitive(8, b.domid, a.domid, 8)
    c.grant_transitive(9, b.domid, c.domid, 8)  # to itself
    c.grant_transitive(10, b.domid, 99, 8)
    a.grant_transitive(9, c.domid, c.domid, 8)  # a second step
    c.grant_transitive(11, b.domid, a.domid, 9)
    mine = frame(b.mfn(b.page(0)))
    found = [b.copy(copy_op(granted(ref, c.domid), mine))[0] for ref in (8, 9, 10, 11)]
    assert b.load(b.page(0)) == SECRET
    return found


@attack(["okay", "okay", "okay"])
def copy_to_a_grant_whose_entry_names_another_frame_meanwhile(a: Party, b: Party, c: Party) -> list[str]:
    a.grant_page(8, b, 1)
    found, handle, _ = b.map_grant(a, 8, b.page(3), HOST | RO)
    a.grant(8, b.domid, a.mfn(a.page(2)))  # the reader keeps the frame that it has
    copied = b.copy(copy_op(frame(b.mfn(b.page(0))), granted(8, a.domid)))
    return [found, *copied, b.unmap_grant(handle, b.page(3))]


@attack("general_error")
def copy_by_a_transitive_grant_to_another(a: Party, b: Party, c: Party) -> str:
    c.version(2)
    a.version(2)
    a.grant_page(8, b)  # not to c, which offers it on
    c.grant_transitive(8, b.domid, a.domid, 8)
    return b.copy(copy_op(granted(8, c.domid), frame(b.mfn(b.page(0)))))[0]


# --- transfers ----------------------------------------------------------------------------------------------------


@attack(["bad_page"] * 4)
def transfer_what_can_not_go(a: Party, b: Party, c: Party) -> list[str]:
    a.grant(8, b.domid, 77, abi.GTF_accept_transfer)
    frames = (a.mfn(a.page(0)), b.mfn(b.page(0)), b.domain.grants.mfns[0], 0x7FFF_FFFF_FFFF)
    return [b.transfer(mfn, a.domid, 8) for mfn in frames]


@attack(["general_error"] * 3 + ["bad_domain"])
def transfer_to_who_does_not_want_it(a: Party, b: Party, c: Party) -> list[str]:
    """The page is gone in any case."""
    a.grant(8, c.domid, 77, abi.GTF_accept_transfer)
    found = []
    for i, (domid, ref) in enumerate(((a.domid, 8), (a.domid, 9), (a.domid, 4000), (99, 8))):
        mfn = b.mfn(b.page(8 + i))
        b.map(b.page(8 + i), 0, 0)
        found.append(b.transfer(mfn, domid, ref))
        assert b.engine.frame(mfn)[0] is None
    return found


# --- cache, sizes, arguments --------------------------------------------------------------------------------------


@attack(["-EINVAL", "-EPERM", "-EINVAL", "-EINVAL", "-EINVAL"])
def flush_caches_of_others(a: Party, b: Party, c: Party) -> list[int | str]:
    a.grant_page(8, c)
    theirs = a.mfn(a.page(0)) << 12
    return [
        error_name(result)
        for result in (
            b.cache_flush(theirs),
            b.cache_flush(0x80 << 12),
            b.cache_flush(b.mfn(b.page(0)) << 12, 4000, 200),
            b.cache_flush(b.mfn(b.page(0)) << 12, op=abi.GNTTAB_CACHE_SOURCE_GREF),
            b.cache_flush(b.engine.nr_frames << 12),
        )
    ]


@attack(["permission_denied", "bad_domain", "permission_denied"])
def look_at_the_table_of_another(a: Party, b: Party, c: Party) -> list[str]:
    from grant_kit import status_name

    frames = b.place(bytes(64))
    found = []
    for domid in (a.domid, 99):
        _, data = b.operate(abi.GNTTABOP_setup_table, struct.pack("<HxxIh6xQ", domid, 1, 77, frames))
        found.append(status_name(struct.unpack_from("<h", data, 8)[0]))
    _, data = b.operate(abi.GNTTABOP_query_size, struct.pack("<HxxIIh2x", a.domid, 0, 0, 77))
    return [*found, status_name(struct.unpack_from("<h", data, 12)[0])]


@attack(["-EFAULT", "-EFAULT", "-EINVAL", "-EINVAL", "-ENOSYS"])
def hand_over_bad_arguments(a: Party, b: Party, c: Party) -> list[int | str]:
    calls = (
        (abi.GNTTABOP_map_grant_ref, UNMAPPED, 1),
        (abi.GNTTABOP_copy, XEN_ADDRESS, 0),
        (abi.GNTTABOP_copy, b.page(0), 0x8000_0000),
        (abi.GNTTABOP_copy | 0x1000, b.page(0), 1),
        (99, b.page(0), 1),
    )
    return [error_name(b.hypercall("grant_table_op", *call)) for call in calls]


@pytest.mark.parametrize(("name", "function", "expected"), ATTACKS, ids=[row[0] for row in ATTACKS])
def test_attack(name: str, function: Attack, expected: Any) -> None:
    with parties(3) as (a, b, c):
        a.guest.write(a.page(0), struct.pack("<Q", SECRET))
        assert function(a, b, c) == expected
        for party in (a, b, c):
            assert party.alive, party.domain.name
        assert a.load(a.page(0)) == SECRET
        assert b.guest.foreign_frames() == c.guest.foreign_frames() == {}
        if "stale_tlb" not in name:  # there c has lost its entry, and with it the way to give back
            assert [row for party in (a, b, c) for row in party.domain.grants if row.user] == []
        assert wrong_counts(a.domain.machine) == []


def test_there_are_enough_rows() -> None:
    assert len(ATTACKS) >= 40
