"""Images as a whole: what is read from them, and each refusal with its sentence."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from hv.builder import image
from hv.errors import HvError, ImageError

from .elf_writer import (
    ENTRY,
    FEATURES,
    GUEST_OS,
    HYPERCALL_PAGE,
    INIT_P2M,
    LOADER,
    PADDR_OFFSET,
    PHYS32_ENTRY,
    PV,
    SHT_NOTE,
    VIRT_BASE,
    XEN_VERSION,
    Load,
    Section,
    Writer,
    legacy,
    notes,
    pv,
)

HIGH = 0xFFFFFFFF80000000


def test_everything_of_a_small_guest() -> None:
    data = pv(loads=[Load(0x200000, b"data", 0x1000), Load(0x100000, b"text" * 4)])
    guest = image.load(data, "tiny")
    assert guest.name == "tiny"
    assert [(s.vaddr, bytes(s.data), s.memory_size) for s in guest.segments] == [
        (0x100000, b"text" * 4, 16),
        (0x200000, b"data", 0x1000),
    ]
    assert (guest.start, guest.end, guest.entry) == (0x100000, 0x201000, 0x100000)
    assert (guest.virt_base, guest.paddr_offset) == (0, 0)
    assert (guest.guest_os, guest.loader) == ("tiny", "generic")
    assert guest.hypercall_page is None and guest.init_p2m is None
    assert guest.elf == data


# notes, load addresses (p_paddr), expected (virt_base, paddr_offset, vaddr)
PLACEMENTS: list[tuple[tuple[tuple[int, Any], ...], int, tuple[int, int, int]]] = [
    ((), 0x100000, (0, 0, 0x100000)),
    (((VIRT_BASE, HIGH), (ENTRY, HIGH + 0x1000000)), 0x1000000, (HIGH, 0, HIGH + 0x1000000)),
    (
        ((VIRT_BASE, HIGH), (PADDR_OFFSET, HIGH), (ENTRY, HIGH + 0x1000)),
        HIGH + 0x1000,
        (HIGH, HIGH, HIGH + 0x1000),
    ),
    (
        ((VIRT_BASE, 0x1000), (PADDR_OFFSET, 0x5000), (ENTRY, 0x2000)),
        0x6000,
        (0x1000, 0x5000, 0x2000),
    ),
    (
        ((VIRT_BASE, 0x1000), (PADDR_OFFSET, 0x5000), (ENTRY, 0x1000)),
        0x5000,
        (0x1000, 0x5000, 0x1000),
    ),
    (((ENTRY, (1 << 64) - 1),), 0x100000, (0, 0, 0x100000)),  # Xen's mark for "not given"
]


@pytest.mark.parametrize(("extra", "paddr", "expected"), PLACEMENTS)
def test_placement(extra: Any, paddr: int, expected: tuple[int, int, int]) -> None:
    guest = image.load(pv(*extra, loads=[Load(paddr)]), "tiny")
    assert (guest.virt_base, guest.paddr_offset, guest.segments[0].vaddr) == expected


def test_empty_segments_stretch_the_range_but_hold_nothing() -> None:
    guest = image.load(pv(loads=[Load(0x100000), Load(0x1000, b""), Load(0x180000, b"")]), "tiny")
    assert (guest.start, guest.end, len(guest.segments)) == (0x1000, 0x180000, 1)


def test_segments_without_permissions_are_not_loaded() -> None:
    guest = image.load(pv(loads=[Load(0x100000), Load(0x100000, flags=0)]), "tiny")
    assert len(guest.segments) == 1


def test_gzip() -> None:
    data = pv()
    packed = zlib.compressobj(wbits=31)
    assert image.load(packed.compress(data) + packed.flush(), "tiny.gz").elf == data


def broken(data: bytes, position: int, value: int) -> bytes:
    changed = bytearray(data)
    changed[position] = value
    return bytes(changed)


def patched(data: bytes, layout: str, *places: tuple[int, int]) -> bytes:
    """The image with numbers put at (position, value)."""
    changed = bytearray(data)
    for position, value in places:
        struct.pack_into(layout, changed, position, value)
    return bytes(changed)


E_PHOFF, E_SHOFF, E_PHNUM, E_SHENTSIZE, E_SHNUM = 32, 40, 56, 58, 60
SECOND_PHDR = 64 + 56  # p_type; p_offset is 8 bytes further, p_filesz 32
MASK64 = (1 << 64) - 1


def many_sections(count: int) -> bytes:
    data = pv()
    table = patched(data + bytes(64 * count), "<Q", (E_SHOFF, len(data)))
    return patched(table, "<H", (E_SHENTSIZE, 64), (E_SHNUM, count))


def many_segments(count: int) -> bytes:
    data = pv()
    table = patched(data + data[64 : 64 + 112] + bytes(56 * count), "<Q", (E_PHOFF, len(data)))
    return patched(table, "<H", (E_PHNUM, count))


def endless_sections() -> bytes:
    """Extended numbering, which libelf does not know: no section, or 2**64 - 1 of them."""
    return patched(patched(many_sections(1), "<H", (E_SHNUM, 0)), "<Q", (len(pv()) + 32, MASK64))


def odd_segment(kind: int, offset: int, filesz: int) -> bytes:
    """A guest with a segment that is not loaded, and that nobody can read."""
    data = pv(loads=[Load(0x100000), Load(0x200000)])
    places = ((SECOND_PHDR + 8, offset), (SECOND_PHDR + 32, filesz))
    return patched(patched(data, "<Q", *places), "<I", (SECOND_PHDR, kind))


def odd_section(kind: int) -> bytes:
    """A guest with a section that links to no other and has no rows."""
    return pv(sections=[Section(".odd", kind, b"x" * 7, link=99)])


def pvh(*extra: Any, **fields: Any) -> bytes:
    return Writer(notes=[notes((PHYS32_ENTRY, 0x100000), *extra)], **fields).bytes_()


XEN_DEMANDS = "as Xen demands"
REFUSALS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "text": (b"#!/bin/sh\n", "not an ELF file, a compressed ELF file or a bzImage"),
    "magic only": (b"\x7fELF", "truncated ELF"),
    "half a header": (pv()[:40], "truncated ELF"),
    "gzip of text": (zlib.compress(b"x", wbits=31), "not an ELF file"),
    "gzip broken": (b"\x1f\x8b\x08" + b"\xff" * 40, "corrupt gzip data"),
    "gzip cut": (zlib.compress(pv(), wbits=31)[:-9], "truncated gzip data"),
    "no notes": (Writer().bytes_(), "ELF without Xen notes: not a Xen guest"),
    "notes of others": (
        Writer(notes=[notes((1, 1), owner=b"GNU\0")]).bytes_(),
        "ELF without Xen notes: not a Xen guest",
    ),
    "PVH": (pvh(), "PVH only (PHYS32_ENTRY): not supported yet"),
    "PVH Linux": (
        pvh((GUEST_OS, "linux"), (LOADER, "generic"), (XEN_VERSION, "xen-3.0")),
        "PVH only (PHYS32_ENTRY)",
    ),
    "PVH, 32 bits": (pvh(bits=32, machine=3), "PVH only (PHYS32_ENTRY)"),
    "PV32": (
        Writer(notes=[notes(*PV)], bits=32, machine=3).bytes_(),
        "PV32/32-bit guests are not supported",
    ),
    "AArch64": (pv(machine=183), "64-bit ELF for AArch64"),
    "i386 in 64 bits": (pv(machine=3), "64-bit ELF for i386"),
    "machine 999": (pv(machine=999), "64-bit ELF for machine number 999"),
    "ARM": (Writer(bits=32, machine=40).bytes_(), "32-bit ELF for ARM"),
    "big-endian": (pv(order=2), "big-endian ELF"),
    "no endianness": (pv(order=7), "ELF of unknown byte order 7"),
    "class": (broken(pv(), 4, 3), "ELF of unknown class 3"),
    "object": (pv(kind=1), "not an executable but relocatable object"),
    "core": (pv(kind=4), "not an executable but core dump"),
    "stride": (broken(pv(), 54, 8), "its program headers have 8 bytes instead of 56"),
    "headers cut": (pv()[:100], "its program headers lie beyond the end of the file"),
    "sections cut": (legacy("LOADER=generic")[:-1], "its section headers lie beyond the end"),
    "headers beyond 2**64": (patched(pv(), "<Q", (E_PHOFF, MASK64)), "its program headers lie"),
    "many sections": (many_sections(4097), "ELF with 4097 section headers, more than 4096"),
    "many segments": (many_segments(65535), "ELF with 65535 program headers, more than 4096"),
    "segment cut": (
        broken(pv(), 64 + 35, 1),
        "truncated ELF: the segment at 0x100000 lies beyond the end of the file",
    ),
    "filesz > memsz": (pv(loads=[Load(0x100000, memsz=3)]), "has 0x10 bytes in the file but 0x3"),
    "nothing to load": (pv(loads=[]), "ELF without loadable segments"),
    "overlap": (
        pv(loads=[Load(0x100000), Load(0x10000F)]),
        "its segments at 0x100000 and 0x10000f overlap",
    ),
    "wrapping": (
        pv((VIRT_BASE, HIGH), loads=[Load((1 << 64) - 8)]),
        "broken ELF: the segment at 0xfffffffffffffff8 reaches past the end of the address space",
    ),
    "wrapping by base": (
        pv((VIRT_BASE, (1 << 64) - 0x1000), loads=[Load(0, memsz=0x2000)]),
        "past the end of the address space",
    ),
    "huge": (pv(loads=[Load(0x100000, memsz=(64 << 30) + 1)]), "more than 64 GiB"),
    "far apart": (pv(loads=[Load(0x100000), Load(1 << 40)]), "more than 64 GiB"),
    "non-canonical": (pv((VIRT_BASE, 1 << 50)), "where a PV64 guest cannot be"),
    "across the hole": (pv(loads=[Load((1 << 47) - 8)]), "where a PV64 guest cannot be"),
    "Xen's own range": (pv((VIRT_BASE, 0xFFFF800000000000)), "where a PV64 guest cannot be"),
    "entry below": (pv(entry=0xFFFFF), "the entry point 0xfffff lies outside"),
    "entry at the end": (pv(entry=0x100010), "the entry point 0x100010 lies outside"),
    "entry in a gap": (
        pv(loads=[Load(0x100000), Load(0x200000)], entry=0x180000),
        "the entry point 0x180000 lies outside",
    ),
    "ENTRY note": (pv((ENTRY, 1)), "the entry point 0x1 lies outside"),
    "base above": (
        pv((VIRT_BASE, 0x200000), (PADDR_OFFSET, 0x200000)),
        "below its VIRT_BASE 0x200000",
    ),
    "offset alone": (pv((PADDR_OFFSET, 0x1000)), "ELF_PADDR_OFFSET but no VIRT_BASE"),
    "p2m inside": (pv((INIT_P2M, 0x100008)), "its INIT_P2M 0x100008 lies inside"),
    "p2m nowhere": (pv((INIT_P2M, 1 << 50)), "its INIT_P2M 0x4000000000000 is no address"),
    "loader": (
        Writer(notes=[notes((LOADER, "lilo"), (XEN_VERSION, "xen-3.0"))]).bytes_(),
        "made for the loader 'lilo' and the system (none)",
    ),
    "version": (
        Writer(notes=[notes((LOADER, "generic"), (XEN_VERSION, "xen-2.0"))]).bytes_(),
        "made for Xen version 'xen-2.0'",
    ),
    "no version": (Writer(notes=[notes((LOADER, "generic"))]).bytes_(), XEN_DEMANDS),
    "dom0": (pv((FEATURES, "!dom0")), 'requires the feature "dom0"'),
    "feature": (pv((FEATURES, "x|!flux\n")), r"requires the unknown feature 'flux\n'"),
}


@pytest.mark.parametrize(("data", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_refusal(data: bytes, sentence: str) -> None:
    with pytest.raises(ImageError) as refused:
        image.load(data, "some image")
    text = str(refused.value)
    assert text.startswith("some image: ")
    assert sentence in text
    assert "\n" not in text
    assert isinstance(refused.value, HvError)


ACCEPTED: dict[str, bytes] = {
    "Linux without a loader": Writer(
        notes=[notes((GUEST_OS, "linux"), (XEN_VERSION, "xen-3.0-x86_64"))]
    ).bytes_(),
    "hybrid Linux": pvh(
        (GUEST_OS, "linux"), (XEN_VERSION, "xen-3.0"), (VIRT_BASE, 0), (ENTRY, 0x100000)
    ),
    "hybrid with a hypercall page": pvh(
        (LOADER, "generic"), (XEN_VERSION, "xen-3.0"), (HYPERCALL_PAGE, 0x101000)
    ),
    "hybrid of another system": pvh(*PV),
    "known required features": pv((FEATURES, "!writable_page_tables|pae_pgdir_above_4gb")),
    "unknown optional feature": pv((FEATURES, "flux")),
    "position-independent": pv(kind=3),
    "notes in a section": Writer(sections=[Section(".note", SHT_NOTE, notes(*PV))]).bytes_(),
    "4096 sections": many_sections(4096),
    "4096 segments": many_segments(4096),
    "sections nowhere": patched(pv(), "<Q", (E_SHOFF, MASK64)),
    "endless sections": endless_sections(),
    "wide headers nowhere": patched(pv(), "<H", (E_SHENTSIZE, 3)),
    **{
        f"odd segment of type {kind:#x} at {offset:#x} with {filesz:#x} bytes": odd_segment(
            kind, offset, filesz
        )
        for kind in (0, 2, 3, 4, 5, 6, 7, 0x6474E551, 0x70000000)
        for offset, filesz in ((0, 1 << 40), (5, MASK64), (1 << 63, 0))
    },
    **{f"odd section of type {kind:#x}": odd_section(kind) for kind in range(20)},
    "segments that touch": pv(loads=[Load(0x100000), Load(0x100010)]),
    "64 GiB": pv(loads=[Load(0x100000, memsz=64 << 30)]),
    "up to the top": pv((VIRT_BASE, HIGH), (ENTRY, (1 << 64) - 16), loads=[Load(0x80000000 - 16)]),
}


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(data: bytes) -> None:
    image.load(data, "tiny")


def test_only_reading_an_elf_file_imports_the_library() -> None:
    script = (
        "import sys; from hv.builder import image, symbols; "
        "sys.exit(any(name.startswith('elftools') for name in sys.modules))"
    )
    root = Path(image.__file__).parents[2]
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root)


def test_readelf_reads_the_same(tmp_path: Path) -> None:
    data = pv(loads=[Load(0x200000, b"data", 0x1000), Load(0x100000)])
    guest = image.load(data, "tiny")
    (tmp_path / "tiny").write_bytes(data)
    command = ["readelf", "--wide", "--segments", str(tmp_path / "tiny")]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    theirs = []
    for line in lines:
        if line.split()[:1] == ["LOAD"]:
            offset, _, paddr, filesz, memsz = (int(n, 16) for n in line.split()[1:6])
            theirs.append((paddr, data[offset : offset + filesz], memsz))
    assert sorted(theirs) == [(s.vaddr, bytes(s.data), s.memory_size) for s in guest.segments]
