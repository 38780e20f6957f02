"""What a hypercall's line says: structures in and out, and whatever a hostile guest puts into its registers."""

from __future__ import annotations

import re
import struct
from typing import Any

import pytest
from guest_kit import ACCESSED, READ_ONLY, UNMAPPED, Puppet, puppet
from hypothesis import given, settings
from hypothesis import strategies as st

from hv.abi import event_channel, xen
from hv.abi.hypercalls import BY_NUMBER, HYPERCALLS
from hv.trace import decoders, notes
from hv.trace.capture import CAPTURES, of_call
from hv.trace.events import Event, Hypercall, Note, PageTable, PortEvent
from hv.trace.records import Piece
from hv.trace.sinks import jsonl

WORD = (1 << 64) - 1
NO_PORT = 900


def traced(p: Puppet, name: str | int, *arguments: int | bytes) -> list[Event]:
    """What a hypercall of the puppet left in the trace, itself first."""
    found: list[Event] = []
    with p.machine.trace.subscribe(found.append):
        p.hypercall(name, *arguments)
    number = next(row.number for row in HYPERCALLS if row.name == name) if isinstance(name, str) else name
    return [*(e for e in found if isinstance(e, Hypercall) and e.number == number), *found]


def line(p: Puppet, name: str | int, *arguments: int | bytes) -> str:
    return decoders.text(traced(p, name, *arguments)[0])


def test_structures_in_and_out() -> None:
    with puppet() as p:
        bind = struct.pack("<3I", xen.VIRQ_DEBUG, 0, 0)
        text = line(p, "event_channel_op", event_channel.EVTCHNOP_bind_virq, bind)
        assert "(cmd=EVTCHNOP_bind_virq, arg={virq=VIRQ_DEBUG, vcpu=0, port=0} ⇒ {port=" in text
        assert text.endswith("}) = 0")
        close = struct.pack("<I", NO_PORT)
        text = line(p, "event_channel_op", event_channel.EVTCHNOP_close, close)
        assert text == "event_channel_op(cmd=EVTCHNOP_close, arg={port=0x384}) = -EINVAL"


def test_arrays_and_what_pointers_in_structures_lead_to() -> None:
    with puppet() as p:
        text = line(p, "console_io", 0, 5, b"hi\n\x00\xff")
        assert 'buffer="hi\\n\\x00\\xff"' in text
        frames = p.place(struct.pack("<2Q", 0, 0))
        reservation = struct.pack("<QQIIHxxxxxx", frames, 2, 0, 0, xen.DOMID_SELF)
        text = line(p, "memory_op", 6, reservation[:32])
        assert "cmd=XENMEM_populate_physmap" in text and "nr_extents=2" in text and "→ [0, 0]" in text


def test_page_table_updates() -> None:
    with puppet() as p:
        page = p.page(3)
        events = traced(p, "update_va_mapping", page, p.mfn(page) << 12 | READ_ONLY, 2)
        changed = next(e for e in events if isinstance(e, PageTable))
        assert (changed.level, changed.address, changed.slot) == (1, page, p.slot(1, page))
        assert changed.cause == events[0].id and changed.old != changed.new and not changed.new & 2
        assert f"maps {page:#x}" in decoders.text(changed)
        request = struct.pack("<2Q", p.slot(1, page) | xen.MMU_NORMAL_PT_UPDATE, 0)
        text = line(p, "mmu_update", request, 1, 0, xen.DOMID_SELF)
        assert f"{{MMU_NORMAL_PT_UPDATE {p.slot(1, page):#x} = 0}}" in text


HOSTILE = (
    ("a pointer to nothing", "event_channel_op", (event_channel.EVTCHNOP_close, UNMAPPED), "(not readable)) = -EFAULT"),
    ("hv's memory", "event_channel_op", (event_channel.EVTCHNOP_close, 0xFFFF_8000_0000_0000), "arg="),
    ("no canonical address", "event_channel_op", (event_channel.EVTCHNOP_close, 1 << 63), "(not readable)) = -EFAULT"),
    ("the end of memory", "event_channel_op", (event_channel.EVTCHNOP_close, WORD - 1), "(not readable)) = -EFAULT"),
    ("no sub-operation", "event_channel_op", (77, 0), "event_channel_op(cmd=77, arg=0) = -ENOSYS"),
    ("a negative one", "sched_op", (WORD, 0), "sched_op(cmd=-1, arg=0) = -ENOSYS"),
    ("no hypercall", 1 << 40, (1, 2), "hypercall 0x10000000000 (Xen has none)(1, 2"),
    ("a number without a row", 63, (), "hypercall 0x3f"),
    ("a huge count", "mmu_update", (UNMAPPED, 0x7FFFFFFF, 0, 0x7FF0), "(not readable)"),
    ("many more than there are", "console_io", (0, 0x7FFFFFFF, UNMAPPED), "(not readable)"),
    ("no traps", "set_trap_table", (UNMAPPED,), "traps=0x600000000000 (not readable)) = -EFAULT"),
)


@pytest.mark.parametrize(("name", "arguments", "says"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_what_a_hostile_guest_asks(name: str | int, arguments: tuple[int, ...], says: str) -> None:
    with puppet() as p:
        assert says in line(p, name, *arguments)
        assert p.alive


def test_a_structure_at_the_end_of_a_page() -> None:
    with puppet() as p:
        assert p.map(p.page(5), 0, 0) == 0
        text = line(p, "event_channel_op", event_channel.EVTCHNOP_bind_virq, p.page(5) - 8)
        assert "arg={virq=" in text and "…}" in text and text.endswith("= -EFAULT")


def test_looking_at_arguments_changes_nothing() -> None:
    with puppet() as p:
        page = p.page(3)
        assert p.map(page, p.mfn(page), READ_ONLY & ~ACCESSED) == 0
        assert "cmd=SCHEDOP_pin_override, arg={pcpu=0}) = -EPERM" in line(p, "sched_op", 7, page)  # Xen does not look
        assert not p.leaf(page)[1] & ACCESSED


def test_every_capture_fits_a_record() -> None:
    for captures in CAPTURES.values():
        assert len(captures) <= 3


PIECES = st.builds(
    lambda register, nested, address, data, more: Piece(register, nested, address, len(data) + more, data),
    st.integers(0, 5),
    st.booleans(),
    st.integers(0, WORD),
    st.binary(max_size=80),
    st.integers(0, 1 << 31),
)


def plausible(number: int, registers: tuple[int, ...], pieces: list[Piece]) -> Hypercall:
    """Of the pieces, those that the engine could have made."""
    rows = {row.register: row for row in of_call(number, registers)}
    kept: dict[tuple[int, bool], Piece] = {}
    for piece in pieces:
        row = rows.get(piece.register)
        if row is not None and (not piece.nested or (row.nested is not None and (piece.register, False) in kept)):
            kept.setdefault((piece.register, piece.nested), piece)
    memory = tuple(kept.values())
    return Hypercall(1, 0, 0, 1, 0, number, registers, False, memory, 0, False, memory[:1])


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(BY_NUMBER)),
    st.tuples(*[st.one_of(st.integers(0, 40), st.integers(0, WORD))] * 6),
    st.lists(PIECES, max_size=4),
)
def test_any_call_has_a_text_and_json(number: int, registers: tuple[int, ...], pieces: list[Piece]) -> None:
    call: Any = plausible(number, registers, pieces)
    assert decoders.text(call).startswith(BY_NUMBER[number].name)
    assert jsonl.as_dictionary(call)["name"] == BY_NUMBER[number].name




def note(source: str, what: str, data: bytes = b"") -> str:
    return decoders.text(Note(1, 0, 0, 1, None, source, what, data))


def test_what_the_host_side_reports() -> None:
    request = notes.BLOCK_REQUEST.pack(7, 1, 2048, 3, 1) + b"xvda"
    assert note("block", "request", request) == "block xvda: request 7: WRITE at sector 2048, segments: 3, indirect"
    response = notes.BLOCK_RESPONSE.pack(7, 1, 24, -1, 10) + b"xvda"
    assert note("block", "response", response) == "block xvda: response 7: WRITE ERROR, sectors: 24, 10 ns"
    request = notes.BLOCK_REQUEST.pack(2**64 - 1, 5, 8, 16, 0) + b"xvdb"
    assert note("block", "request", request) == f"block xvdb: request {2**64 - 1}: DISCARD at sector 8, sectors: 16"
    arp = b"xenbr0\0" + b"\xff" * 6 + bytes.fromhex("00163e000001") + b"\x08\x06" + bytes(28)
    assert note("net", "frame", arp) == "net xenbr0: ARP from 00:16:3e:00:00:01 to ff:ff:ff:ff:ff:ff, 42 bytes"
    assert note("interrupt", "PIRQ 9 up") == "interrupt: PIRQ 9 up"
    assert note("nobody", "knows", b"this") == "note source='nobody', what='knows', data=b'this'"


def test_an_interrupt_from_outside_is_the_cause_of_its_event() -> None:
    with puppet() as p:
        p.hypercall("event_channel_op", event_channel.EVTCHNOP_bind_virq, struct.pack("<3I", xen.VIRQ_DEBUG, 0, 0))
        found: list[Event] = []
        with p.machine.trace.subscribe(found.append):
            p.machine.domains[0].raise_virq(xen.VIRQ_DEBUG)
        assert isinstance(found[0], Note) and isinstance(found[1], PortEvent) and found[1].cause == found[0].id


def test_a_list_that_its_last_element_ends() -> None:
    with puppet() as p:
        traps = struct.pack("<BBHIQ", 0x80, 3, 0xE033, 0, p.page(1)) + bytes(16) + struct.pack("<4Q", 1, 2, 3, 4)
        text = line(p, "set_trap_table", traps)
        assert text.count("vector=") == 2 and text.endswith("address=0}]) = 0")


def test_what_a_call_writes_behind_a_pointer() -> None:
    with puppet() as p:
        extents = p.place(struct.pack("<Q", p.mfn(p.page(6))))
        reservation = struct.pack("<QQIIHxxxxxx", extents, 1, 0, 0, xen.DOMID_SELF)
        assert p.map(p.page(6), 0, 0) == 0
        assert " → 0x" in line(p, "memory_op", 1, reservation)
        p.guest.write(extents, struct.pack("<Q", 0x3000))  # a guest frame for it
        text = line(p, "memory_op", 6, reservation)
        assert re.search(r" → 0x3000 ⇒ 0x\w+\) = 1$", text), text
