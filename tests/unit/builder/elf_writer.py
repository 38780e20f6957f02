"""A tiny ELF writer: just enough to make every image that the loader accepts or refuses."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

PT_LOAD, PT_NOTE = 1, 4
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_NOTE = 1, 2, 3, 7
ENTRY, HYPERCALL_PAGE, VIRT_BASE, PADDR_OFFSET, XEN_VERSION, GUEST_OS = 1, 2, 3, 4, 5, 6
GUEST_VERSION, LOADER, FEATURES, BSD_SYMTAB, HV_START_LOW = 7, 8, 10, 11, 12
SUSPEND_CANCEL, INIT_P2M, MOD_START_PFN, SUPPORTED_FEATURES, PHYS32_ENTRY = 14, 15, 16, 17, 18

Note = tuple[int, bytes | str | int]
PV: tuple[Note, ...] = ((GUEST_OS, "tiny"), (LOADER, "generic"), (XEN_VERSION, "xen-3.0"))


@dataclass
class Load:
    """A PT_LOAD segment. The file's virtual address is nonsense, as nothing may depend on it."""

    paddr: int
    data: bytes = b"\x90" * 16
    memsz: int | None = None
    flags: int = 7
    vaddr: int = 0xDEAD0000


@dataclass
class Section:
    """A section; `name` goes into the section name table."""

    name: str
    type: int
    data: bytes
    link: int = 0


@dataclass
class Writer:
    """What is to be written; `bytes_()` lays it out."""

    loads: list[Load] = field(default_factory=lambda: [Load(0x100000)])
    notes: list[bytes] = field(default_factory=list)  # one PT_NOTE each
    sections: list[Section] = field(default_factory=list)
    entry: int = 0x100000
    bits: int = 64
    machine: int = 62
    kind: int = 2
    order: int = 1

    def bytes_(self) -> bytes:
        ehsize, phsize = (64, 56) if self.bits == 64 else (52, 32)
        body = bytearray()
        base = ehsize + phsize * (len(self.loads) + len(self.notes))

        def put(data: bytes) -> int:
            body.extend(bytes(-len(body) % 8) + data)
            return base + len(body) - len(data)

        headers = b"".join(
            self._phdr(PT_LOAD, s.flags, put(s.data), s.vaddr, s.paddr, len(s.data), s.memsz)
            for s in self.loads
        ) + b"".join(self._phdr(PT_NOTE, 4, put(n), 0, 0, len(n), len(n)) for n in self.notes)
        count, table = 0, b""
        if self.sections:
            count, table = self._section_table(put)
        shoff = put(table)
        return self._ehdr(shoff, count) + headers + bytes(body)

    def _section_table(self, put: Callable[[bytes], int]) -> tuple[int, bytes]:
        sections = [*self.sections, Section(".shstrtab", SHT_STRTAB, b"")]
        names, offsets = b"\0", []
        for section in sections:
            offsets.append(len(names))
            names += section.name.encode() + b"\0"
        sections[-1].data = names
        row = struct.Struct("<IIQQQQIIQQ" if self.bits == 64 else "<10I")
        table = row.pack(*[0] * 10)
        for name, s in zip(offsets, sections, strict=True):
            entsize = 24 if s.type == SHT_SYMTAB else 0
            table += row.pack(name, s.type, 0, 0, put(s.data), len(s.data), s.link, 0, 1, entsize)
        return len(sections) + 1, table

    def _phdr(
        self, kind: int, flags: int, offset: int, vaddr: int, paddr: int, size: int, mem: int | None
    ) -> bytes:
        mem = size if mem is None else mem
        if self.bits == 64:
            return struct.pack("<IIQQQQQQ", kind, flags, offset, vaddr, paddr, size, mem, 1)
        return struct.pack("<8I", kind, offset, vaddr, paddr, size, mem, flags, 1)

    def _ehdr(self, shoff: int, count: int) -> bytes:
        wide = self.bits == 64
        ident = b"\x7fELF" + bytes([2 if wide else 1, self.order, 1]) + bytes(9)
        ehsize, phsize, shsize = (64, 56, 64) if wide else (52, 32, 40)
        fields = (self.kind, self.machine, 1, self.entry, ehsize, shoff, 0, ehsize, phsize)
        phnum = len(self.loads) + len(self.notes)
        layout = "<16sHHIQQQIHHHHHH" if wide else "<16sHHIIIIIHHHHHH"
        return struct.pack(layout, ident, *fields, phnum, shsize, count, max(count - 1, 0))


def notes(*rows: Note, owner: bytes = b"Xen\0") -> bytes:
    """A note segment; integers become 8 bytes, strings get their NUL."""
    out = b""
    for kind, value in rows:
        if isinstance(value, int):
            desc = value.to_bytes(8, "little")
        else:
            desc = value.encode() + b"\0" if isinstance(value, str) else value
        out += struct.pack("<III", len(owner), len(desc), kind)
        out += owner + bytes(-len(owner) % 4) + desc + bytes(-len(desc) % 4)
    return out


def symbol_table(*rows: tuple[str, int, int, int, int]) -> tuple[bytes, bytes]:
    """(.symtab, .strtab) of rows (name, info, section index, address, size)."""
    table, strings = bytes(24), b"\0"
    for name, info, section, address, size in rows:
        table += struct.pack("<IBBHQQ", len(strings), info, 0, section, address, size)
        strings += name.encode() + b"\0"
    return table, strings


def pv(*extra: Note, **fields: object) -> bytes:
    """A PV64 guest with the notes that Xen demands, and `extra`."""
    return Writer(notes=[notes(*PV, *extra)], **fields).bytes_()  # type: ignore[arg-type]


def legacy(text: str, **fields: object) -> bytes:
    """A guest that has only the ``__xen_guest`` string."""
    section = Section("__xen_guest", SHT_PROGBITS, text.encode() + b"\0")
    return Writer(sections=[section], **fields).bytes_()  # type: ignore[arg-type]


def bzimage(payload: bytes, version: int = 0x20F, setup_sects: int = 1) -> bytes:
    """A bzImage around a compressed kernel, which is followed by what Linux appends."""
    setup_size = ((setup_sects or 4) + 1) * 512
    header = bytearray(setup_size)
    header[0x1F1] = setup_sects
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", header, 0x206, version)
    struct.pack_into("<II", header, 0x248, 64, len(payload))
    return bytes(header) + b"\xf4" * 64 + payload + bytes(32)
