"""ELF files: the header, the program headers and the section headers, as pyelftools reads them.

1. Every number in the file is hostile until it has been checked against the file's length:
   pyelftools is asked only for what lies in the file, and only for as much as takes little time.
2. What libelf merely ignores is ignored here too; only a file that cannot be read is refused.
3. Nothing is copied: contents are views of the file.

Both classes are read, because a 32-bit image deserves to be told apart from a broken one. Of
pyelftools, the layouts of structures and the names of their values are used. Its `ELFFile` is
not: some releases refuse a file without sections, and its segments, sections and counts follow
links, dynamic tags, compression and extended numbering, which libelf does not look at, fail or
never end where these are odd, and read strings without a limit. Limits: ``xen/common/libelf``.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from hv.errors import ImageError

if TYPE_CHECKING:
    from elftools.construct import Container, Struct
    from elftools.elf.structs import ELFStructs

MAGIC = b"\x7fELF"
# Values as pyelftools names them.
PT_LOAD, PT_NOTE = "PT_LOAD", "PT_NOTE"
SHT_SYMTAB, SHT_STRTAB, SHT_NOTE = "SHT_SYMTAB", "SHT_STRTAB", "SHT_NOTE"
MAX_STRING = 4096  # libelf's ELF_MAX_STRING_LENGTH
MAX_HEADERS = 4096  # in each table; pyelftools reads that many in 0.1 s

_EXECUTABLE_TYPES = ("ET_EXEC", "ET_DYN")
_TYPE_NAMES = {"ET_NONE": "untyped", "ET_REL": "relocatable object", "ET_CORE": "core dump"}
_MACHINES = {32: ("EM_386", "EM_X86_64"), 64: ("EM_X86_64",)}
_MACHINE_NAMES = {
    "EM_386": "i386",
    "EM_X86_64": "x86-64",
    "EM_SPARC": "SPARC",
    "EM_MIPS": "MIPS",
    "EM_PPC": "PowerPC",
    "EM_PPC64": "PowerPC64",
    "EM_S390": "S/390",
    "EM_ARM": "ARM",
    "EM_SPARCV9": "SPARC V9",
    "EM_IA_64": "IA-64",
    "EM_AARCH64": "AArch64",
    "EM_RISCV": "RISC-V",
    "EM_BPF": "BPF",
    "EM_LOONGARCH": "LoongArch",
}


class ProgramHeader(NamedTuple):
    """One ``Elf_Phdr``; ``p_vaddr`` and ``p_align`` play no part in placing a Xen guest."""

    type: str | int  # a number where it has no name
    flags: int
    offset: int
    paddr: int
    filesz: int
    memsz: int

    @property
    def loadable(self) -> bool:
        """Whether libelf would load it: PT_LOAD with at least one permission."""
        return self.type == PT_LOAD and self.flags & 7 != 0


class SectionHeader(NamedTuple):
    """One ``Elf_Shdr``, and the whole of it for those who copy it."""

    name: int
    type: str | int  # a number where it has no name
    offset: int
    size: int
    link: int
    row: Container


class Elf(NamedTuple):
    """An x86 ELF executable whose header tables lie within the file."""

    data: bytes
    bits: int
    structs: ELFStructs
    header: Container
    segments: tuple[ProgramHeader, ...]
    sections: tuple[SectionHeader, ...]
    names: SectionHeader | None

    @property
    def entry(self) -> int:
        """``e_entry``."""
        return int(self.header["e_entry"])

    def string(self, offset: int) -> bytes | None:
        """The NUL-terminated string at a file offset, or None if it is too long or has no end."""
        end = self.data.find(b"\0", offset, offset + MAX_STRING)
        return None if end < 0 else self.data[offset:end]

    def section_named(self, name: bytes) -> SectionHeader | None:
        """The first section of this name."""
        if self.names is None:
            return None
        for section in self.sections[1:]:
            if self.string(self.names.offset + section.name) == name:
                return section
        return None

    def symbol_tables(self) -> tuple[SectionHeader, SectionHeader] | None:
        """The symbol table that libelf would take, and the section that it names its strings in."""
        for section in self.sections[1:]:
            if section.type == SHT_SYMTAB:
                if 0 < section.link < len(self.sections):
                    return section, self.sections[section.link]
                return None
        return None

    def contents(self, section: SectionHeader) -> memoryview:
        """A section's bytes, as many of them as the file has."""
        return memoryview(self.data)[section.offset : section.offset + section.size]


def parse(data: bytes) -> Elf:
    """Read an ELF file's headers.

    Raises ImageError, without the image's name, for what is no x86 executable or is cut short.
    """
    bits = _class(data)
    from elftools.common.utils import struct_parse
    from elftools.elf.structs import ELFStructs

    structs = ELFStructs(little_endian=True, elfclass=bits)
    structs.create_basic_structs()
    with _refusing("truncated ELF: the file ends within its ELF header; fetch it again"):
        header = struct_parse(structs.Elf_Ehdr, io.BytesIO(data))
    machine, kind = header["e_machine"], header["e_type"]
    _check_machine(bits, machine, kind)
    structs.create_advanced_structs(kind, machine, header["e_ident"]["EI_OSABI"])
    segments = tuple(
        ProgramHeader(
            row["p_type"],
            row["p_flags"],
            row["p_offset"],
            row["p_paddr"],
            row["p_filesz"],
            row["p_memsz"],
        )
        for row in _table(data, header, structs.Elf_Phdr, "ph", "program")
    )
    sections = tuple(
        SectionHeader(
            row["sh_name"],
            row["sh_type"],
            row["sh_offset"],
            row["sh_size"],
            row["sh_link"],
            row,
        )
        for row in _table(data, header, structs.Elf_Shdr, "sh", "section")
    )
    names = header["e_shstrndx"]
    names_header = sections[names] if names < len(sections) else None
    return Elf(data, bits, structs, header, segments, sections, names_header)


def _class(data: bytes) -> int:
    """The class that the identification bytes declare: 32 or 64."""
    if not data.startswith(MAGIC):
        raise ImageError("not an ELF file")
    if len(data) < 16:
        raise ImageError("truncated ELF: the file ends within its ELF header; fetch it again")
    if data[5] != 1:
        order = "big-endian ELF" if data[5] == 2 else f"ELF of unknown byte order {data[5]}"
        raise ImageError(f"{order}: hv runs little-endian x86-64 guests only")
    if data[4] not in (1, 2):
        raise ImageError(f"ELF of unknown class {data[4]}: hv runs x86-64 guests, class 2")
    return 32 * data[4]


def _check_machine(bits: int, machine: Any, kind: Any) -> None:
    from elftools.elf.enums import ENUM_E_MACHINE, ENUM_E_TYPE

    if machine not in _MACHINES[bits]:
        number = ENUM_E_MACHINE.get(machine, machine)
        name = _MACHINE_NAMES.get(machine, f"machine number {number}")
        raise ImageError(f"{bits}-bit ELF for {name}: hv runs x86-64 guests only")
    if kind not in _EXECUTABLE_TYPES:
        name = _TYPE_NAMES.get(kind, f"type {ENUM_E_TYPE.get(kind, kind)}")
        raise ImageError(f"ELF is not an executable but {name}: link it as one (ET_EXEC)")


def _table(
    data: bytes, header: Container, layout: Struct, prefix: str, what: str
) -> list[Container]:
    """The rows of a header table, after a check that all of them lie within the file."""
    offset, stride, count = (header[f"e_{prefix}{field}"] for field in ("off", "entsize", "num"))
    if count and stride < layout.sizeof():
        raise ImageError(
            f"broken ELF: its {what} headers have {stride} bytes instead of {layout.sizeof()}"
        )
    if count and offset + stride * count > len(data):
        raise ImageError(
            f"truncated ELF: its {what} headers lie beyond the end of the file; fetch it again"
        )
    if count > MAX_HEADERS:
        raise ImageError(
            f"ELF with {count} {what} headers, more than {MAX_HEADERS}: link it with fewer"
        )
    from elftools.common.utils import struct_parse

    stream = io.BytesIO(data)
    with _refusing(f"broken ELF: its {what} headers cannot be read; fetch it again"):
        return [struct_parse(layout, stream, offset + stride * i) for i in range(count)]


@contextmanager
def _refusing(sentence: str) -> Iterator[None]:
    """Refuse the image by this sentence, whatever odd bytes make pyelftools raise.

    TypeError, AttributeError and the like pass: they are a bug, not an odd file.
    """
    from elftools.common.exceptions import ELFError

    try:
        yield
    except (
        ELFError,
        ArithmeticError,
        AssertionError,
        EOFError,
        LookupError,
        MemoryError,
        ValueError,
    ) as error:
        raise ImageError(sentence) from error
