"""A guest's image, read and judged: what to place where, and what the guest asks for.

1. The format is decided by content: ELF, bzImage, or either of them compressed.
2. Segments are placed by physical address, as libelf does: vaddr = p_paddr + VIRT_BASE -
   PADDR_OFFSET, modulo 2**64. The ELF file's virtual addresses are never looked at.
3. An `Image` is safe to build a domain from: its segments lie in the file, do not overlap, stay
   within the guest's half of the address space and hold the entry point. Everything else is
   refused here, by one sentence with the image's name and a remedy.

Behaviour follows Xen 4.17's ``elf_xen_parse`` and ``xg_dom_elfloader``; where hv is stricter
(overlapping segments, an entry point between segments), the guest could not have run.
Specified in Xen's public ``elfnote.h``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from hv.abi.arch_x86_64 import HYPERVISOR_VIRT_END
from hv.builder import elf_notes
from hv.builder.elf import MAGIC, Elf, ProgramHeader
from hv.builder.elf import parse as parse_elf
from hv.builder.elf_notes import MASK64, Parameters
from hv.errors import ImageError

if TYPE_CHECKING:
    from hv.builder.symbols import SymbolTable

__all__ = ["Image", "Segment", "load", "symbol_table", "symbols"]

MAX_SPAN = 64 << 30
_LOW_HALF_END = 1 << 47


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes for [vaddr, vaddr + memory_size); what `data` does not cover is zero."""

    vaddr: int
    data: bytes | memoryview = field(repr=False)
    memory_size: int


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A PV64 guest that can be built. Addresses are virtual, sizes are in bytes.

    ``end`` is Xen's virt_kend: behind the last segment, not rounded up to a page, and with a
    BSD guest's symbol table included (which is then the last of the segments).
    """

    name: str
    segments: tuple[Segment, ...]
    entry: int
    virt_base: int
    paddr_offset: int
    hypercall_page: int | None
    init_p2m: int | None
    mod_start_pfn: bool
    guest_os: str
    loader: str
    guest_version: str
    features: str
    bsd_symtab: bool
    supported_features: int | None
    suspend_cancel: bool
    hv_start_low: int | None
    start: int
    end: int
    elf: bytes = field(repr=False)


def load(data: bytes, name: str) -> Image:
    """Read a guest's image; `name` is what messages call it.

    Raises ImageError for everything that is no PV64 guest.
    """
    try:
        return _load(data, name)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error.__cause__


def symbols(image: Image) -> list[tuple[int, int, str]]:
    """The image's symbols as (address, size, name), sorted; none where it has none or odd ones."""
    from hv.builder import symbols as elf_symbols

    return elf_symbols.symbols(parse_elf(image.elf), image.start, image.end)


def symbol_table(image: Image) -> SymbolTable:
    """Names for the image's addresses."""
    from hv.builder.symbols import SymbolTable

    return SymbolTable(symbols(image), image.end)


def _load(data: bytes, name: str) -> Image:
    elf = parse_elf(_unwrap(data))
    loadable = [header for header in elf.segments if header.loadable]
    _check_program_headers(elf, loadable)
    parameters = elf_notes.parse(elf)
    _check_guest(elf, parameters)
    virt_base, paddr_offset = _bases(parameters)
    entry = elf.entry if parameters.entry is None else parameters.entry
    segments, start, end = _place(elf, loadable, virt_base - paddr_offset, parameters)
    image = Image(
        name=name,
        segments=segments,
        entry=entry,
        virt_base=virt_base,
        paddr_offset=paddr_offset,
        hypercall_page=parameters.hypercall_page,
        init_p2m=parameters.init_p2m,
        mod_start_pfn=parameters.mod_start_pfn,
        guest_os=parameters.guest_os,
        loader=parameters.loader,
        guest_version=parameters.guest_version,
        features=parameters.features,
        bsd_symtab=parameters.bsd_symtab,
        supported_features=parameters.supported_features,
        suspend_cancel=parameters.suspend_cancel,
        hv_start_low=parameters.hv_start_low,
        start=start,
        end=end,
        elf=elf.data,
    )
    _check_addresses(image)
    return image


# Containers


def _unwrap(data: bytes) -> bytes:
    """The ELF file inside whatever surrounds it."""
    if not data:
        raise ImageError("the file is empty: give hv a guest's kernel")
    if data.startswith(MAGIC):
        return data
    from hv.builder import bzimage, compression

    if compression.is_compressed(data):
        data = compression.decompress(data)
        if data.startswith(MAGIC):
            return data
    if bzimage.is_bzimage(data):
        return bzimage.kernel(data)
    raise ImageError("not an ELF file, a compressed ELF file or a bzImage: give hv a guest's kernel")


# Refusals


def _check_program_headers(elf: Elf, loadable: list[ProgramHeader]) -> None:
    if not loadable:
        raise ImageError("ELF without loadable segments: there is nothing to run")
    for header in loadable:
        if header.offset + header.filesz > len(elf.data):
            raise ImageError(
                f"truncated ELF: the segment at {header.paddr:#x} lies beyond the end of the file;"
                " fetch it again"
            )
        if header.paddr + header.memsz > MASK64 + 1:
            raise ImageError(
                f"broken ELF: the segment at {header.paddr:#x} reaches past the end of the address"
                " space"
            )
        if header.filesz > header.memsz:
            raise ImageError(
                f"broken ELF: the segment at {header.paddr:#x} has {header.filesz:#x} bytes in the"
                f" file but {header.memsz:#x} in memory"
            )


def _check_guest(elf: Elf, notes: Parameters) -> None:
    """Whether this is a guest of the kind that hv runs, and asks only for what it can have."""
    if _is_pvh_only(notes):
        raise ImageError("PVH only (PHYS32_ENTRY): not supported yet; give hv a PV64 kernel")
    if elf.bits == 32:
        raise ImageError("PV32/32-bit guests are not supported: build the guest for x86-64")
    if not notes.found:
        raise ImageError(
            "ELF without Xen notes: not a Xen guest; build it with Xen PV support (elfnote.h)"
        )
    if not notes.loader.startswith("generic") and not notes.guest_os.startswith("linux"):
        raise ImageError(
            f"made for the loader {_shown(notes.loader)} and the system {_shown(notes.guest_os)}:"
            ' give it the note LOADER "generic", as Xen demands'
        )
    if not notes.xen_version.startswith("xen-3.0"):
        raise ImageError(
            f"made for Xen version {_shown(notes.xen_version)}:"
            ' give it the note XEN_VERSION "xen-3.0", as Xen demands'
        )
    if "dom0" in notes.required_features:
        raise ImageError(
            'the guest requires the feature "dom0": it runs only as domain 0, which hv itself is'
        )


def _is_pvh_only(notes: Parameters) -> bool:
    # Linux without PV support still says LOADER and GUEST_OS; any other guest that names its
    # system and a loader is taken at its word, as on Xen.
    if notes.phys32_entry is None:
        return False
    pv_notes = (notes.entry, notes.virt_base, notes.hypercall_page, notes.init_p2m)
    if any(note is not None for note in pv_notes):
        return False
    return notes.guest_os == "" or notes.guest_os.startswith("linux")


def _shown(text: str) -> str:
    """A guest's own words, fit for a message of one line."""
    return repr(text if len(text) <= 40 else text[:37] + "...") if text else "(none)"


def _check_addresses(image: Image) -> None:
    if not any(s.vaddr <= image.entry < s.vaddr + s.memory_size for s in image.segments):
        raise ImageError(
            f"the entry point {image.entry:#x} lies outside the loaded segments"
            f" ({image.start:#x} to {image.end:#x}): correct the note ENTRY or e_entry"
        )
    if image.virt_base > image.start:
        raise ImageError(
            f"its segments start at {image.start:#x}, below its VIRT_BASE {image.virt_base:#x}:"
            " correct the note VIRT_BASE or PADDR_OFFSET"
        )
    p2m = image.init_p2m
    if p2m is None:
        return
    if image.start <= p2m < image.end:
        raise ImageError(f"its INIT_P2M {p2m:#x} lies inside its own segments: correct the note")
    if not _in_guest_space(p2m, p2m + 1):
        raise ImageError(
            f"its INIT_P2M {p2m:#x} is no address that a guest can have: correct the note"
        )


# Placement


def _bases(notes: Parameters) -> tuple[int, int]:
    """VIRT_BASE and PADDR_OFFSET with their defaults: old loaders wanted p_paddr == p_vaddr."""
    if notes.virt_base is None and notes.paddr_offset is not None:
        raise ImageError("it has ELF_PADDR_OFFSET but no VIRT_BASE: give it the note VIRT_BASE")
    virt_base = notes.virt_base or 0
    if notes.paddr_offset is None:
        return virt_base, virt_base if notes.legacy else 0
    return virt_base, notes.paddr_offset


def _place(
    elf: Elf, loadable: list[ProgramHeader], offset: int, notes: Parameters
) -> tuple[tuple[Segment, ...], int, int]:
    """The segments in ascending order, and the range that they and the BSD symbols occupy."""
    # Empty segments occupy nothing, yet on Xen they stretch the kernel's range.
    low = min(header.paddr for header in loadable)
    high = max(header.paddr + header.memsz for header in loadable)
    symbol_area = None
    if notes.bsd_symtab:
        from hv.builder import symbols as elf_symbols

        symbol_area = elf_symbols.bsd_symtab(elf)
    symbols_at = high + 7 & ~7
    end = high if symbol_area is None else symbols_at + len(symbol_area)
    start = low + offset & MASK64
    _check_range(start, start + end - low)
    view = memoryview(elf.data)
    segments = [
        Segment(h.paddr + offset & MASK64, view[h.offset : h.offset + h.filesz], h.memsz)
        for h in sorted(loadable, key=lambda h: h.paddr)
        if h.memsz
    ]
    _check_overlap(segments)
    if symbol_area is not None:
        segments.append(Segment(symbols_at + offset & MASK64, symbol_area, len(symbol_area)))
    return tuple(segments), start, start + end - low


def _check_range(start: int, end: int) -> None:
    where = f"its segments span {start:#x} to {end:#x}"
    if end > MASK64 + 1:
        raise ImageError(f"{where}, past the end of the address space: link it elsewhere")
    if end - start > MAX_SPAN:
        raise ImageError(
            f"{where}, more than {MAX_SPAN >> 30} GiB: link it into one compact range"
            " (physical addresses count)"
        )
    if not _in_guest_space(start, end):
        raise ImageError(
            f"{where}, where a PV64 guest cannot be (non-canonical or reserved for Xen):"
            " link it elsewhere"
        )


def _in_guest_space(start: int, end: int) -> bool:
    return end <= _LOW_HALF_END or HYPERVISOR_VIRT_END <= start <= end <= MASK64 + 1


def _check_overlap(segments: list[Segment]) -> None:
    for lower, upper in pairwise(segments):
        if lower.vaddr + lower.memory_size > upper.vaddr:
            raise ImageError(
                f"its segments at {lower.vaddr:#x} and {upper.vaddr:#x} overlap:"
                " link them apart (physical addresses count)"
            )
