"""Xen notes and the legacy string: tables of (what stands there, what is understood)."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from hv.builder import elf, elf_notes
from hv.errors import ImageError

from . import elf_writer as w

MAX = (1 << 64) - 1


def parse(*rows: w.Note) -> elf_notes.Parameters:
    return elf_notes.parse(elf.parse(w.Writer(notes=[w.notes(*rows)]).bytes_()))


def parse_legacy(text: str) -> elf_notes.Parameters:
    return elf_notes.parse(elf.parse(w.legacy(text)))


NOTES: list[tuple[w.Note, str, Any]] = [
    ((w.ENTRY, 0x1234), "entry", 0x1234),
    ((w.ENTRY, struct.pack("<I", 0x1234)), "entry", 0x1234),
    ((w.ENTRY, b"\x12\x34"), "entry", 0x3412),
    ((w.ENTRY, b"\x12"), "entry", 0x12),
    ((w.ENTRY, b"\x12\x34\x56"), "entry", 0),
    ((w.ENTRY, b""), "entry", 0),
    ((w.ENTRY, MAX), "entry", None),
    ((w.HYPERCALL_PAGE, 0x2000), "hypercall_page", 0x2000),
    ((w.VIRT_BASE, 0xFFFFFFFF80000000), "virt_base", 0xFFFFFFFF80000000),
    ((w.PADDR_OFFSET, 0), "paddr_offset", 0),
    ((w.XEN_VERSION, "xen-3.0"), "xen_version", "xen-3.0"),
    ((w.GUEST_OS, "linux"), "guest_os", "linux"),
    ((w.GUEST_OS, b"\xff\0"), "guest_os", "\ufffd"),
    ((w.GUEST_OS, b"x" * 5000 + b"\0"), "guest_os", ""),
    ((w.GUEST_VERSION, "2.6"), "guest_version", "2.6"),
    ((w.LOADER, "generic"), "loader", "generic"),
    ((w.FEATURES, "!writable_page_tables|x"), "features", "!writable_page_tables|x"),
    ((w.BSD_SYMTAB, "yes"), "bsd_symtab", True),
    ((w.BSD_SYMTAB, "no"), "bsd_symtab", False),
    ((w.HV_START_LOW, 0xFFFF800000000000), "hv_start_low", 0xFFFF800000000000),
    ((w.SUSPEND_CANCEL, 1), "suspend_cancel", True),
    ((w.SUSPEND_CANCEL, 0), "suspend_cancel", False),
    ((w.INIT_P2M, 1 << 39), "init_p2m", 1 << 39),
    ((w.MOD_START_PFN, b"\1"), "mod_start_pfn", True),
    ((w.SUPPORTED_FEATURES, b"\1\x88\0\0"), "supported_features", 0x8801),
    ((w.SUPPORTED_FEATURES, 0x100008801), "supported_features", 0x8801),
    ((w.SUPPORTED_FEATURES, b"\1\2"), "supported_features", 0),
    ((w.PHYS32_ENTRY, 0x100000), "phys32_entry", 0x100000),
    ((0, 1), "found", True),
    ((0x1000001, "x"), "found", True),
]


@pytest.mark.parametrize(("note", "field", "expected"), NOTES)
def test_note(note: w.Note, field: str, expected: Any) -> None:
    found = parse(note)
    assert getattr(found, field) == expected
    assert found.found and not found.legacy


def test_a_later_note_replaces_an_earlier_one() -> None:
    assert parse((w.ENTRY, 1), (w.GUEST_OS, "a"), (w.ENTRY, 2)).entry == 2


def test_an_unknown_required_feature_is_refused() -> None:
    with pytest.raises(ImageError, match="unknown feature 'flux'"):
        parse((w.FEATURES, "dom0|!flux"))


PT, SHT, LEGACY = w.notes((w.GUEST_OS, "pt")), w.notes((w.GUEST_OS, "sht")), b"GUEST_OS=legacy\0"
OTHER = w.notes((1, 5), owner=b"GNU\0")
SOURCES: list[tuple[list[bytes], list[bytes], bytes | None, str]] = [
    ([PT], [SHT], LEGACY, "pt"),
    ([OTHER, PT], [SHT], LEGACY, "pt"),
    ([OTHER + PT], [], None, "pt"),
    ([w.notes((0, 1))], [SHT], LEGACY, ""),  # any note of Xen's settles the source
    ([OTHER], [SHT], LEGACY, "sht"),
    ([], [OTHER, SHT], LEGACY, "sht"),
    ([OTHER], [OTHER], LEGACY, "legacy"),
    ([w.notes((w.GUEST_OS, "x"), owner=b"name\0")], [], LEGACY, "legacy"),
    ([w.notes((w.GUEST_OS, "x"), owner=b"Xenial\0")], [], LEGACY, "legacy"),
    ([PT[:-1]], [], LEGACY, "pt"),  # the padding of the last note may be missing
    ([PT[:12]], [], LEGACY, "legacy"),
    ([struct.pack("<III", MAX >> 32, MAX >> 32, 1) + PT], [], LEGACY, "pt"),  # lengths wrap to 0
    ([struct.pack("<III", 1 << 31, 4, 1) + PT], [], LEGACY, "legacy"),  # the rest is jumped over
]


@pytest.mark.parametrize(("segments", "sections", "string", "expected"), SOURCES)
def test_source(
    segments: list[bytes], sections: list[bytes], string: bytes | None, expected: str
) -> None:
    rows = [w.Section(".note", w.SHT_NOTE, data) for data in sections]
    if string is not None:
        rows.append(w.Section("__xen_guest", w.SHT_PROGBITS, string))
    found = elf_notes.parse(elf.parse(w.Writer(notes=segments, sections=rows).bytes_()))
    assert found.guest_os == expected
    assert found.legacy == (expected == "legacy")


MACH = (
    "GUEST_OS=GNU Mach,GUEST_VERSION=1.3,XEN_VER=xen-3.0,VIRT_BASE=0x40000000,"
    "ELF_PADDR_OFFSET=0x40000000,HYPERCALL_PAGE=0x2,LOADER=generic"
)
STRINGS: list[tuple[str, str, Any]] = [
    (MACH, "guest_os", "GNU Mach"),
    (MACH, "guest_version", ""),  # Xen reads GUEST_VER only
    (MACH, "xen_version", "xen-3.0"),
    (MACH, "virt_base", 0x40000000),
    (MACH, "paddr_offset", 0x40000000),
    (MACH, "hypercall_page", 0x40002000),
    (MACH, "loader", "generic"),
    (MACH, "entry", None),
    ("HYPERCALL_PAGE=2", "hypercall_page", 0x2000),
    ("HYPERCALL_PAGE=2,VIRT_BASE=0x10000", "hypercall_page", 0x12000),
    ("HYPERCALL_PAGE=1,VIRT_BASE=0xfffffffffffff000", "hypercall_page", 0),
    ("GUEST_VER=1.3,LOADER=x", "guest_version", "1.3"),
    ("VIRT_ENTRY=4096", "entry", 4096),
    ("VIRT_ENTRY=010", "entry", 8),
    ("VIRT_ENTRY= +0X1fz", "entry", 0x1F),
    ("VIRT_ENTRY=0x", "entry", 0),
    ("VIRT_ENTRY=-1", "entry", MAX),
    ("VIRT_ENTRY=99999999999999999999999", "entry", MAX),
    ("VIRT_ENTRY=x", "entry", 0),
    ("VIRT_ENTRY", "entry", 0),
    ("BSD_SYMTAB", "bsd_symtab", True),
    ("BSD_SYMTAB=yes", "bsd_symtab", True),
    ("FEATURES=dom0|x,LOADER=a", "loader", "a"),
    ("FEATURES=!flux,LOADER=a", "loader", ""),  # the parsing ends there, and nobody complains
    (",,LOADER=a=b,", "loader", "a=b"),
    ("A" * 31 + "LOADER=x", "loader", "x"),  # names have 31 characters, the rest is another one
    ("GUEST_OS=" + "v" * 130, "guest_os", "v" * 127),
    ("", "loader", ""),
]


@pytest.mark.parametrize(("text", "field", "expected"), STRINGS)
def test_legacy(text: str, field: str, expected: Any) -> None:
    found = parse_legacy(text)
    assert found.legacy and found.found
    assert getattr(found, field) == expected


def test_legacy_end_to_end() -> None:
    from hv.builder import image

    text = "LOADER=generic,XEN_VER=xen-3.0,VIRT_BASE=0x100000,HYPERCALL_PAGE=1,VIRT_ENTRY=0x100004"
    guest = image.load(w.legacy(text), "old")
    assert (guest.virt_base, guest.paddr_offset) == (0x100000, 0x100000)
    assert (guest.entry, guest.hypercall_page) == (0x100004, 0x101000)
    assert guest.segments[0].vaddr == 0x100000
