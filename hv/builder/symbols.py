"""Symbols of a guest's image: for people who read addresses, and for BSD kernels themselves.

1. A debugging aid never stops a guest from booting: whatever is odd in a symbol table is left
   out, and nothing here raises.
2. Time and memory are bounded by the file's size, whatever its tables claim.

A guest with the note BSD_SYMTAB finds its symbol and string table behind its last segment, with
a length and a small ELF header in front, as ``elf_load_bsdsyms`` in Xen's libelf lays them out.

Headers are pyelftools'. The rows of the symbol table are read here: pyelftools takes 7 s for the
150 000 of a Linux kernel (this: 0.4 s), and refuses a table for a strange link or length.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable
from copy import copy
from functools import cached_property

from hv.builder.elf import SHT_STRTAB, Elf, SectionHeader

Symbol = tuple[int, int, str]  # address, size in bytes (0: unknown), name

_SYMBOL = struct.Struct("<IBBHQQ")  # st_name, st_info, st_other, st_shndx, st_value, st_size
_NAMED_TYPES = frozenset({0, 1, 2, 10})  # NOTYPE, OBJECT, FUNC, GNU_IFUNC
_SHN_UNDEF, _SHN_ABS = 0, 0xFFF1
_MAX_NAME = 512


def symbols(elf: Elf, start: int, end: int) -> list[Symbol]:
    """The functions, objects and labels, sorted by address; [start, end] is where they can be.

    Absolute symbols count only inside that range: elsewhere they are mere numbers.
    """
    tables = elf.symbol_tables()
    if tables is None or elf.bits != 64:
        return []
    table = elf.contents(tables[0])
    strings = bytes(elf.contents(tables[1]))
    found: set[Symbol] = set()
    rows = _SYMBOL.iter_unpack(table[: len(table) // _SYMBOL.size * _SYMBOL.size])
    for name_offset, info, _, section, address, size in rows:
        if info & 15 not in _NAMED_TYPES or section == _SHN_UNDEF:
            continue
        if section == _SHN_ABS and not start <= address <= end:
            continue
        name_end = strings.find(b"\0", name_offset, name_offset + _MAX_NAME)
        if name_end > name_offset:
            name = strings[name_offset:name_end].decode("utf-8", "replace")
            found.add((address, size, name))
    return sorted(found)


def bsd_symtab(elf: Elf) -> bytes | None:
    """What a BSD kernel expects at the next multiple of 8 behind its end; None without symbols."""
    tables = elf.symbol_tables()
    if tables is None or tables[1].type != SHT_STRTAB:
        return None
    table, strings = (bytes(elf.contents(section)) for section in tables)
    if len(table) != tables[0].size or len(strings) != tables[1].size:
        return None  # cut short: libelf copies nothing then, and the guest finds no header
    structs = elf.structs
    table_at = _round8(4 + structs.Elf_Ehdr.sizeof() + 3 * structs.Elf_Shdr.sizeof())
    strings_at = _round8(table_at + len(table))
    header = _bsd_header(elf, tables, table_at - 4, strings_at - 4)
    area = bytearray(_round8(strings_at + len(strings)))
    area[0:4] = (strings_at + len(strings) - 4 & 0xFFFFFFFF).to_bytes(4, "little")
    area[4 : 4 + len(header)] = header
    area[table_at : table_at + len(table)] = table
    area[strings_at : strings_at + len(strings)] = strings
    return bytes(area)


def _bsd_header(
    elf: Elf, tables: tuple[SectionHeader, SectionHeader], table_at: int, strings_at: int
) -> bytes:
    """The image's own header, cut down to three sections: none, symbols, strings."""
    ehdr, shdr = elf.structs.Elf_Ehdr, elf.structs.Elf_Shdr
    header, table, strings = (copy(row) for row in (elf.header, *(t.row for t in tables)))
    sizes = {"e_ehsize": ehdr.sizeof(), "e_phentsize": 0, "e_shentsize": shdr.sizeof()}
    counts = {"e_phnum": 0, "e_shnum": 3, "e_shstrndx": 0}
    offsets = {"e_phoff": 0, "e_shoff": ehdr.sizeof()}
    header.update({"e_version": "EV_CURRENT"} | sizes | counts | offsets)
    table.update({"sh_offset": table_at, "sh_link": 2})  # the symbols' names are in section 2 now
    strings.update({"sh_offset": strings_at})
    identification = elf.data[:16]  # with its padding, which pyelftools does not build
    sections = bytes(shdr.sizeof()) + shdr.build(table) + shdr.build(strings)
    return identification + ehdr.build(header)[len(identification) :] + sections


def _round8(value: int) -> int:
    return value + 7 & ~7


class SymbolTable:
    """Names for addresses of one image. Of several symbols at an address one with a size is taken."""

    def __init__(self, found: Iterable[Symbol], end: int) -> None:
        self._found = sorted(found, key=_by_worth)
        best = {address: (size, name) for address, size, name in self._found}
        self._addresses = sorted(best)
        self._symbols = [best[address] for address in self._addresses]
        self._end = end

    def find(self, address: int) -> tuple[str, int] | None:
        """(name, start) of the symbol that an address is in; None outside of all."""
        at = bisect_right(self._addresses, address) - 1
        if at < 0 or address >= self._end:
            return None
        start, (size, name) = self._addresses[at], self._symbols[at]
        return None if size and address >= start + size else (name, start)

    @cached_property
    def _by_name(self) -> dict[str, tuple[int, int]]:
        return {name: (address, size) for address, size, name in self._found}

    def address(self, name: str) -> int | None:
        """Where a symbol is; of several with one name, the last."""
        found = self._by_name.get(name)
        return found[0] if found else None

    def size(self, name: str) -> int:
        """Its size in bytes; 0 where that is unknown."""
        return self._by_name.get(name, (0, 0))[1]

    def names(self) -> Iterable[str]:
        return self._by_name

    def name(self, address: int) -> str | None:
        """`main+0x12`, or `main` at its start; None outside of all symbols."""
        found = self.find(address)
        if found is None:
            return None
        name, start = found
        return name if address == start else f"{name}+{address - start:#x}"


def _by_worth(symbol: Symbol) -> tuple[int, bool, str]:
    address, size, name = symbol
    return address, size > 0, name
