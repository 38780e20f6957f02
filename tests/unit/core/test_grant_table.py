"""Grant-table set-up and versions: growth, entry forms, status frames."""

from __future__ import annotations

import struct

import pytest

from hv.abi import grant_table as abi
from hv.core.grant_table import DEFAULT_MAX_FRAMES, PAGE, GrantTable


class Memory:
    """Frames numbered from 100 on."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}

    def xenheap_page(self) -> int:
        mfn = 100 + len(self.pages)
        self.pages[mfn] = bytearray(PAGE)
        return mfn

    def page(self, mfn: int) -> memoryview:
        return memoryview(self.pages[mfn])


def make() -> tuple[GrantTable, Memory]:
    memory = Memory()
    return GrantTable(memory, memory.page), memory


@pytest.mark.parametrize(
    ("count", "status", "frames"),
    [
        (0, abi.GNTST_okay, 1),
        (1, abi.GNTST_okay, 1),
        (4, abi.GNTST_okay, 4),
        (DEFAULT_MAX_FRAMES, abi.GNTST_okay, DEFAULT_MAX_FRAMES),
        (DEFAULT_MAX_FRAMES + 1, abi.GNTST_general_error, 1),
    ],
)
def test_growth(count: int, status: int, frames: int) -> None:
    table, _ = make()
    assert table.grow(count) == status
    assert len(table.mfns) == frames
    assert len(set(table.mfns)) == frames


def test_version_2_rewrites_the_reserved_entries_and_clears_the_rest() -> None:
    table, memory = make()
    first = memory.page(table.mfns[0])
    for i in range(16):
        struct.pack_into("<HHI", first, 8 * i, 1, 7, 0x1000 + i)
    table.set_version(2)
    assert table.version == 2
    assert [struct.unpack_from("<HH4xQ", first, 16 * i) for i in range(8)] == [(1, 7, 0x1000 + i) for i in range(8)]
    assert not any(first[8 * 16 :])
    table.set_version(1)
    assert [struct.unpack_from("<HHI", first, 8 * i) for i in range(8)] == [(1, 7, 0x1000 + i) for i in range(8)]
    assert not any(first[8 * 8 :])


@pytest.mark.parametrize(("frames", "status_frames"), [(1, 1), (8, 1), (9, 2), (64, 8)])
def test_status_frames_follow_the_table(frames: int, status_frames: int) -> None:
    table, _ = make()
    table.grow(frames)
    assert table.status_mfns == []
    table.set_version(2)
    assert len(table.status_mfns) == status_frames
    assert not set(table.status_mfns) & set(table.mfns)
