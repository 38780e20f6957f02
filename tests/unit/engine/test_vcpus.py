"""What a guest is told about its vCPUs: run-state areas, copies of the clock, timers, watchdogs."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest
from guest_kit import CONSOLE_PORT, Fault, Puppet, assemble, puppet

import hv
from hv.abi import sched
from hv.abi import vcpu as abi
from hv.abi.xen import VIRQ_TIMER, XEN_PVCLOCK_TSC_STABLE_BIT, VMASST_CMD_enable, VMASST_TYPE_runstate_update_flag
from hv.engine.machine import RUNSTATES

MS = 1_000_000
SIZE = 48  # of vcpu_runstate_info
CLOCK = struct.pack("<QQIbB2x", 0, 0, 0x80000000, -1, XEN_PVCLOCK_TSC_STABLE_BIT)  # vcpu_time_info behind its version


class RunState(NamedTuple):
    state: str
    entry: int
    times: tuple[int, ...]


def run_state(data: bytes) -> RunState:
    state, entry, *times = struct.unpack("<i4xQ4Q", data)
    return RunState(RUNSTATES[state], entry, tuple(times))


def vcpu_op(p: Puppet, name: str, vcpu: int, *argument: int | bytes) -> int:
    return p.hypercall("vcpu_op", getattr(abi, f"VCPUOP_{name}"), vcpu, *argument)


def ask(p: Puppet, vcpu: int) -> RunState:
    where = p.place(bytes(SIZE))
    assert vcpu_op(p, "get_runstate_info", vcpu, where) == 0
    return run_state(p.guest.read(where, SIZE))


def timer_port(p: Puppet) -> int:
    """A port with VIRQ_TIMER, not masked."""
    where = p.place(struct.pack("<3I", VIRQ_TIMER, 0, 0))
    assert p.hypercall("event_channel_op", 1, where) == 0
    return int(struct.unpack("<3I", p.guest.read(where, 12))[2])


def fired(p: Puppet, port: int) -> bool:
    """Whether the timer has raised its port since this was asked last."""
    page = p.engine.page(p.guest.shared_mfn)
    byte, bit = 64 * 32 + port // 8, 1 << port % 8
    pending = bool(page[byte] & bit)
    page[byte] &= ~bit
    return pending


def sleep(p: Puppet, ns: int) -> None:
    p.machine.run(until_ns=p.machine.now_ns + ns, timeout=20)


# --- run states


def test_run_state_of_oneself_and_of_others() -> None:
    with puppet(vcpus=3) as p:
        began = p.machine.now_ns
        own, other = ask(p, 0), ask(p, 2)
        assert own.state == "running"
        assert began <= sum(own.times) <= p.machine.now_ns
        assert other.state == "offline"
        assert other.entry == 0
        assert other.times[:3] == (0, 0, 0)
        sleep(p, 7 * MS)
        assert ask(p, 0).times[2] >= own.times[2] + 7 * MS


def test_area_is_written_at_switches() -> None:
    with puppet() as p:
        area = p.page(1)
        assert vcpu_op(p, "register_runstate_memory_area", 0, struct.pack("<Q", area)) == 0
        asleep = run_state(p.guest.read(area, SIZE))  # the puppet sleeps now, until the next order
        assert asleep.state == "blocked"
        assert asleep.entry <= p.machine.now_ns
        now = p.machine.now_ns
        sleep(p, 5 * MS)
        assert run_state(p.guest.read(area, SIZE)) == asleep
        order = ask(p, 0)
        assert order.entry == now + 5 * MS
        assert order.times[2] == asleep.times[2] + now + 5 * MS - asleep.entry
        assert vcpu_op(p, "register_runstate_memory_area", 0, struct.pack("<Q", 0)) == 0
        last = p.guest.read(area, SIZE)
        sleep(p, MS)
        assert p.alive
        assert p.guest.read(area, SIZE) == last


def test_area_of_another_vcpu_is_written_at_once() -> None:
    with puppet(vcpus=2) as p:
        sleep(p, MS)
        assert vcpu_op(p, "register_runstate_memory_area", 1, struct.pack("<Q", p.page(1))) == 0
        written = run_state(p.guest.read(p.page(1), SIZE))
        assert written.state == "offline"
        assert MS < written.times[3] <= p.machine.now_ns


@pytest.mark.parametrize("flag", [False, True])
def test_area_that_is_not_mapped(flag: bool) -> None:
    """It is left alone, and found again when it is there; the half that is mapped gets its half."""
    with puppet() as p:
        if flag:
            assert p.hypercall("vm_assist", VMASST_CMD_enable, VMASST_TYPE_runstate_update_flag) == 0
        area = p.page(2) - 16  # the times begin on the second page
        assert vcpu_op(p, "register_runstate_memory_area", 0, struct.pack("<Q", area)) == 0
        mfn = p.mfn(p.page(2))
        assert p.map(p.page(2), 0, 0) == 0
        sleep(p, MS)
        assert p.alive
        entry = struct.unpack("<Q", p.guest.read(area + 8, 8))[0]
        assert 0 < entry < 1 << 62
        assert p.map(p.page(2), mfn) == 0
        assert p.alive
        asleep = run_state(p.guest.read(area, SIZE))
        assert asleep.state == "blocked"
        assert sum(asleep.times) == asleep.entry


# --- the clock


def test_clock_of_vcpu_info() -> None:
    """A constant relation; what the guest writes over it is repaired when the vCPU gets the CPU again."""
    with puppet() as p:
        page = p.engine.page(p.guest.shared_mfn)
        assert bytes(page[32:64]) == struct.pack("<II", 2, 0) + CLOCK
        assert bytes(page[64 + 32 : 128]) == bytes(32)  # of a vCPU that has never run
        page[40] = 1
        assert p.alive
        assert bytes(page[32:64]) == struct.pack("<II", 4, 0) + CLOCK


def test_clock_moves_with_vcpu_info() -> None:
    with puppet() as p:
        where = struct.pack("<QII", p.mfn(p.page(3)), 128, 0)
        assert vcpu_op(p, "register_vcpu_info", 0, where) == 0
        assert p.guest.read(p.page(3) + 128 + 32, 32) == struct.pack("<II", 4, 0) + CLOCK
        assert vcpu_op(p, "register_vcpu_info", 0, where) == -22  # once only, and yet the clock is written anew
        assert p.guest.read(p.page(3) + 128 + 32, 4) == struct.pack("<I", 6)


@pytest.mark.parametrize("vcpu", [0, 1, 40])
def test_copy_of_the_clock(vcpu: int) -> None:
    with puppet(vcpus=41) as p:
        for _ in range(2):
            assert vcpu_op(p, "register_vcpu_time_memory_area", vcpu, struct.pack("<Q", p.page(4))) == 0
        version, *_ = struct.unpack("<II", p.guest.read(p.page(4), 8))
        assert version % 2 == 0
        assert version >= 4
        assert p.guest.read(p.page(4) + 8, 24) == CLOCK


# --- the time-stamp counter

CR4 = bytes.fromhex("0f20e0c3")  # mov %cr4, %rax; ret
RDTSC = bytes.fromhex("0f3148c1e2204809d0c3")  # rdtsc; shl $32, %rdx; or %rdx, %rax; ret
RDTSCP = bytes.fromhex("0f01f94889c8c3")  # rdtscp; mov %rcx, %rax; ret
RDPMC = bytes.fromhex("31c90f33c3")  # xor %ecx, %ecx; rdpmc; ret
READ_AUX = bytes.fromhex("b9030100c00f32c3")  # mov $0xc0000103, %ecx; rdmsr; ret


def set_cr4(value: int) -> bytes:
    return b"\xb8" + struct.pack("<I", value) + bytes.fromhex("0f22e0c3")  # mov $value, %eax; mov %rax, %cr4; ret


def set_aux(low: int, high: int = 0) -> bytes:
    return b"\xb8" + struct.pack("<I", low) + b"\xba" + struct.pack("<I", high) + bytes.fromhex("b9030100c00f30c3")


def execute(p: Puppet, code: bytes) -> int:
    return p.execute(p.place(code)) & (1 << 64) - 1


@pytest.mark.parametrize("stepping", [False, True])
def test_tsd_makes_rdtsc_privileged(stepping: bool) -> None:
    """Xen then emulates it for the guest's kernel: the same values."""
    with puppet() as p:
        p.engine.set_stepping(stepping)
        assert execute(p, CR4) == 0x660
        for bits, shown in ((0, 0x660), (4, 0x664), (0xFFFFFFFF, 0x66C)):
            execute(p, set_cr4(bits))
            assert execute(p, CR4) == shown
            before = p.engine.ticks
            assert before < execute(p, RDTSC) < p.engine.ticks
            assert execute(p, RDTSCP) == 0


def test_tsc_aux() -> None:
    with puppet() as p:
        assert execute(p, READ_AUX) == 0
        for cr4 in (0, 4):
            execute(p, set_cr4(cr4))
            execute(p, set_aux(0x12345678 + cr4))
            assert execute(p, READ_AUX) == 0x12345678 + cr4
            assert execute(p, RDTSCP) == 0x12345678 + cr4
            with pytest.raises(Fault, match="vector 13"):
                execute(p, set_aux(0, 1))
            assert execute(p, RDTSCP) == 0x12345678 + cr4


def test_no_performance_counters() -> None:
    with puppet() as p, pytest.raises(Fault, match="vector 13, error 0x0"):
        execute(p, RDPMC)


# --- timers


def test_singleshot_that_has_passed_comes_at_once() -> None:
    with puppet() as p:
        port = timer_port(p)
        for call in (
            lambda ns: vcpu_op(p, "set_singleshot_timer", 0, struct.pack("<QII", ns, 1, 0)),
            lambda ns: p.hypercall("set_timer_op", ns),
        ):
            assert call(p.machine.now_ns) == 0
            assert fired(p, port)
        assert vcpu_op(p, "set_singleshot_timer", 0, struct.pack("<QII", (1 << 64) - 1, 0, 0)) == 0
        assert fired(p, port)


def test_a_new_singleshot_replaces_the_old_one() -> None:
    with puppet() as p:
        port, now = timer_port(p), p.machine.now_ns
        assert p.hypercall("set_timer_op", now + 100 * MS) == 0
        assert vcpu_op(p, "set_singleshot_timer", 0, struct.pack("<QII", now + 200 * MS, 0, 0)) == 0
        p.machine.run(until_ns=now + 200 * MS - 1, timeout=20)
        assert not fired(p, port)
        p.machine.run(until_ns=now + 200 * MS, timeout=20)
        assert fired(p, port)
        assert p.hypercall("set_timer_op", p.machine.now_ns + 20 * MS) == 0
        assert vcpu_op(p, "stop_singleshot_timer", 0, 0) == 0
        sleep(p, 30 * MS)
        assert not fired(p, port)


def test_timers_of_others() -> None:
    """The singleshot timer is one's own; any vCPU's periodic timer may be set, and of one that is down it ticks."""
    with puppet(vcpus=2) as p:
        assert vcpu_op(p, "set_singleshot_timer", 1, struct.pack("<QII", 1, 0, 0)) == -22
        assert vcpu_op(p, "stop_singleshot_timer", 1, 0) == -22
        where = p.place(struct.pack("<3I", VIRQ_TIMER, 1, 0))
        assert p.hypercall("event_channel_op", 1, where) == 0
        port = int(struct.unpack("<3I", p.guest.read(where, 12))[2])
        sleep(p, 50 * MS)
        began = p.machine.now_ns
        assert vcpu_op(p, "set_periodic_timer", 1, struct.pack("<Q", 30 * MS)) == 0
        assert fired(p, port)  # there was none for a period or longer
        for tick in range(1, 4):
            p.machine.run(until_ns=began + tick * 30 * MS - MS, timeout=20)
            assert not fired(p, port)
            p.machine.run(until_ns=began + tick * 30 * MS + MS, timeout=20)
            assert fired(p, port)
        assert vcpu_op(p, "stop_periodic_timer", 1, 0) == 0
        sleep(p, 100 * MS)
        assert not fired(p, port)


def test_the_periodic_timer_does_not_wake() -> None:
    """Xen stops it while its vCPU has not got the CPU, and makes up for it with one event afterwards."""
    with puppet() as p:
        port = timer_port(p)
        sleep(p, 50 * MS)
        assert vcpu_op(p, "set_periodic_timer", 0, struct.pack("<Q", 10 * MS)) == 0
        assert fired(p, port)
        sleep(p, 100 * MS)
        assert not fired(p, port)
        assert p.alive
        assert fired(p, port)


def test_every_vcpu_is_made_with_a_periodic_timer() -> None:
    """10 ms, for kernels that expect it: a tick whenever it gets the CPU that much later. The puppet has stopped it."""
    ticking = assemble(TICKING, "ticking")
    with hv.Machine() as machine:
        domain = machine.create(ticking)
        machine.run(timeout=20)
        assert (
            domain.console.output == b"after 9 ms: NO\nafter 11 ms: yes\nafter 9 ms more: NO\nafter 11 ms more: yes\n"
        )


TICKING = """
        use_shared_info
main:   call    map_shared_info
        hypercall event_channel_op, $EVTCHNOP_bind_virq, $timer
        call    system_time
        mov     %rax, %r12
        .macro  wait text, until
        print   "\\text: "
        mov     %r12, %rax
        add     $\\until * 1000000, %rax
        mov     %rax, poll + sched_poll_timeout
        hypercall sched_op, $SCHEDOP_poll, $poll
        mov     timer + evtchn_bind_virq_port, %eax
        lock btr %rax, shared_info + shared_info_evtchn_pending
        print_if c
        .endm
        wait    "after 9 ms", 9
        wait    "after 11 ms", 11
        wait    "after 9 ms more", 20
        wait    "after 11 ms more", 22
        ret
        .data
        .balign 8
timer:  .long   VIRQ_TIMER, 0, 0
        .balign 8
poll:   .quad   0, 0, 0
"""


# --- watchdogs


def watchdog(p: Puppet, number: int, seconds: int) -> int:
    return p.hypercall("sched_op", sched.SCHEDOP_watchdog, struct.pack("<2I", number, seconds))


def test_watchdogs_are_two() -> None:
    with puppet() as p:
        assert [watchdog(p, 0, 100) for _ in range(3)] == [1, 2, 0xFFFFFFE4]  # -ENOSPC without its sign, as on Xen
        assert watchdog(p, 2, 0) == 0
        assert watchdog(p, 2, 0) == -22
        assert watchdog(p, 0, 100) == 2


def test_watchdog_ends_a_domain_that_sleeps() -> None:
    with hv.Machine() as machine:
        p = Puppet(machine)
        assert watchdog(p, 0, 3) == 1
        sleep(p, 2_000 * MS)
        set_at = machine.now_ns
        assert watchdog(p, 1, 3) == 0  # alive
        assert machine.run(timeout=20) == "ended"
        assert abs(machine.now_ns - set_at - 3_000 * MS) < 10_000
        assert p.domain.reason == "crashed: its watchdog expired"
        assert p.domain.exit_code == 6


def test_watchdog_without_a_timeout_ends_it_at_once() -> None:
    with puppet() as p:
        where = p.place(struct.pack("<2I", 0, 0))
        p.guest.write(p._mailbox, struct.pack("<8Q", 0, 29, sched.SCHEDOP_watchdog, where, 0, 0, 0, 0))
        p.guest.raise_port(CONSOLE_PORT)
        assert p.machine.run(timeout=20) == "ended"
        assert p.domain.reason == "crashed: its watchdog expired"
