"""Symbols for people, and the table that BSD kernels are given."""

from __future__ import annotations

import io
import struct

import pytest
from elftools.elf.elffile import ELFFile

from hv.builder import image
from hv.builder.image import Image
from hv.builder.symbols import SymbolTable

from .elf_writer import (
    BSD_SYMTAB,
    PV,
    SHT_STRTAB,
    SHT_SYMTAB,
    Load,
    Section,
    Writer,
    notes,
    symbol_table,
)

ABS = 0xFFF1
ROWS = (
    ("main", 0x12, 1, 0x100004, 8),
    ("start", 0x10, 1, 0x100000, 0),
    ("local", 0x02, 1, 0x100008, 2),
    ("data", 0x11, 2, 0x100010, 4),
    ("main", 0x12, 1, 0x100004, 8),
    ("file.c", 0x04, ABS, 0, 0),
    ("imported", 0x12, 0, 0, 0),
    ("NUMBER", 0x10, ABS, 42, 0),
    ("_end", 0x10, ABS, 0x100010, 0),
    ("", 0x03, 1, 0x100000, 0),
)
EXPECTED = [
    (0x100000, 0, "start"),
    (0x100004, 8, "main"),
    (0x100008, 2, "local"),
    (0x100010, 0, "_end"),
    (0x100010, 4, "data"),
]


def load(table: bytes, strings: bytes, link: int = 2, bsd: str = "no") -> Image:
    writer = Writer(
        loads=[Load(0x100000, b"\x90" * 13)],
        notes=[notes(*PV, (BSD_SYMTAB, bsd))],
        sections=[
            Section(".symtab", SHT_SYMTAB, table, link),
            Section(".strtab", SHT_STRTAB, strings),
        ],
    )
    return image.load(writer.bytes_(), "tiny")


def test_symbols() -> None:
    guest = load(*symbol_table(*ROWS))
    # _end lies behind the last byte of a segment of 13 bytes, so it is a mere number here.
    assert image.symbols(guest) == [row for row in EXPECTED if row[2] != "_end"]


def test_absolute_symbols_inside_the_image_count() -> None:
    rows = [(*row[:3], 0x10000D, row[4]) if row[0] == "_end" else row for row in ROWS]
    assert (0x10000D, 0, "_end") in image.symbols(load(*symbol_table(*rows)))


TABLE, STRINGS = symbol_table(*ROWS)
ODD = {
    "link nowhere": (TABLE, STRINGS, 9),
    "link to none": (TABLE, STRINGS, 0),
    "no rows": (b"", STRINGS, 2),
    "no strings": (TABLE, b"", 2),
    "a name without end": (symbol_table(("x" * 9, 0x12, 1, 1, 1))[0], b"\0xxx", 2),
}


@pytest.mark.parametrize(("table", "strings", "link"), ODD.values(), ids=ODD)
def test_odd_tables_have_no_symbols(table: bytes, strings: bytes, link: int) -> None:
    assert image.symbols(load(table, strings, link)) == []


def test_rest_of_a_row_is_ignored() -> None:
    assert len(image.symbols(load(TABLE + b"\1\2\3", STRINGS))) == len(EXPECTED) - 1


def test_bsd_symbols_stand_behind_the_kernel() -> None:
    guest = load(TABLE, STRINGS, bsd="yes")
    area = bytes(guest.segments[-1].data)
    assert guest.segments[-1].vaddr == 0x100010  # 13 bytes of kernel, rounded up to 8
    assert guest.end == 0x100010 + len(area) and len(area) % 8 == 0
    (size,) = struct.unpack_from("<I", area)
    theirs = ELFFile(io.BytesIO(area[4 : 4 + size]))
    sections = list(theirs.iter_sections())
    assert [s["sh_type"] for s in sections] == ["SHT_NULL", "SHT_SYMTAB", "SHT_STRTAB"]
    assert (sections[1].data(), sections[2].data()) == (TABLE, STRINGS)
    assert sections[1]["sh_link"] == 2
    assert area[4:20] == guest.elf[:16]


def test_bsd_guest_without_symbols() -> None:
    guest = load(TABLE, STRINGS, link=9, bsd="yes")
    assert guest.bsd_symtab and guest.end == 0x10000D and len(guest.segments) == 1


def test_names_of_addresses() -> None:
    found = [(0x1000, 0, "_text"), (0x1000, 0x10, "start"), (0x1010, 8, "small"), (0x1100, 0, "label")]
    table = SymbolTable(found, end=0x2000)
    names = {
        0xFFF: None,
        0x1000: "start",  # the one that has a size
        0x100F: "start+0xf",
        0x1012: "small+0x2",
        0x1018: None,  # behind a symbol that has a size
        0x10FF: None,
        0x1100: "label",
        0x1FFF: "label+0xeff",  # as far as it may go
        0x2000: None,
        1 << 63: None,
    }
    assert {address: table.name(address) for address in names} == names
    assert SymbolTable([], end=0x2000).name(0x1000) is None
