"""How events reach a guest: blocks, polls and upcalls, wherever the vcpu_info is, with both ABIs."""

from __future__ import annotations

import struct

import pytest
from guest_kit import Puppet, assemble, puppet

import hv
from hv.abi.xen import DOMID_SELF

UPCALL_AT, MASK_AT, SELECTOR_AT, PENDING_BITS, MASK_BITS = 0, 1, 8, 2048, 2560
SEND, STATUS, UNBOUND, IPI, VCPU, UNMASK, RESET, INIT_CONTROL, EXPAND = 4, 5, 6, 7, 8, 9, 10, 11, 12
PENDING, MASKED, LINKED = 1 << 31, 1 << 30, 1 << 29

# Sleeps as asked by the word `how`, and counts how often it came back.
SLEEPER = """
        use_shared_info
        use_events on_event
main:   call    map_shared_info
        hypercall set_callbacks, $event, $0, $0
        hypercall event_channel_op, $EVTCHNOP_bind_ipi, $ipi
        hypercall event_channel_op, $EVTCHNOP_alloc_unbound, $other
        println "ready"
        jmp     {how}
block:  hypercall event_channel_op, $EVTCHNOP_unmask, $port
1:      hypercall sched_op, $SCHEDOP_block
        print   "back"
        jmp     1b
poll:   hypercall sched_op, $SCHEDOP_poll, $request
        print   "back"
        mov     port, %eax
        lock btr %rax, shared_info + shared_info_evtchn_pending
        jmp     poll
        entry   event, on_upcall
on_upcall:
        call    scan_events
        ret
on_event:
        print   "event "
        ret
        .data
        .balign 8
request:
        .quad   {ports}
        .long   {count}, 0
        .quad   0
ipi:    .long   0
port:   .long   0
other:  .word   DOMID_SELF, DOMID_SELF
        .long   0
both:   .long   4, 3
"""
IPI_PORT, OTHER_PORT = 3, 4


@pytest.mark.parametrize(
    ("how", "ports", "count", "raised", "output"),
    [
        ("block", "port", 1, IPI_PORT, b"event back"),
        ("block", "port", 1, OTHER_PORT, b""),  # masked: pending, and the vCPU sleeps on
        ("poll", "port", 1, IPI_PORT, b"back"),  # masked: that is what polling is for
        ("poll", "port", 1, OTHER_PORT, b""),
        ("poll", "both", 2, IPI_PORT, b"back"),
        ("poll", "both", 2, 1, b"back"),  # with several, Xen does not remember which: any event wakes
        ("poll", "0", 0, OTHER_PORT, b"back"),  # polling for nothing is polling for anything
    ],
)
def test_who_wakes(how: str, ports: str, count: int, raised: int, output: bytes) -> None:
    with hv.Machine() as machine:
        domain = machine.create(assemble(SLEEPER.format(how=how, ports=ports, count=count)))
        domain.console.expect("ready\n")
        machine.run(timeout=10, until_ns=machine.now_ns + 10**7)
        domain.guest.raise_port(raised)
        machine.run(timeout=10, until_ns=machine.now_ns + 10**7)
        assert domain.console.output.partition(b"ready\n")[2] == output


def fifo(p: Puppet, pages: int = 1) -> tuple[int, int]:
    """Change to the FIFO ABI: addresses of the control block and of the array."""
    assert p.hypercall("event_channel_op", INIT_CONTROL, struct.pack("<QII8x", p.mfn(p.page(20)), 0, 0)) == 0
    for i in range(pages):
        request = struct.pack("<Q", p.mfn(p.page(21 + i)))
        assert p.hypercall("event_channel_op", EXPAND, request) == 0
    return p.page(20), p.page(21)


def an_ipi(p: Puppet) -> int:
    request = p.place(struct.pack("<II", 0, 0))
    assert p.hypercall("event_channel_op", IPI, request) == 0
    return int(struct.unpack("<I", p.guest.read(request + 4, 4))[0])


def send(p: Puppet, port: int) -> None:
    assert p.hypercall("event_channel_op", SEND, struct.pack("<I", port)) == 0


def word(p: Puppet, array: int, port: int) -> int:
    return int(struct.unpack("<I", p.guest.read(array + 4 * port, 4))[0])


def test_pending_events_come_along_to_fifo() -> None:
    """What is pending in the bitmap waits for the array's page, masked or not; then it is on the default queue."""
    with puppet() as p:
        port = an_ipi(p)
        send(p, port)
        control, array = fifo(p)
        assert word(p, array, port) == PENDING | LINKED
        ready, _, *heads = struct.unpack("<18I", p.guest.read(control, 72))
        assert ready >> 7 & 1
        assert heads[7] != 0
        rows = {row.port: row for row in p.domain.events}
        assert rows[port].pending
        assert (rows[port].priority, rows[port].sent, rows[port].delivered) == (7, 1, 0)


def test_reset_goes_back_to_2_level() -> None:
    with puppet() as p:
        frames = [p.mfn(p.page(20 + i)) for i in range(3)]
        before = [p.engine.frame(frame) for frame in frames]
        fifo(p, 2)
        assert [p.engine.frame(frame)[2] for frame in frames] == [facts[2] + 1 for facts in before]
        assert p.hypercall("event_channel_op", RESET, struct.pack("<HH", DOMID_SELF, 0)) == 0
        assert not p.guest.fifo
        assert [p.engine.frame(frame) for frame in frames] == before
        assert list(p.domain.events) == []
        port = an_ipi(p)
        send(p, port)
        shared = p.engine.page(p.guest.shared_mfn)
        assert shared[PENDING_BITS + port // 8] >> port % 8 & 1


def test_fifo_pages_never_become_page_tables() -> None:
    """The writable references outlive the guest's own mappings, and its giving the page away."""
    with puppet() as p:
        fifo(p)
        for index in (20, 21):
            frame = p.mfn(p.page(index))
            assert p.hypercall("update_va_mapping", p.page(index), 0, 2) == 0
            assert p.mmuext(0, frame) < 0  # MMUEXT_PIN_L1_TABLE
            assert p.engine.frame(frame)[1] == "writable"
            request = struct.pack("<QQIIH6x", p.place(struct.pack("<Q", frame)), 1, 0, 0, DOMID_SELF)
            p.hypercall("memory_op", 1, request)  # decrease_reservation
            assert p.engine.frame(frame)[0] == p.domain.domid, "hv still writes there"
        send(p, an_ipi(p))
        assert p.alive


def test_closed_while_queued() -> None:
    """The port stays busy until the guest has taken it off its queue; then its number is free again."""
    with puppet() as p:
        _, array = fifo(p)
        port = an_ipi(p)
        send(p, port)
        assert p.hypercall("event_channel_op", 3, struct.pack("<I", port)) == 0
        assert word(p, array, port) == LINKED
        assert an_ipi(p) == port + 1
        p.guest.write(array + 4 * port, struct.pack("<I", 0))
        assert an_ipi(p) == port


def test_no_control_block_no_event() -> None:
    """A vCPU without one loses its events, as on Xen; another's come."""
    with puppet(vcpus=2) as p:
        _, array = fifo(p)
        port = an_ipi(p)
        other = p.place(struct.pack("<II", 1, 0))
        assert p.hypercall("event_channel_op", IPI, other) == 0
        lost = struct.unpack("<I", p.guest.read(other + 4, 4))[0]
        send(p, lost)
        send(p, port)
        assert word(p, array, lost) == 0
        assert word(p, array, port) == PENDING | LINKED


@pytest.mark.parametrize("vcpu", [0, 1, 31, 32, 39])
def test_vcpu_info(vcpu: int) -> None:
    """In shared_info, hv's own for vCPUs from 32 on, then where the guest puts it: bits go there and nowhere else."""
    with puppet(vcpus=40) as p:
        if vcpu:  # of vCPU 0 the console's port may be pending
            assert p.guest.upcall_state(vcpu) == (0, 1, 0)
        frame = p.mfn(p.page(5))
        assert p.hypercall("vcpu_op", 10, vcpu, struct.pack("<QII", frame, 256, 0)) == 0
        info = p.engine.page(frame)[256 : 256 + 64]
        assert (info[UPCALL_AT], info[MASK_AT]) == (1, 1)
        assert struct.unpack_from("<Q", info, SELECTOR_AT)[0] == (1 << 64) - 1
        info[UPCALL_AT] = 0
        struct.pack_into("<Q", info, SELECTOR_AT, 0)
        request = p.place(struct.pack("<II", vcpu, 0))
        assert p.hypercall("event_channel_op", IPI, request) == 0
        port = struct.unpack("<I", p.guest.read(request + 4, 4))[0]
        assert p.hypercall("event_channel_op", UNMASK, struct.pack("<I", port)) == 0
        send(p, port)
        assert info[UPCALL_AT] == 1
        assert struct.unpack_from("<Q", info, SELECTOR_AT)[0] == 1 << port // 64
        shared = p.engine.page(p.guest.shared_mfn)
        if 0 < vcpu < 32:
            assert shared[64 * vcpu + UPCALL_AT] == 0


def test_ports_beyond_the_2_level_abi() -> None:
    """131,071 of them, in buckets of 64; the array's last word works. What is beyond is refused."""
    with puppet(max_event_channels=131071, memory="16M") as p:
        frame = p.mfn(p.page(21))
        p.guest.init_control(0, p.mfn(p.page(20)), 0)
        assert all(p.guest.expand_array(frame) == 0 for _ in range(128))
        assert p.guest.nr_ports == 64
        for _ in range(131071 - 2):
            port = p.domain.events.bind_ipi(0)
        assert port == 131071
        assert p.guest.nr_ports == 131072
        assert p.domain.events.bind_ipi(0) == -28
        send(p, port)
        assert word(p, p.page(21), 1023) & PENDING
        assert p.domain.events.close(port) == 0
        assert p.hypercall("event_channel_op", SEND, struct.pack("<I", 131072)) == -22


def test_max_event_channels() -> None:
    with puppet(max_event_channels=5) as p:
        assert [p.domain.events.bind_ipi(0) for _ in range(4)] == [3, 4, 5, -28]
    with hv.Machine() as machine:
        for number in (1, 131072, -1):
            with pytest.raises(hv.ConfigError, match="event channels are not possible"):
                machine.create("hello", max_event_channels=number)


def test_console_and_store_speak_to_nobody_after_a_reset() -> None:
    """Their ends in domain 0 are unbound then; a port that the guest binds at their numbers is none of theirs."""
    with puppet() as p:
        assert p.hypercall("event_channel_op", RESET, struct.pack("<HH", DOMID_SELF, 0)) == 0
        assert [an_ipi(p) for _ in range(2)] == [1, 2]
        p.domain.console.send("x" * 100)
        p.machine.store.write("/x", b"y")
        p.machine.settle()
        assert [row.sent for row in p.domain.events] == [0, 0]
        assert p.alive
