"""The PV64 domain builder: from an image to a domain that can take its first step.

Rules:

1. Start-of-day is libxc's: kernel, modules, p2m list, start_info, store page, console page, page tables, boot stack,
   then at least 512 KiB of padding up to a 4 MiB boundary, all mapped from the image's virtual base on.
2. Guest frame numbers follow virtual addresses (pfn = (va - virt_base) / 4096); machine frames never equal them.
3. Page tables are mapped read-only and go through the same validation as a guest's own.

The layout is computed first (`Layout`, pure arithmetic), then written. Specification: the comment on start-of-day in
Xen's public xen.h; behaviour of tools/libs/guest (xg_dom_core.c, xg_dom_x86.c) in 4.17.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hv.abi import xen
from hv.errors import ImageError

if TYPE_CHECKING:
    from hv.builder.image import Image
    from hv.engine.machine import Engine, GuestDomain

HYPERCALL_PAGE = Path(__file__).resolve().parent.parent / "firmware" / "hypercall_page.bin"
PAGE = 4096
PADDING = 512 << 10
ALIGNMENT = 4 << 20
PRESENT, RW, USER, ACCESSED, DIRTY = 1, 2, 4, 0x20, 0x40
TABLE = PRESENT | RW | USER | ACCESSED | DIRTY
LEAF = PRESENT | RW | ACCESSED
VA_MASK = (1 << 48) - 1
COMMAND_LINE_MAX = xen.MAX_GUEST_CMDLINE - 1


def pages(size: int) -> int:
    return -(-size // PAGE)


@dataclass(slots=True)
class Area:
    """A run of guest frames; `va` is 0 where the guest gets it unmapped."""

    pfn: int
    count: int
    va: int


@dataclass(slots=True)
class Layout:
    """Where everything goes; addresses are the guest's virtual ones."""

    virt_base: int
    end: int  # end of the mapping that starts at virt_base
    p2m: Area
    start_info: Area
    store: Area
    console: Area
    tables: Area
    stack: Area
    ramdisk: Area | None = None
    table_pfns: dict[tuple[int, int], int] = field(default_factory=dict)  # (level, first va >> shift) -> pfn


@dataclass(frozen=True, slots=True)
class Built:
    """What the machine needs to know of a built domain."""

    console_mfn: int
    store_mfn: int


def table_keys(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(level, index) of every table that maps the ranges [from, to): level 4 once, then 3, 2, 1."""
    keys: list[tuple[int, int]] = [(4, 0)]
    for level in (3, 2, 1):
        shift = 12 + 9 * level
        seen: dict[int, None] = {}
        for start, end in ranges:
            first, last = (start & VA_MASK) >> shift, ((end - 1) & VA_MASK) >> shift
            seen.update(dict.fromkeys(range(first, last + 1)))
        keys += [(level, index) for index in seen]
    return keys


def plan(image: Image, nr_pages: int, ramdisk_size: int) -> Layout:
    """Decide the layout; ImageError where the image does not fit."""
    base = image.virt_base
    if image.start < base:
        raise ImageError(f"{image.name}: the kernel lies below its own virtual base {base:#x}: the image is broken")
    cursor = base + pages(image.end - base) * PAGE

    def take(count: int) -> Area:
        nonlocal cursor
        area = Area((cursor - base) // PAGE, count, cursor)
        cursor += count * PAGE
        return area

    p2m_pages = pages(nr_pages * 8)
    ramdisk = take(pages(ramdisk_size)) if ramdisk_size and not image.mod_start_pfn else None
    p2m = take(p2m_pages) if image.init_p2m is None else Area(0, p2m_pages, image.init_p2m)
    start_info, store, console = take(1), take(1), take(1)
    extra = [] if image.init_p2m is None else [(image.init_p2m, image.init_p2m + p2m_pages * PAGE)]
    keys, end = _fit_tables(base, cursor, extra)
    tables, stack = take(len(keys)), take(1)
    layout = Layout(base, end, p2m, start_info, store, console, tables, stack, ramdisk)
    layout.table_pfns = {key: tables.pfn + i for i, key in enumerate(keys)}
    used = (end - base) // PAGE
    if ramdisk_size and image.mod_start_pfn:
        layout.ramdisk = Area(used, pages(ramdisk_size), 0)
        used += layout.ramdisk.count
    if image.init_p2m is not None:
        p2m.pfn = used
        used += p2m_pages
    if used > nr_pages:
        raise ImageError(
            f"{image.name}: does not fit in {nr_pages * PAGE >> 20}M of memory, it needs {-(-used * PAGE >> 20)}M: "
            f"give it more with --memory"
        )
    return layout


def _fit_tables(base: int, cursor: int, extra: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], int]:
    """Tables map themselves, so their number and the end of the mapping depend on each other."""
    count = 0
    while True:
        wanted = cursor + (count + 1) * PAGE + PADDING
        end = -(-wanted // ALIGNMENT) * ALIGNMENT
        keys = table_keys([(base, end), *extra])
        if len(keys) <= count:
            return keys, end
        count = len(keys)


def build(
    engine: Engine,
    domain: GuestDomain,
    image: Image,
    nr_pages: int,
    *,
    cmdline: str = "",
    ramdisk: bytes = b"",
    store_port: int = 0,
    console_port: int = 0,
) -> Built:
    """Load the image into the domain and start its vCPU 0; ImageError where that is not possible."""
    command = cmdline.encode()
    if len(command) > COMMAND_LINE_MAX:
        raise ImageError(
            f"the command line has {len(command)} bytes, at most {COMMAND_LINE_MAX} are possible: shorten it"
        )
    layout = plan(image, nr_pages, len(ramdisk))
    p2m = domain.populate_range(0, nr_pages)
    mfns = memoryview(p2m).cast("Q")
    _load(engine, mfns, layout, image)
    if ramdisk and layout.ramdisk:
        _write(engine, mfns, layout.ramdisk.pfn * PAGE, ramdisk)
    _write(engine, mfns, layout.p2m.pfn * PAGE, p2m)
    root = _page_tables(engine, mfns, layout)
    info = _start_info(layout, image, nr_pages, domain.shared_mfn, len(ramdisk))
    info.store_mfn, info.store_evtchn = mfns[layout.store.pfn], store_port
    info.console.domU.mfn, info.console.domU.evtchn = mfns[layout.console.pfn], console_port
    info.cmd_line = command
    _write(engine, mfns, layout.start_info.pfn * PAGE, bytes(info))
    _start(domain, image, layout, root)
    return Built(info.console.domU.mfn, info.store_mfn)


def _write(engine: Engine, mfns: memoryview, address: int, data: bytes | memoryview) -> None:
    """Copy to guest-physical `address`, frame by frame."""
    view = memoryview(data)
    while len(view):
        offset = address % PAGE
        chunk = view[: PAGE - offset]
        engine.page(mfns[address // PAGE])[offset : offset + len(chunk)] = chunk
        address += len(chunk)
        view = view[len(chunk) :]


def _load(engine: Engine, mfns: memoryview, layout: Layout, image: Image) -> None:
    for segment in image.segments:
        _write(engine, mfns, segment.vaddr - layout.virt_base, segment.data)
    if image.hypercall_page is not None:
        offset = image.hypercall_page - layout.virt_base
        if offset < 0 or offset % PAGE or offset >= layout.end - layout.virt_base:
            raise ImageError(
                f"{image.name}: its hypercall page {image.hypercall_page:#x} lies outside the kernel's mapping"
            )
        _write(engine, mfns, offset, HYPERCALL_PAGE.read_bytes())


def _page_tables(engine: Engine, mfns: memoryview, layout: Layout) -> int:
    """Fill the tables; the mfn of the root."""
    table_range = range(layout.tables.pfn, layout.tables.pfn + layout.tables.count)
    for (level, index), pfn in layout.table_pfns.items():
        if level == 4:
            continue
        parent = layout.table_pfns[(level + 1, index >> 9 if level < 3 else 0)]
        _set_entry(engine, mfns[parent], index & 511, mfns[pfn] << 12 | TABLE)
    runs = [(layout.virt_base, 0, (layout.end - layout.virt_base) // PAGE)]
    if not layout.virt_base <= layout.p2m.va < layout.end:
        runs.append((layout.p2m.va, layout.p2m.pfn, layout.p2m.count))
    for va, first, count in runs:
        for i in range(count):
            pfn = first + i
            where = (va & VA_MASK) // PAGE + i
            flags = LEAF & ~RW if pfn in table_range else LEAF
            _set_entry(engine, mfns[layout.table_pfns[(1, where >> 9)]], where & 511, mfns[pfn] << 12 | flags)
    return int(mfns[layout.table_pfns[(4, 0)]])


def _set_entry(engine: Engine, mfn: int, index: int, value: int) -> None:
    struct.pack_into("<Q", engine.ram, mfn * PAGE + index * 8, value)


def _start_info(layout: Layout, image: Image, nr_pages: int, shared_mfn: int, ramdisk_size: int) -> xen.start_info:
    info = xen.start_info()
    info.magic = b"xen-3.0-x86_64"
    info.nr_pages = nr_pages
    info.shared_info = shared_mfn * PAGE
    info.pt_base = layout.tables.va
    info.nr_pt_frames = layout.tables.count
    info.mfn_list = layout.p2m.va
    if image.init_p2m is not None:
        info.first_p2m_pfn, info.nr_p2m_frames = layout.p2m.pfn, layout.p2m.count
    if layout.ramdisk:
        info.mod_len = ramdisk_size
        if image.mod_start_pfn:
            info.flags |= xen.SIF_MOD_START_PFN
            info.mod_start = layout.ramdisk.pfn
        else:
            info.mod_start = layout.ramdisk.va
    return info


def _start(domain: GuestDomain, image: Image, layout: Layout, root: int) -> None:
    if domain.pin_root(root):
        raise ImageError(
            f"{image.name}: its initial page tables were refused: this is an error in hv, please report it"
        )
    domain.start_vcpu(0, rip=image.entry, rsp=layout.stack.va + PAGE, rsi=layout.start_info.va, root=root)
