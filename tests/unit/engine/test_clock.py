"""The clock: a deadline is met at its instruction, however the engine got there; determinism.md is the theory.

Free runs, runs one instruction at a time, and runs cut into pieces agree in output, ticks and registers.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from guest_kit import ROOT, assemble, boot, puppet

import hv
from guests import build

VCPUS = {path.stem: build.read_header(path)["vcpus"] for path in sorted((ROOT / "guests").glob("*.s"))}
NAMES = list(VCPUS)

# Each deadline interrupts `loop`; the upcall writes down where it was and how far the loop had come.
INTERRUPTED = """
        use_shared_info
        use_events on_event
main:   call    map_shared_info
        hypercall callback_op, $CALLBACKOP_register, $event_callback
        hypercall event_channel_op, $EVTCHNOP_bind_virq, $timer
        hypercall event_channel_op, $EVTCHNOP_unmask, $timer + evtchn_bind_virq_port
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        mov     $deadlines, %r12
        mov     %rsp, %r15
1:      mov     (%r12), %rdi
        test    %rdi, %rdi
        jz      2f
        push    %r12
        call    system_time
        pop     %r12
        add     (%r12), %rax
        add     $8, %r12
        hypercall set_timer_op, %rax
        xor     %ebx, %ebx
        xor     %r13d, %r13d
        jmp     loop
back:   mov     %r15, %rsp              # the loop may have been in a call
        print_dec %rbx
        print   " "
        print_dec %r13
        print   " "
        mov     interrupted, %rax
        sub     $loop, %rax
        print_dec %rax
        println
        jmp     1b
2:      ret
        entry   event, on_upcall
on_upcall:
        mov     frame_rip(%rdi), %rax
        mov     %rax, interrupted
        movq    $back, frame_rip(%rdi)
        call    scan_events
        ret
on_event:
        ret
        .globl  loop
loop:
{loop}
        jmp     loop
        .data
        .balign 8
event_callback:
        .word   CALLBACKTYPE_event, 0
        .long   0
        .quad   event
timer:  .long   VIRQ_TIMER, 0, 0
scratch:
        .quad   0, 0
deadlines:
        .quad   {deadlines}, 0
        .bss
        .balign 8
interrupted:
        .skip   8
"""

# What a loop may be made of: straight code, branches, memory, calls, things that leave translated code.
PIECES = (
    "inc %rbx",
    "nop",
    "lea 1(%rbx), %rbx",
    "movabs $0x1122334455667788, %rax",
    "nopw 0x200(%rax, %rax)",
    "add %rbx, %r13",
    "mov %rbx, scratch",
    "test $3, %bl\n jz 9f\n inc %r13\n9:",
    "push %rbx\n pop %rax",
    "rdtsc",
    "xor %eax, %eax\n xor %ecx, %ecx\n cpuid\n mov $0, %ebx",
    "mov $scratch, %rdi\n mov $2, %ecx\n xor %eax, %eax\n rep stosq",
    "xor %edi, %edi\n mov $__HYPERVISOR_xen_version, %eax\n syscall",
    "call 8f\n jmp 7f\n8: ret\n7:",
)


def interrupted_loop(seed: int) -> str:
    chance = random.Random(seed)
    body = "\n".join(chance.choice(PIECES) for _ in range(chance.randint(1, 12)))
    deadlines = ", ".join(str(chance.randint(2_000, 60_000)) for _ in range(4))
    return INTERRUPTED.format(loop=f"        inc %rbx\n{body}", deadlines=deadlines)


@pytest.mark.parametrize("seed", range(16))
def test_a_deadline_is_met_at_its_instruction(seed: int) -> None:
    text = interrupted_loop(seed)
    free = boot(text)
    assert free[1] == 0
    assert len(free[0].splitlines()) == 4
    assert boot(text, stepping=True) == free
    assert boot(text) == free


def run_to_end(image: Path, *, stepping: bool = False, piece: int | None = None) -> tuple[bytes, str, int, int]:
    """(console, how it ended, ticks at the end, upcalls and exceptions) of a bundled guest."""
    with hv.Machine() as machine:
        machine.engine.set_stepping(stepping)
        domain = machine.create(image, vcpus=VCPUS[image.stem])
        until = 0
        while piece is not None and machine.run(timeout=60, until_ns=until) == "until":
            until += piece
        machine.run(timeout=60)
        return domain.console.output, domain.reason, machine.engine.ticks, domain.reboots


@pytest.mark.parametrize("name", NAMES)
def test_bundled_guests_run_alike(name: str, bundled_guests: Path) -> None:
    """Free, again, one instruction at a time: the same to the tick."""
    free = run_to_end(bundled_guests / name)
    assert run_to_end(bundled_guests / name) == free
    assert run_to_end(bundled_guests / name, stepping=True) == free


@pytest.mark.parametrize("name", ["hello", "traps", "user", "preempt", "timer", "selfmod"])
@pytest.mark.parametrize("piece", [997, 100_003])
def test_a_run_in_pieces_is_the_same_run(name: str, piece: int, bundled_guests: Path) -> None:
    """`until_ns` stops between two instructions and leaves no trace. (The short pieces end after 0.2 ms.)"""
    whole = run_to_end(bundled_guests / name)
    with hv.Machine() as machine:
        domain = machine.create(bundled_guests / name)
        for until in range(piece, min(piece * 200, 60_000_000), piece):
            if machine.run(timeout=60, until_ns=until) != "until":
                break
        machine.run(timeout=60)
        assert (domain.console.output, domain.reason, machine.engine.ticks, domain.reboots) == whole


@pytest.mark.parametrize("stepping", [False, True])
def test_until_ns_is_the_first_boundary_behind(stepping: bool) -> None:
    with hv.Machine() as machine:
        machine.engine.set_stepping(stepping)
        machine.create(assemble("main: jmp main"))
        for until in (0, 1, 777, 10_000, 10_001, 50_000):
            assert machine.run(until_ns=until, timeout=20) == "until"
            assert until * 4 <= machine.engine.ticks < until * 4 + 2 or until < 1000
            assert machine.now_ns >= until


def test_until_ns_while_everybody_sleeps() -> None:
    with puppet() as p:
        now = p.machine.now_ns
        assert p.machine.run(until_ns=now + 1234) == "until"
        assert p.machine.now_ns == now + 1234
        assert p.machine.run() == "idle"
        assert p.alive


COUNTING = """
main:   mov     $1000, %ecx
1:      inc     %rbx
        nop
        dec     %ecx
        jnz     1b
        ret
"""


def test_steps_are_single_instructions() -> None:
    """From the entry on: every step moves rip by one instruction, and ticks by its bytes."""
    with hv.Machine() as machine:
        domain = machine.create(assemble(COUNTING))
        engine = machine.engine
        engine.set_stepping(True, 1)
        first = domain.registers()["rip"]
        assert engine.run() == "step"
        assert domain.registers()["rip"] == first + 1  # cld
        assert engine.ticks == 1
        engine.set_stepping(True, 2)
        assert engine.run() == "step"
        assert domain.registers()["rip"] == first + 1 + 7 + 8  # mov $stack_top, %rsp; mov %rsi, start_info
        assert engine.ticks == 16
        engine.set_stepping(False)
        machine.run(timeout=20)
        assert domain.exit_code == 0
        ticks = engine.ticks
    with hv.Machine() as machine:
        machine.create(assemble(COUNTING))
        machine.run(timeout=20)
        assert machine.engine.ticks == ticks


@pytest.mark.parametrize("steps", [1, 7, 100, 1001])
def test_steps_are_counted_across_runs(steps: int) -> None:
    """N steps one by one and N steps at once end at the same place."""

    def place(portions: list[int]) -> tuple[object, ...]:
        with hv.Machine() as machine:
            domain = machine.create(assemble(COUNTING))
            for portion in portions:
                machine.engine.set_stepping(True, portion)
                while (reason := machine.engine.run()) == "host":
                    pass  # the host's 10 ms were over first
                assert reason == "step"
            return machine.engine.ticks, domain.registers()

    assert place([1] * steps) == place([steps])


@pytest.mark.parametrize("clock", ["paced", "host"])
def test_clocks_of_the_host(clock: str, bundled_guests: Path) -> None:
    """Five timer ticks of 10 ms; the bounds only tell a clock that runs from one that does not."""
    with hv.Machine(clock=clock) as machine:
        domain = machine.create(bundled_guests / "timer")
        assert machine.run(timeout=30) == "ended"
        assert domain.exit_code == 0
        assert domain.console.output.count(b"tick ") == 5
        assert 50_000_000 <= machine.now_ns < 30_000_000_000
        assert machine.engine.clock == clock
