"""What a guest tells its builder: Xen's ELF notes, or the legacy ``__xen_guest`` string.

1. Notes in PT_NOTE segments win; without a Xen note there, those in SHT_NOTE sections; without
   one there either, the ``__xen_guest`` section. The sources never mix.
2. A later note replaces an earlier one. Unknown notes are passed over, yet count as Xen notes.
3. Both spellings fill the same `Parameters`; only ``legacy`` remembers which one it was.
4. A required feature ("!name") that nobody knows refuses the image, but only in a note: in a
   legacy string it merely ends the parsing, as on Xen.

Names and lengths of notes are read as libelf reads them: strings end at their NUL whatever the
note's length says, numbers have 1, 2, 4 or 8 bytes and are otherwise 0, and notes are aligned to
4 bytes in every case. Specified in Xen's public ``elfnote.h`` and ``features.h``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from hv.abi.elfnote import (
    XEN_ELFNOTE_BSD_SYMTAB,
    XEN_ELFNOTE_ENTRY,
    XEN_ELFNOTE_FEATURES,
    XEN_ELFNOTE_GUEST_OS,
    XEN_ELFNOTE_GUEST_VERSION,
    XEN_ELFNOTE_HV_START_LOW,
    XEN_ELFNOTE_HYPERCALL_PAGE,
    XEN_ELFNOTE_INIT_P2M,
    XEN_ELFNOTE_LOADER,
    XEN_ELFNOTE_MOD_START_PFN,
    XEN_ELFNOTE_PADDR_OFFSET,
    XEN_ELFNOTE_PHYS32_ENTRY,
    XEN_ELFNOTE_SUPPORTED_FEATURES,
    XEN_ELFNOTE_SUSPEND_CANCEL,
    XEN_ELFNOTE_VIRT_BASE,
    XEN_ELFNOTE_XEN_VERSION,
)
from hv.builder.elf import PT_NOTE, SHT_NOTE, Elf
from hv.errors import ImageError

MASK64 = (1 << 64) - 1
MAX_NOTES = 65536  # libelf's ELF_MAX_TOTAL_NOTE_COUNT; here for segments and sections each
MAX_LEGACY_STRING = 65536

# The features that Xen knows by name (features.h's numbers do not matter to the builder).
FEATURES = frozenset(
    {
        "writable_page_tables",
        "writable_descriptor_tables",
        "auto_translated_physmap",
        "supervisor_mode_kernel",
        "pae_pgdir_above_4gb",
        "hvm_callback_vector",
        "dom0",
    }
)


class Parameters:
    """What the notes say; None where they are silent. Addresses are virtual."""

    legacy: bool = False
    found: bool = False  # at least one Xen note, or the legacy section
    entry: int | None = None
    hypercall_page: int | None = None
    virt_base: int | None = None
    paddr_offset: int | None = None
    xen_version: str = ""
    guest_os: str = ""
    guest_version: str = ""
    loader: str = ""
    features: str = ""
    bsd_symtab: bool = False
    hv_start_low: int | None = None
    suspend_cancel: bool = False
    init_p2m: int | None = None
    mod_start_pfn: bool = False
    supported_features: int | None = None
    phys32_entry: int | None = None

    @property
    def required_features(self) -> frozenset[str]:
        """The features without which the guest refuses to run."""
        return frozenset(f[1:] for f in self.features.split("|") if f.startswith("!"))


class _Note(NamedTuple):
    """Where one Xen note lies: its type, and the position and length of its description."""

    type: int
    desc: int
    length: int


def parse(elf: Elf) -> Parameters:
    """Look a guest's parameters up, in the order of rule 1.

    Raises ImageError, without the image's name, for a required feature that is unknown.
    """
    # Some linkers leave a PT_NOTE's offset at 0, where nothing but the ELF header can be.
    segments = [
        (s.offset, s.offset + s.filesz) for s in elf.segments if s.type == PT_NOTE and s.offset
    ]
    sections = [(s.offset, s.offset + s.size) for s in elf.sections[1:] if s.type == SHT_NOTE]
    for areas in (segments, sections):
        found = _parse_notes(elf, areas)
        if found.found:
            return found
    return _parse_legacy(elf)


# Notes


def _parse_notes(elf: Elf, areas: list[tuple[int, int]]) -> Parameters:
    """What the Xen notes of these [start, end) ranges say."""
    found = Parameters()
    notes = chain.from_iterable(_walk(elf, start, end) for start, end in areas)
    for note in islice(notes, MAX_NOTES):
        if note is None:
            continue
        found.found = True
        field, read = _NOTES.get(note.type, ("", _nothing))
        value = read(elf, note)
        if value is not None:
            setattr(found, field, value)
            if field == "features":
                _check_required(found)
    return found


def _walk(elf: Elf, start: int, end: int) -> Iterator[_Note | None]:
    """Each note of a range; None stands for a note that is not Xen's."""
    position = start
    end = min(end, len(elf.data) - 12)
    while position < end:
        name_size, length, kind = (_number(elf.data, position + i, 4) for i in (0, 4, 8))
        desc = position + 12 + (name_size + 3 & 0xFFFFFFFC)
        is_xen = elf.data[position + 12 : position + 16] == b"Xen\0"
        yield _Note(kind, desc, length) if is_xen else None
        position = desc + (length + 3 & 0xFFFFFFFC)


def _number(data: bytes, position: int, size: int) -> int:
    """A little-endian number; 0 if it reaches beyond the file."""
    raw = data[position : position + size]
    return int.from_bytes(raw, "little") if len(raw) == size else 0


def _numeric(elf: Elf, note: _Note) -> int:
    return _number(elf.data, note.desc, note.length) if note.length in (1, 2, 4, 8) else 0


def _address(elf: Elf, note: _Note) -> int | None:
    # Xen's mark for an address that was not given.
    value = _numeric(elf, note)
    return None if value == MASK64 else value


def _flag(elf: Elf, note: _Note) -> bool:
    return _numeric(elf, note) != 0


def _submap(elf: Elf, note: _Note) -> int:
    """Submap 0 of an array of 32-bit feature maps."""
    return _number(elf.data, note.desc, 4) if note.length and note.length % 4 == 0 else 0


def _text(elf: Elf, note: _Note) -> str | None:
    raw = elf.string(note.desc)
    return None if raw is None else raw.decode("utf-8", "replace")


def _yes(elf: Elf, note: _Note) -> bool | None:
    # Any other text leaves the setting as it is.
    return True if elf.string(note.desc) == b"yes" else None


def _nothing(elf: Elf, note: _Note) -> None:
    """For notes that Xen's builder does not know."""


_Reader = Callable[[Elf, _Note], object]

# Note, field, how its description reads. PAE_MODE is nothing to a 64-bit guest.
_NOTES: dict[int, tuple[str, _Reader]] = {
    XEN_ELFNOTE_ENTRY: ("entry", _address),
    XEN_ELFNOTE_HYPERCALL_PAGE: ("hypercall_page", _address),
    XEN_ELFNOTE_VIRT_BASE: ("virt_base", _address),
    XEN_ELFNOTE_PADDR_OFFSET: ("paddr_offset", _address),
    XEN_ELFNOTE_XEN_VERSION: ("xen_version", _text),
    XEN_ELFNOTE_GUEST_OS: ("guest_os", _text),
    XEN_ELFNOTE_GUEST_VERSION: ("guest_version", _text),
    XEN_ELFNOTE_LOADER: ("loader", _text),
    XEN_ELFNOTE_FEATURES: ("features", _text),
    XEN_ELFNOTE_BSD_SYMTAB: ("bsd_symtab", _yes),
    XEN_ELFNOTE_HV_START_LOW: ("hv_start_low", _address),
    XEN_ELFNOTE_SUSPEND_CANCEL: ("suspend_cancel", _flag),
    XEN_ELFNOTE_INIT_P2M: ("init_p2m", _address),
    XEN_ELFNOTE_MOD_START_PFN: ("mod_start_pfn", _flag),
    XEN_ELFNOTE_SUPPORTED_FEATURES: ("supported_features", _submap),
    XEN_ELFNOTE_PHYS32_ENTRY: ("phys32_entry", _numeric),
}


def _check_required(found: Parameters) -> None:
    unknown = sorted(found.required_features - FEATURES)
    if unknown:
        raise ImageError(
            f"the guest requires the unknown feature {unknown[0]!r}:"
            " build it without (note XEN_ELFNOTE_FEATURES)"
        )


# The legacy section

_LEGACY_TEXTS = {
    "LOADER": "loader",
    "GUEST_OS": "guest_os",
    "GUEST_VER": "guest_version",
    "XEN_VER": "xen_version",
}
_LEGACY_NUMBERS = {
    "VIRT_BASE": "virt_base",
    "VIRT_ENTRY": "entry",
    "ELF_PADDR_OFFSET": "paddr_offset",
}
# Compiled at their first use: hardly a guest has this section.
_LEGACY_ITEM = r"(?P<name>[^,=]{0,31})(?:=(?P<value>[^,]{0,127})|),?"
_C_NUMBER = (
    r"[ \t\n\v\f\r]*(?P<sign>[+-]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|(?P<oct>0[0-7]*)|(?P<dec>[0-9]+))"
)


def _parse_legacy(elf: Elf) -> Parameters:
    """Read ``NAME=value,NAME=value`` from the ``__xen_guest`` section, up to its NUL."""
    found = Parameters()
    found.legacy = True
    section = elf.section_named(b"__xen_guest")
    if section is None:
        return found
    found.found = True
    raw = elf.data[section.offset : section.offset + MAX_LEGACY_STRING].split(b"\0", 1)[0]
    for item in re.finditer(_LEGACY_ITEM, raw.decode("latin-1")):
        if not _legacy_item(found, item["name"], item["value"] or ""):
            break
    # The page number counts from VIRT_BASE, wherever that stood in the string.
    if found.hypercall_page is not None:
        found.hypercall_page = (found.hypercall_page + (found.virt_base or 0)) & MASK64
    return found


def _legacy_item(found: Parameters, name: str, value: str) -> bool:
    """Take one setting over; False where the parsing ends."""
    if name in _LEGACY_TEXTS:
        setattr(found, _LEGACY_TEXTS[name], value)
    elif name in _LEGACY_NUMBERS:
        setattr(found, _LEGACY_NUMBERS[name], _strtoull(value))
    elif name == "HYPERCALL_PAGE":
        found.hypercall_page = _strtoull(value) << 12 & MASK64
    elif name == "BSD_SYMTAB":
        found.bsd_symtab = True
    elif name == "FEATURES":
        found.features = value
        return found.required_features <= FEATURES
    return True


def _strtoull(text: str) -> int:
    """C's ``strtoull(text, NULL, 0)``: what cannot be read is 0, what is too large the maximum."""
    number = re.match(_C_NUMBER, text)
    if number is None:
        return 0
    for group, base in (("hex", 16), ("oct", 8), ("dec", 10)):
        if number[group] is not None:
            value = int(number[group], base)
            break
    if value > MASK64:
        return MASK64
    return -value & MASK64 if number["sign"] == "-" else value
