"""What the engine keeps for people: the last hypercalls and exceptions, and looks at memory that change nothing."""

from __future__ import annotations

import struct

import pytest
from guest_kit import ACCESSED, PAGE, READ_ONLY, UNMAPPED, Fault, Puppet, puppet

from hv.abi import hypercalls as rows
from hv.abi.errno import XEN_ENOSYS
from hv.abi.xen import DOMID_SELF, MMUEXT_TLB_FLUSH_LOCAL, VMASST_CMD_enable, VMASST_TYPE_4gb_segments

HISTORY = 16
PAGE_FAULT, UNDEFINED = 14, 6


def number(name: str) -> int:
    return rows.BY_NAME[name].number


def calls(p: Puppet, name: str) -> list[tuple[tuple[int, ...], int | None, bool]]:
    """(registers, result, in a multicall) of the kept calls of one name."""
    return [
        (registers, result, inside)
        for _, _, what, registers, result, inside in p.guest.last_calls()
        if what == number(name)
    ]


def test_a_call_is_kept_with_arguments_and_result() -> None:
    with puppet() as p:
        p.hypercall("stack_switch", 0xE02B, p.page(1), 3, 4)
        assert calls(p, "stack_switch") == [((0xE02B, p.page(1), 3, 4), 0, False)]


def test_a_cold_call_and_a_number_that_is_none() -> None:
    with puppet() as p:
        p.hypercall("vm_assist", VMASST_CMD_enable, VMASST_TYPE_4gb_segments)
        p.hypercall(1 << 40, 7)
        kept = [(what, registers[0], result) for _, _, what, registers, result, _ in p.guest.last_calls()]
        assert (number("vm_assist"), VMASST_CMD_enable, 0) in kept
        assert (1 << 40, 7, -XEN_ENOSYS) in kept


def test_only_the_last_are_kept_in_order() -> None:
    with puppet() as p:
        for turn in range(3 * HISTORY):
            p.hypercall("set_segment_base", 1, turn * PAGE)
        kept = p.guest.last_calls()
        assert len(kept) == HISTORY
        times = [ns for ns, *_ in kept]
        assert times == sorted(times) and times[-1] <= p.machine.now_ns
        bases = [registers[1] // PAGE for registers, _, _ in calls(p, "set_segment_base")]
        assert bases == list(range(3 * HISTORY))[-len(bases) :] and len(bases) > 3


def test_elements_of_a_multicall_come_before_it() -> None:
    with puppet() as p:
        entry = struct.pack("<8Q", number("xen_version"), 0, 0, 0, 0, 0, 0, 0)
        assert p.hypercall("multicall", entry * 2, 2) == 0
        kept = [(what, inside) for _, _, what, _, _, inside in p.guest.last_calls()]
        at = kept.index((number("multicall"), False))
        assert kept[at - 2 : at] == [(number("xen_version"), True)] * 2


def test_a_call_in_parts_has_no_result_until_the_last() -> None:
    with puppet() as p:
        flush = struct.pack("<I4x2Q", MMUEXT_TLB_FLUSH_LOCAL, 0, 0)  # 64 of them are a part
        assert p.hypercall("mmuext_op", flush * 70, 70, 0, DOMID_SELF) == 0
        assert [result for _, result, _ in calls(p, "mmuext_op")] == [None, 0]


def test_exceptions_are_kept() -> None:
    with puppet() as p:
        with pytest.raises(Fault):
            p.load(UNMAPPED + 8)
        with pytest.raises(Fault):
            p.execute(p.place(b"\x0f\x0b"))
        kept = p.guest.last_entries()
        assert [(vector, error) for _, _, vector, error, *_ in kept] == [(PAGE_FAULT, 0), (UNDEFINED, 0)]
        _, vcpu, _, _, address, rip, software, kernel = kept[0]
        assert (vcpu, address, software, kernel) == (0, UNMAPPED + 8, False, True)
        assert p.guest.peek(rip, 3) == bytes.fromhex("488b07")  # mov (%rdi), %rax


def test_looking_changes_nothing() -> None:
    with puppet() as p:
        page = p.page(3)
        assert p.map(page, p.mfn(page), READ_ONLY & ~ACCESSED) == 0
        assert p.guest.peek(page, 8) == bytes(8)
        p.guest.walk(page)
        assert not p.leaf(page)[1] & ACCESSED
        p.load(page)
        assert p.leaf(page)[1] & ACCESSED


def test_peek_stops_where_nothing_is_mapped() -> None:
    with puppet() as p:
        p.guest.write(p.page(4), b"x" * PAGE)
        assert p.map(p.page(5), 0, 0) == 0
        assert p.guest.peek(p.page(5) - 10, 100) == b"x" * 10
        assert p.guest.peek(p.page(5), 1) == b""
        assert p.guest.peek(1 << 47, 1) == b""
        assert p.guest.peek((1 << 64) - 8, 100) == b""
