"""Hypercalls and exceptions as text: every row of the interface, and what no row describes."""

from __future__ import annotations

import pytest

from hv.abi import errno
from hv.abi import hypercalls as rows
from hv.abi.xen import DOMID_SELF
from hv.trace import decode, words

ALL_ONES = (1 << 64) - 1

# hypercall, registers, text
CALLS = (
    ("sched_op", (0, 0, 0, 0), "sched_op(cmd=SCHEDOP_yield, arg=0)"),
    ("sched_op", (99, 0x1000, 0, 0), "sched_op(cmd=99, arg=0x1000)"),
    ("iret", (1, 2, 3, 4), "iret()"),
    ("set_timer_op", (2500, 0, 0, 0), "set_timer_op(timeout=2500 ns)"),
    ("fpu_taskswitch", (ALL_ONES, 0, 0, 0), "fpu_taskswitch(set=-1)"),
    ("vcpu_op", (1, 3, 0, 0), "vcpu_op(cmd=VCPUOP_up, vcpuid=3, arg=0)"),
    (
        "mmu_update",
        (0xFFFFFFFF80003000, 1, 0, DOMID_SELF),
        "mmu_update(ureqs=0xffffffff80003000, count=1, pdone=0, foreigndom=DOMID_SELF)",
    ),
    ("argo_op", (1, 2, 3, 4), "argo_op(cmd=1, arg1=2, arg2=3, arg3=4, …)"),
)


@pytest.mark.parametrize(("name", "registers", "text"), CALLS, ids=[text for *_, text in CALLS])
def test_calls(name: str, registers: tuple[int, ...], text: str) -> None:
    assert decode.call_text(rows.BY_NAME[name].number, registers) == text


@pytest.mark.parametrize("number", [59, 64, ALL_ONES])
def test_a_number_without_a_row(number: int) -> None:
    assert decode.call_text(number, (0, 0x10)) == f"hypercall {number:#x} (Xen has none)(0, 0x10)"


@pytest.mark.parametrize("row", rows.HYPERCALLS, ids=lambda row: row.name)
@pytest.mark.parametrize("value", [0, 1, 0x7FF0, 1 << 31, ALL_ONES])
def test_every_row_has_a_text(row: rows.Hypercall, value: int) -> None:
    text = decode.call_text(row.number, (value,) * 4)
    assert text.startswith(f"{row.name}(") and text.endswith(")")
    for argument in row.arguments[:4]:
        assert f"{argument.name}=" in text


def test_results() -> None:
    assert words.result(0) == "0"
    assert words.result(0x40011) == "0x40011"
    assert words.result(None) == "made again for the rest"
    assert words.result(-4000) == "-4000"  # no error of Xen's
    assert words.result(-(1 << 40)) == f"{(1 << 64) - (1 << 40):#x}"
    for value in errno.ERRNOS:
        assert words.result(-value) == f"-{errno.name(value)}"


def test_entries() -> None:
    assert decode.entry_text(14, 2, 0xDEAD, False) == "page fault #PF error 0x2 at 0xdead"
    assert decode.entry_text(13, 0x40A, 7, False) == "general protection #GP error 0x40a"
    assert decode.entry_text(6, 0, 7, False) == "invalid opcode #UD"
    assert decode.entry_text(0x80, 0, 0, True) == "int 0x80"
    assert decode.entry_text(33, 0, 0, False) == "vector 0x21"
    assert decode.entry_text(None, 0, 0, False) == "event upcall"


def test_ports() -> None:
    assert words.source_of(2, 0, 3) == "from port 3 of domain 0"
    assert words.source_of(4, 0, 0) == "VIRQ_TIMER"
    assert words.source_of(4, 30, 0) == "VIRQ 30"
    assert len({words.source_of(state, 1, 2) for state in range(6)}) == 6
