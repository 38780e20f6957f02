"""What hv.abi generates is accepted by the compiler, the assembler and Cython, and is right."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from hv.abi import emit

COMPILE = ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-c"]


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all three files."""
    folder = tmp_path_factory.mktemp("abi")
    emit.main(["--c", str(folder), "--asm", str(folder)])
    return folder


def test_header_stands_alone(emitted: Path) -> None:
    source = emitted / "alone.c"
    source.write_text('#include "xen_abi.h"\n#include "xen_abi.h"\n')
    subprocess.run([*COMPILE, "-o", emitted / "alone.o", source], check=True)


def test_header_has_the_values(emitted: Path) -> None:
    source = emitted / "values.c"
    checks = [
        f'_Static_assert((unsigned long long){name} == {value % (1 << 64)}ULL, "{name}");'
        for name, value in emit.constants().items()
    ]
    source.write_text("\n".join(['#include "xen_abi.h"', *checks, ""]))
    subprocess.run([*COMPILE, "-o", emitted / "values.o", source], check=True)


def test_include_assembles(emitted: Path) -> None:
    source = emitted / "guest.s"
    source.write_text(
        '.include "xen.inc"\n'
        ".quad __HYPERVISOR_iret, start_info_console_domU_evtchn, sizeof_shared_info\n"
        ".quad HYPERVISOR_VIRT_START, GNTST_bad_gntref\n"
    )
    command = ["cc", "-c", "-x", "assembler", f"-Wa,-I{emitted}"]
    subprocess.run([*command, "-o", emitted / "guest.o", source], check=True)
    raw = emitted / "guest.bin"
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", emitted / "guest.o", raw], check=True)
    values = [int.from_bytes(raw.read_bytes()[at : at + 8], "little") for at in range(0, 40, 8)]
    assert values == [23, 80, 3136, 0xFFFF800000000000, (1 << 64) - 3]


def test_cython_accepts_the_declarations(emitted: Path) -> None:
    source = emitted / "user.pyx"
    source.write_text(
        "cimport xen_abi\n"
        "from xen_abi cimport xen_shared_info, xen_xencons_interface, EVTCHNOP_send\n"
        "def look(unsigned long long address):\n"
        "    cdef xen_shared_info *shared = <xen_shared_info *>address\n"
        "    cdef xen_xencons_interface *ring = <xen_xencons_interface *>address\n"
        "    shared.vcpu_info[1].evtchn_upcall_pending = EVTCHNOP_send\n"
        "    return ring.in_[0] + xen_abi.HYPERVISOR_VIRT_START + xen_abi.__HYPERVISOR_iret\n"
    )
    command = [sys.executable, "-m", "cython", "-3", "-Werror", f"-I{emitted}"]
    subprocess.run([*command, "-o", emitted / "user.c", source], check=True)
    python = subprocess.run(
        [sys.executable, "-c", "import sysconfig as s; print(s.get_path('include'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    subprocess.run(
        ["cc", "-fsyntax-only", f"-I{python}", f"-I{emitted}", emitted / "user.c"], check=True
    )


def test_all_declarations_name_something_in_the_header(emitted: Path) -> None:
    """Cython does not check what it is told of C, so a user of every name is compiled."""
    source = emitted / "every.c"
    lines = ['#include "xen_abi.h"', "uint64_t every[] = {"]
    lines += [f"    (uint64_t){name}," for name in emit.constants()]
    lines += ["};"]
    for cls in emit.structures():
        name = emit.struct_name(cls)
        lines += [f"extern char has_{name}[sizeof({name}) == {ctypes.sizeof(cls)} ? 1 : -1];"]
    source.write_text("\n".join([*lines, ""]))
    subprocess.run([*COMPILE, "-o", emitted / "every.o", source], check=True)


def test_output_is_stable() -> None:
    command = [sys.executable, "-c", "from hv.abi import emit; print(emit.assembler_include())"]
    first, second = (subprocess.check_output(command) for _ in range(2))
    assert first == second


def test_an_unchanged_file_is_not_written_again(tmp_path: Path) -> None:
    emit.write(tmp_path, "a", "text")
    before = (tmp_path / "a").stat().st_mtime_ns
    emit.write(tmp_path, "a", "text")
    assert (tmp_path / "a").stat().st_mtime_ns == before
