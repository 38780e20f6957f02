"""ELF cores: a stopped domain as a file that gdb opens together with the guest's image.

Rules:

1. Memory is the guest's virtual memory under the page tables of one vCPU: every address that they map, except the
   hypervisor's own. Reading it changes nothing in the guest.
2. A machine frame is in the file once, however often it is mapped: segments share it. So a core is never larger than
   the domain's memory, give or take its headers.
3. Page tables are hostile input: a frame that the domain does not own is left out, and what maps endlessly is cut off
   at `MOST_PAGES` or `MOST_SEGMENTS`; the caller is told.

Each vCPU that is up is a thread, the one that ran last first. Notes: NT_PRPSINFO, NT_PRSTATUS for each thread, and one
of hv's own (`NT_HV_REPORT`) with the crash report as text.

Formats: System V gABI (ELF); Linux's include/linux/elfcore.h and arch/x86/include/asm/user_64.h for the notes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from hv.engine.machine import GuestDomain
    from hv.machine.domain import Domain

PAGE = 4096
PRESENT, WRITABLE, SUPERPAGE, NO_EXECUTE = 1, 2, 0x80, 1 << 63
ADDRESS = 0x000F_FFFF_FFFF_F000
XEN_SLOTS = range(256, 272)  # of an L4 table
MOST_PAGES = 1 << 23  # 32 GiB of addresses
MOST_SEGMENTS = 60_000  # e_phnum has 16 bits

PT_LOAD, PT_NOTE = 1, 4
READ, WRITE, EXECUTE = 4, 2, 1
ET_CORE, EM_X86_64 = 4, 62
NT_PRSTATUS, NT_PRPSINFO = 1, 3
NT_HV_REPORT = 0x68760001
EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
PRSTATUS_HEAD = struct.Struct("<iiihHQQiiii64x")  # siginfo, cursig, sigpend, sighold, pid, ppid, pgrp, sid, times
PRPSINFO = struct.Struct("<4b4xQIIiiii16s80s")
USER_REGISTERS = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
    *("orig_rax", "rip", "cs", "rflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
)
SIGNALS = {0: 8, 1: 5, 3: 5, 6: 4, 13: 11, 14: 11}  # vector: SIGFPE, SIGTRAP, SIGILL, SIGSEGV
SIGABRT = 6


@dataclass(slots=True)
class Segment:
    """Consecutive addresses with equal rights, whose bytes are consecutive in the file; in pages."""

    va: int
    first: int  # place of the first page among the file's pages
    pages: int
    rights: int


def mapped(domain: Domain, root: int) -> Iterator[tuple[int, int, int]]:
    """(address, machine frame, rights) of every page that an L4 frame maps, in the order of addresses."""
    return _entries(domain.guest, domain.engine.ram, root, 4, 0, READ | WRITE | EXECUTE)


def _entries(
    guest: GuestDomain, ram: memoryview, table: int, level: int, base: int, rights: int
) -> Iterator[tuple[int, int, int]]:
    if not guest.owns(table):
        return
    for slot, entry in enumerate(struct.unpack("<512Q", ram[table * PAGE : (table + 1) * PAGE])):
        if not entry & PRESENT or (level == 4 and slot in XEN_SLOTS) or (level > 1 and entry & SUPERPAGE):
            continue
        allowed = rights & ~(0 if entry & WRITABLE else WRITE) & ~(EXECUTE if entry & NO_EXECUTE else 0)
        address, frame = base + (slot << 3 + 9 * level), (entry & ADDRESS) // PAGE
        if level == 4 and slot > XEN_SLOTS[-1]:
            address += 0xFFFF << 48  # canonical
        if level > 1:
            yield from _entries(guest, ram, frame, level - 1, address, allowed)
        elif guest.owns(frame):
            yield address, frame, allowed


def arrange(pages: Iterator[tuple[int, int, int]]) -> tuple[list[Segment], list[int], bool]:
    """(segments, machine frames in the file's order, whether everything fitted)."""
    segments: list[Segment] = []
    places: dict[int, int] = {}
    for count, (va, mfn, rights) in enumerate(pages):
        place = places.setdefault(mfn, len(places))
        last = segments[-1] if segments else None
        if last and (last.va + last.pages * PAGE, last.first + last.pages, last.rights) == (va, place, rights):
            last.pages += 1
            continue
        if count >= MOST_PAGES or len(segments) == MOST_SEGMENTS:
            return segments, list(places), False
        segments.append(Segment(va, place, 1, rights))
    return segments, list(places), True


def note(owner: str, kind: int, contents: bytes) -> bytes:
    name = owner.encode() + b"\0"
    return struct.pack("<III", len(name), len(contents), kind) + _padded(name) + _padded(contents)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _status(registers: dict[str, Any], vcpu: int, signal: int) -> bytes:
    """struct elf_prstatus; a vCPU's thread number is its own plus 1."""
    values = [registers.get(name, 0xFFFF_FFFF_FFFF_FFFF) for name in USER_REGISTERS]
    head = PRSTATUS_HEAD.pack(signal, 0, 0, signal, 0, 0, 0, vcpu + 1, 0, 0, 0)
    return head + struct.pack(f"<{len(values)}Q", *values) + bytes(8)


def _notes(domain: Domain, report: str) -> bytes:
    guest = domain.guest
    name, arguments = domain.name.encode()[:15], f"{domain.name} {domain.config.cmdline}".rstrip().encode()[:79]
    process = PRPSINFO.pack(0, ord("R"), 0, 0, 0, 0, 0, domain.domid, 0, 0, 0, name, arguments)
    notes = note("CORE", NT_PRPSINFO, process)
    current = guest.current_vcpu
    ran = [i for i in range(guest.nr_vcpus) if i != current and guest.vcpu_state(i) != "down"]
    for vcpu in (current, *ran):
        signal = signal_of(guest) if vcpu == current else 0
        notes += note("CORE", NT_PRSTATUS, _status(guest.registers(vcpu), vcpu, signal))
    return notes + note("hv", NT_HV_REPORT, report.encode())


def signal_of(guest: GuestDomain) -> int:
    """The signal that a process would have got; 0 for a guest that has not crashed."""
    if not guest.crashed:
        return 0
    entries = guest.last_entries()
    vector = entries[-1][2] if entries else None
    return SIGABRT if vector is None else SIGNALS.get(vector, SIGABRT)


def write(domain: Domain, file: BinaryIO, report: str) -> bool:
    """Write the core of a domain that does not run now; False where its page tables map more than a core can hold."""
    guest, ram = domain.guest, domain.engine.ram
    root = guest.registers(guest.current_vcpu)["cr3"] // PAGE
    segments, frames, complete = arrange(mapped(domain, root))
    notes = _notes(domain, report)
    notes_at = EHDR.size + PHDR.size * (len(segments) + 1)
    pages_at = -(-(notes_at + len(notes)) // PAGE) * PAGE
    file.write(_elf_header(len(segments) + 1))
    file.write(PHDR.pack(PT_NOTE, 0, notes_at, 0, 0, len(notes), 0, 4))
    for s in segments:
        size = s.pages * PAGE
        file.write(PHDR.pack(PT_LOAD, s.rights, pages_at + s.first * PAGE, s.va, 0, size, size, PAGE))
    file.write(notes.ljust(pages_at - notes_at, b"\0"))
    for mfn in frames:
        file.write(ram[mfn * PAGE : (mfn + 1) * PAGE])
    return complete


def _elf_header(headers: int) -> bytes:
    identification = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    return EHDR.pack(identification, ET_CORE, EM_X86_64, 1, 0, EHDR.size, 0, 0, EHDR.size, PHDR.size, headers, 0, 0, 0)


def write_file(domain: Domain, path: str | Path, report: str) -> bool:
    """As `write`, into a new file; one that could not be finished is removed, if it is a file and no device."""
    with open(path, "wb") as file:
        try:
            complete = write(domain, file, report)
            file.flush()
        except BaseException:
            if os.path.isfile(path):
                os.unlink(path)
            raise
    return complete
