"""The table itself: growth, status frames, versions, what a change of them keeps, and transfers that succeed."""

from __future__ import annotations

import struct

import pytest
from grant_kit import ACCESS, HOST, READ_ONLY, Party, copy_op, frame, granted, parties
from guest_kit import KERNEL_PAGE, error_name

import hv
from hv.abi import grant_table as abi
from hv.abi.xen import DOMID_SELF


def frames_of(party: Party, command: int, count: int) -> tuple[int, list[int]]:
    """setup_table or get_status_frames: (status, frames)."""
    to = party.place(bytes(8 * 64))
    layout = "<HxxIh6xQ" if command == abi.GNTTABOP_setup_table else "<IHh8xQ"
    argument = struct.pack("<HxxIh6xQ", DOMID_SELF, count, 77, to)
    if command == abi.GNTTABOP_get_status_frames:
        argument = struct.pack("<IHhQ", count, DOMID_SELF, 77, to)
        layout = "<IHhQ"
    _, data = party.operate(command, argument)
    status = struct.unpack(layout, data)[2]
    return status, list(struct.unpack(f"<{count}Q", party.guest.read(to, 8 * count))) if count <= 64 else []


@pytest.mark.parametrize(
    ("count", "status", "frames"), [(0, 0, 1), (1, 0, 1), (4, 0, 4), (64, 0, 64), (65, abi.GNTST_general_error, 1)]
)
def test_growth(count: int, status: int, frames: int) -> None:
    with parties(1) as (a,):
        assert frames_of(a, abi.GNTTABOP_setup_table, count)[0] == status
        mfns = a.domain.grants.mfns
        assert (len(mfns), len(set(mfns))) == (frames, frames)


@pytest.mark.parametrize(("frames", "status_frames"), [(1, 1), (8, 1), (9, 2), (64, 8)])
def test_status_frames_follow_the_table(frames: int, status_frames: int) -> None:
    with parties(1) as (a,):
        frames_of(a, abi.GNTTABOP_setup_table, frames)
        assert frames_of(a, abi.GNTTABOP_get_status_frames, 1)[0] == abi.GNTST_general_error
        assert a.version(2) == 0
        status, mfns = frames_of(a, abi.GNTTABOP_get_status_frames, status_frames)
        assert (status, mfns) == (0, a.domain.grants.status_mfns)
        assert frames_of(a, abi.GNTTABOP_get_status_frames, status_frames + 1)[0] == abi.GNTST_general_error
        assert not set(mfns) & set(a.domain.grants.mfns)


def test_versions_keep_the_toolstacks_entries_only() -> None:
    with parties() as (a, b):
        for ref in range(16):
            a.grant(ref, b.domid, 0x1000 + ref, READ_ONLY)
        assert a.version(2) == 0
        rows = {row.ref: (row.domid, row.frame, row.readonly) for row in a.domain.grants}
        assert rows == {ref: (b.domid, 0x1000 + ref, True) for ref in range(8)}
        assert a.version(1) == 0
        assert {row.ref: (row.domid, row.frame, row.readonly) for row in a.domain.grants} == rows
        assert [error_name(a.version(version)) for version in (0, 3, 1)] == ["-EINVAL", "-EINVAL", 0]


def test_a_reserved_entry_stays_in_use_over_a_change() -> None:
    with parties() as (a, b):
        a.grant_page(2, b)
        _, handle, _ = b.map_grant(a, 2, b.page(1))
        assert (a.version(2), a.noted(2)) == (0, "rw")
        assert (a.version(1), a.noted(2)) == (0, "rw")
        assert (b.unmap_grant(handle, b.page(1)), a.noted(2)) == ("okay", "")


@pytest.mark.parametrize(
    ("entry", "answer"),
    [
        (struct.pack("<HHIQ", ACCESS, 0, 0, 1 << 32), "-ERANGE"),
        (struct.pack("<HHHHI4x", abi.GTF_transitive, 0, 0, 0, 0), "-ERANGE"),
        (struct.pack("<HHIQ", abi.GTF_accept_transfer, 0, 0, 1), 0),
    ],
)
def test_what_version_1_can_not_express(entry: bytes, answer: int | str) -> None:
    with parties(1) as (a,):
        a.version(2)
        a.entry(3, entry)
        assert error_name(a.version(1)) == answer
        assert a.domain.grants.version == (1 if answer == 0 else 2)


def test_status_frames_that_are_mapped_keep_version_2() -> None:
    with parties(1) as (a,):
        a.version(2)
        assert a.map(a.page(0), a.domain.grants.status_mfns[0], KERNEL_PAGE) == 0
        assert error_name(a.version(1)) == "-EBUSY"
        a.map(a.page(0), 0, 0)
        assert a.version(1) == 0


def test_version_2_may_be_forbidden() -> None:
    with hv.Machine() as machine:
        a = Party(machine, max_grant_version=1)
        assert error_name(a.version(2)) == "-ENOSYS"


@pytest.mark.parametrize("version", [1, 2])
def test_a_transfer_moves_the_page_with_its_contents(version: int) -> None:
    with parties() as (a, b):
        b.version(version)
        b.grant(8, a.domid, 0x777, abi.GTF_accept_transfer)
        mfn = a.mfn(a.page(5))
        a.guest.write(a.page(5), b"moved")
        a.map(a.page(5), 0, 0)
        b.domain.guest.max_pages += 1
        before = a.guest.nr_pages, b.guest.nr_pages
        assert a.transfer(mfn, b.domid, 8) == "okay"
        assert (a.guest.nr_pages, b.guest.nr_pages) == (before[0] - 1, before[1] + 1)
        assert b.flags(8) == abi.GTF_accept_transfer | abi.GTF_transfer_committed | abi.GTF_transfer_completed
        assert (b.engine.frame(mfn)[0], b.guest.pfn_of(mfn)) == (b.domid, 0x777)
        assert b.map(b.page(1), mfn) == 0
        assert b.guest.read(b.page(1), 5) == b"moved"


def test_swapped_entries() -> None:
    with parties() as (a, b):
        mfn = a.grant_page(8, b)
        assert a.swap(8, 20) == "okay"
        assert [(row.ref, row.frame) for row in a.domain.grants if row.ref >= 8] == [(20, mfn)]
        assert b.map_grant(a, 20, b.page(1), HOST)[0] == "okay"


def test_a_batch_of_copies_about_one_page_looks_it_up_once() -> None:
    """And goes on behind a failure."""
    with parties() as (a, b):
        a.grant_page(8, b)
        a.guest.write(a.page(0), bytes(range(256)))
        mine = b.mfn(b.page(0))
        operations = [copy_op(granted(8, a.domid, 16 * i), frame(mine, 16 * (15 - i)), 16) for i in range(16)]
        operations.insert(7, copy_op(granted(9, a.domid), frame(mine)))
        assert b.copy(*operations) == ["okay"] * 7 + ["general_error"] + ["okay"] * 9
        assert b.guest.read(b.page(0), 256) == b"".join(bytes(range(16 * i, 16 * i + 16)) for i in reversed(range(16)))
        assert a.noted(8) == ""
