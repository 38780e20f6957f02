"""ELF cores: read back with pyelftools, and by gdb where it is installed."""

from __future__ import annotations

import io
import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile  # type: ignore[import-untyped]
from guest_kit import PAGE, READ_ONLY, TABLE, Puppet, assemble, need_program, puppet

import hv
from hv.machine import core_file

CRASH = "main: call inner\n ret\n .globl inner\ninner: mov $0xabcd, %r15d\n xor %eax, %eax\n mov (%rax), %rbx"


@pytest.fixture
def gdb() -> str:
    """The debugger's path; without one the test is skipped, except in CI."""
    return need_program("gdb", "gdb")


def crash(path: Path, text: str = CRASH, **options: Any) -> hv.Domain:
    """Run a snippet to its crash; its core is at `path`."""
    with hv.Machine() as machine:
        machine.crash_listeners.append(lambda domain: written.append(domain.write_core(path)))
        written: list[bool] = []
        domain = machine.create(assemble(text), **options)
        machine.run(timeout=20)
    assert written == [True]
    return domain


def parts(core: bytes) -> tuple[dict[int, tuple[int, bytes]], list[tuple[str, int, bytes]]]:
    """(address: (rights, bytes) of each segment, (owner, type, contents) of each note)."""
    elf = ELFFile(io.BytesIO(core))
    assert (elf["e_type"], elf["e_machine"], elf.elfclass) == ("ET_CORE", "EM_X86_64", 64)
    loads, notes = {}, []
    for segment in elf.iter_segments():
        header = segment.header
        data = core[header.p_offset : header.p_offset + header.p_filesz]
        assert len(data) == header.p_filesz
        if header.p_type == "PT_LOAD":
            assert header.p_filesz == header.p_memsz and header.p_offset % PAGE == header.p_vaddr % PAGE == 0
            loads[header.p_vaddr] = (header.p_flags, data)
        else:
            notes += list(read_notes(data))
    return loads, notes


def read_notes(data: bytes) -> Any:
    while data:
        name_size, size, kind = struct.unpack_from("<III", data)
        start = 12 + -(-name_size // 4) * 4
        yield data[12 : 12 + name_size - 1].decode(), kind, data[start : start + size]
        data = data[start + -(-size // 4) * 4 :]


def contents(loads: dict[int, tuple[int, bytes]], address: int, size: int) -> bytes:
    for start, (_, data) in loads.items():
        if start <= address < start + len(data):
            return data[address - start : address - start + size]
    raise KeyError(hex(address))


def live_core(p: Puppet) -> bytes:
    file = io.BytesIO()
    assert core_file.write(p.domain, file, "text")
    return file.getvalue()


def test_notes_and_registers(tmp_path: Path) -> None:
    domain = crash(tmp_path / "core", cmdline="a=b", name="guest")
    _, notes = parts((tmp_path / "core").read_bytes())
    assert [(owner, kind) for owner, kind, _ in notes] == [("CORE", 3), ("CORE", 1), ("hv", core_file.NT_HV_REPORT)]
    process, status, report = (data for _, _, data in notes)
    assert len(process) == 136 and process[40:56].rstrip(b"\0") == b"guest" and process[56:].startswith(b"guest a=b\0")
    assert len(status) == 336 and status[0] == 11 and struct.unpack_from("<i", status, 32) == (1,)
    registers = dict(zip(core_file.USER_REGISTERS, struct.unpack_from("<27Q", status, 112), strict=True))
    assert (registers["r15"], registers["rax"], registers["cs"]) == (0xABCD, 0, 0xE033)
    assert f"rip {registers['rip']:016x}" in report.decode()
    assert report.decode() == domain.crash_report


def test_memory_is_what_the_guest_sees() -> None:
    with puppet() as p:
        p.guest.write(p.page(0), b"here" * 1024)
        loads, _ = parts(live_core(p))
        for address in (p.page(0), p.page(0) & ~(PAGE - 1), 0xFFFFFFFF80000000):
            assert contents(loads, address, 64) == p.guest.peek(address, 64)
        assert not any(256 <= address >> 39 & 511 < 272 for address in loads)
        assert p.alive


def test_every_mapped_page_once_with_its_rights() -> None:
    with puppet() as p:
        shown = p.mfn(p.page(0))
        assert p.map(p.page(1), shown, READ_ONLY) == 0  # two addresses, one frame
        assert p.map(p.page(2), 0, 0) == 0
        core = live_core(p)
        loads, _ = parts(core)
        assert contents(loads, p.page(1), PAGE) == contents(loads, p.page(0), PAGE)
        assert loads[p.page(1)][0] == core_file.READ | core_file.EXECUTE
        with pytest.raises(KeyError):
            contents(loads, p.page(2), 1)
        pages = sum(len(data) for _, data in loads.values()) // PAGE
        assert len({address + at for address, (_, data) in loads.items() for at in range(0, len(data), PAGE)}) == pages
        assert len(core) < p.guest.nr_pages * PAGE + 64 * PAGE


def test_tables_that_map_endlessly(monkeypatch: pytest.MonkeyPatch) -> None:
    """512 entries to one table each on three levels are 512 GiB of addresses out of three frames."""
    with puppet() as p:
        tables = [p.page(i) for i in range(3)]
        target = p.mfn(p.page(3))
        for table in tables:
            frame = p.mfn(table)
            flags = TABLE if table != tables[0] else READ_ONLY
            p.guest.write(table, struct.pack("<Q", target << 12 | flags) * 512)
            assert p.map(table, frame, READ_ONLY) == 0
            target = frame
        assert p.mmu_update(p.slot(4, 0), target << 12 | TABLE) == 0
        monkeypatch.setattr(core_file, "MOST_SEGMENTS", 1000)
        file = io.BytesIO()
        assert not core_file.write(p.domain, file, "text")
        loads, _ = parts(file.getvalue())
        assert len(loads) == 1000 and len(file.getvalue()) < 1 << 20


def test_vcpus_are_threads(tmp_path: Path) -> None:
    with hv.Machine() as machine:
        domain = machine.create("smp", vcpus=2)
        while domain.guest.vcpu_state(1) == "down":
            machine.run(until_ns=machine.now_ns + 1000)
        file = io.BytesIO()
        assert core_file.write(domain, file, "text")
        _, notes = parts(file.getvalue())
        threads = [struct.unpack_from("<i", data, 32)[0] for _, kind, data in notes if kind == 1]
        assert sorted(threads) == [1, 2] and threads[0] == domain.guest.current_vcpu + 1


def test_a_file_that_cannot_be_finished_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> bytes:
        raise OSError("full")

    monkeypatch.setattr(core_file, "_notes", fails)
    with puppet() as p, pytest.raises(OSError, match="full"):
        p.domain.write_core(tmp_path / "core")
    assert not list(tmp_path.iterdir())


def test_gdb_opens_it(tmp_path: Path, gdb: str) -> None:
    image, core = tmp_path / "image", tmp_path / "core"
    image.write_bytes(assemble(CRASH))
    crash(core)
    orders = ("info registers rip r15", "x/2i $rip", "bt", "x/gx $rsp", "info threads")
    command = [gdb, "-nx", "-batch", *(word for order in orders for word in ("-ex", order)), str(image), str(core)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "Program terminated with signal SIGSEGV" in done.stdout
    assert re.search(r"rip +0x\w+ +0x\w+ <inner\+8>", done.stdout)
    assert re.search(r"r15 +0xabcd ", done.stdout)
    assert re.search(r"=> 0x\w+ <inner\+8>:\s+mov +\(%rax\),%rbx", done.stdout)
    assert re.search(r"#0 +0x\w+ in inner \(\)\n#1 +0x\w+ in main \(\)", done.stdout)
    assert "LWP 1" in done.stdout


def test_the_first_number_of_prstatus_is_the_signal(tmp_path: Path) -> None:
    signals = {"ud2": 4, "xor %ecx, %ecx\n div %ecx": 8, "hlt": 11, "shut_down SHUTDOWN_crash": 0}
    for instruction, signal in signals.items():
        crash(tmp_path / "core", f"main: {instruction}")
        _, notes = parts((tmp_path / "core").read_bytes())
        assert notes[1][2][0] == signal, instruction
