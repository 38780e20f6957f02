"""The crash report: what it shows, and which typical mistakes it names."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from guest_kit import ROOT, Puppet, assemble, puppet

import hv
from hv.builder.image import symbol_table
from hv.machine import crash_hints, disassembly
from hv.machine.crash_report import report

# A kernel with a page-fault handler, so that other exceptions are the ones without.
HANDLERS = """
        entry   on_fault, faulted, error=1
faulted: ret
        .data
        .balign 8
traps:  trap    14, 0, on_fault
        trap    0, 0, 0
        .text
"""
TRAPS = "main: hypercall set_trap_table, $traps\n"

# what the guest does, words of its hint
MISTAKES: dict[str, tuple[str, str]] = {
    "no trap table": ("main: ud2", "never called set_trap_table"),
    "emptied trap table": (
        f"{TRAPS} hypercall set_trap_table, $0\n ud2 {HANDLERS}",
        "has emptied its table",
    ),
    "no row for the vector": (f"{TRAPS} ud2 {HANDLERS}", "no row in it for vector 0x6"),
    "call through null": ("main: xor %eax, %eax\n call *%rax", "call through a null pointer, from main+0x4"),
    "jump to null": ("main: xor %eax, %eax\n push %rax\n ret", "call through a null pointer"),
    "empty hypercall page": (
        "main: mov $29, %eax\n call hypercall_page\n .globl hypercall_page\n"
        " .bss\n .balign 4096\nhypercall_page: .skip 4096",
        "XEN_ELFNOTE_HYPERCALL_PAGE",
    ),
    "jump into zeros": ("main: xor %eax, %eax\n call empty\n .bss\n .balign 4096\nempty: .skip 4096", "all zeros"),
    "vmcall": ("main: vmcall", "HVM guest"),
    "int 0x82": ("main: int $0x82", "32-bit PV guest"),
    "hlt": ("main: hlt", "SCHEDOP_block"),
    "lidt": ("main: lidt (%rsp)", "set_trap_table"),
    "swapgs": ("main: swapgs", "exchanges the bases of GS"),
    "sysretq": ("main: sysretq", "VGCF_in_syscall"),
    "cli": ("main: cli", "evtchn_upcall_mask"),
    "write to a page table": (
        "main: mov start_info, %rax\n mov start_info_pt_base(%rax), %rax\n movq $0, 8(%rax)",
        "in a page table",
    ),
    "no event callback": (
        "use_shared_info\nmain: call map_shared_info\n movq $0, shared_info + shared_info_evtchn_mask\n"
        " movb $0, shared_info + vcpu_info_evtchn_upcall_mask\n print x\n 1: hypercall sched_op, $0\n jmp 1b",
        "register an event callback",
    ),
    "iret to user mode": (
        "main: push $FLAT_USER_SS\n push $0\n push $0\n push $FLAT_USER_CS\n push $0\n hypervisor_iret",
        "MMUEXT_NEW_USER_BASEPTR",
    ),
    "iret without a stack": (
        "main: mov $0x1000, %esp\n mov $__HYPERVISOR_iret, %eax\n syscall",
        "stack pointer was lost",
    ),
    "stack not mapped": (f"{TRAPS} mov $0x1000, %esp\n mov (%rsp), %rax {HANDLERS}", "nothing is mapped there"),
    "stack in page tables": (
        f"{TRAPS} mov start_info, %rax\n mov start_info_pt_base(%rax), %rsp\n add $4096, %rsp\n mov 0, %rax {HANDLERS}",
        "grown down into page tables",
    ),
    "handler that faults": (
        "main: hypercall set_trap_table, $traps\n mov $0xdead0000, %ebx\n mov (%rbx), %rax\n"
        "on_fault: mov (%rbx), %rax\n .data\n .balign 8\ntraps: trap 14, 0, on_fault\n trap 0, 0, 0",
        "its handler raises it too",
    ),
}


def crashed(text: str, **options: Any) -> str:
    with hv.Machine() as machine:
        domain = machine.create(assemble(text), **options)
        machine.run(timeout=20)
        assert domain.exit_code == 6, domain.console.output
        assert domain.crash_report is not None
        return domain.crash_report


@pytest.mark.parametrize("name", MISTAKES)
def test_hints(name: str) -> None:
    text, words = MISTAKES[name]
    lines = crashed(text).splitlines()
    assert lines[1].startswith("hint: "), lines[0]
    assert words in lines[1]


def test_every_recogniser_is_tried() -> None:
    """Those that the table above does not reach need another test."""
    elsewhere = {"no_syscall_callback", "stack_read_only", "execute_no_execute"}
    names = {function.__name__ for function in crash_hints.RECOGNISERS}
    assert elsewhere < names and len(names - elsewhere) <= len(MISTAKES)


def test_a_crash_that_the_guest_asked_for_has_no_hint() -> None:
    text = crashed("main: shut_down SHUTDOWN_crash")
    assert "hint:" not in text
    assert "sched_op(cmd=SCHEDOP_shutdown" in text


def test_what_happened_before() -> None:
    text = crashed(
        f"{TRAPS} hypercall sched_op, $77\n mov $0xdead0000, %ebx\n mov (%rbx), %rax\n ud2"
        "\n entry on_fault, faulted, error=1\nfaulted: addq $3, frame_rip(%rdi)\n ret"
        "\n .data\n .balign 8\ntraps: trap 14, 0, on_fault\n trap 0, 0, 0"
    )
    history = text.split("what happened last:")[1].splitlines()[1:]
    expected = (
        r"\d+ ns  vCPU 0  set_trap_table\(traps=0x\w+\) = 0$",
        r"\d+ ns  vCPU 0  sched_op\(cmd=77, arg=0x\w+\) = -ENOSYS$",
        r"ns  vCPU 0  page fault #PF error 0x0 at 0xdead0000, rip main\+0x\w+$",
        r"ns  vCPU 0  invalid opcode #UD, rip main\+0x\w+$",
    )
    found = [next(i for i, line in enumerate(history) if re.search(pattern, line)) for pattern in expected]
    assert found == sorted(found)


def test_events_stand_between_the_call_that_sends_them_and_the_upcall() -> None:
    text = crashed(
        "main: hypercall set_callbacks, $upcall, $0, $0\n hypercall event_channel_op, $EVTCHNOP_bind_ipi, $ipi"
        "\n hypercall event_channel_op, $EVTCHNOP_unmask, $ipi + 4"
        "\n hypercall event_channel_op, $EVTCHNOP_send, $ipi + 4\n hypercall sched_op, $SCHEDOP_block, $0"
        "\n ud2\nupcall: ud2"
        "\n .data\n .balign 8\nipi: .long 0, 0"
    )
    kinds = re.findall(r"ns  vCPU 0  (event_channel_op\(cmd=EVTCHNOP_send|event: port 3|event upcall)", text)
    assert kinds == ["event_channel_op(cmd=EVTCHNOP_send", "event: port 3", "event upcall"]


def test_where_it_was() -> None:
    """Instructions before rip, names of branch targets, the stack, and who called."""
    text = crashed(
        "main: call outer\n ret\n .globl outer\nouter: push $main\n nop\n call main2\nmain2: nop\n ud2\n jmp main"
    )
    assert re.search(r"callq 0x\w+ <outer\+0x\w+>\n     \w+  nop\n  => \w+  ud2\n     \w+  jmp 0x\w+ <main>", text)
    assert re.search(r"stack:\n     \w{16}  \w{16}  outer\+0x\w+\n     \w{16}  \w{16}  main\n", text)
    assert re.search(r"called from \(a guess: [^)]*\):\n     \w+  outer\+0x\w+\n     \w+  main\+0x5\n", text)


def test_frame_pointers() -> None:
    text = crashed(
        "main: push %rbp\n mov %rsp, %rbp\n call a\n ret\na: push %rbp\n mov %rsp, %rbp\n push $main\n call b\n ret\n"
        "b: push %rbp\n mov %rsp, %rbp\n ud2"
    )
    callers = text.split("called from (by frame pointers):\n")[1].split("\n\n")[0].splitlines()
    assert len(callers) == 3
    assert [line.split()[1].split("+")[0] for line in callers] == ["main", "main", "_start"]


def test_every_vcpu_is_shown() -> None:
    assert "3 more are down" in crashed("main: ud2", vcpus=4)


def test_user_mode_without_a_syscall_callback() -> None:
    """The whole way: the report is about the code in user mode."""
    text = crashed(without_callback("user"))
    first, advice = text.splitlines()[:2]
    assert "guest user mode" in first and "invalid opcode #UD" in first
    assert "syscall callback" in advice
    assert re.search(r"=> 000000000040000a  syscall", text)


def without_callback(name: str) -> str:
    """A bundled guest's code, without the line that registers a callback."""
    text = (ROOT / "guests" / f"{name}.s").read_text()
    body = text.split(f'guest   "{name}"\n')[1]
    return re.sub(r".*CALLBACKOP_register.*\n", "", body)


def test_read_only_stack_and_no_execute() -> None:
    remap = (
        "mov $page, %rdi\n call virt_to_mfn\n shl $12, %rax\n {flags}\n hypercall update_va_mapping, $page, %rax, $2\n"
    )
    page = "\n .bss\n .balign 4096\npage: .skip 8192\n"
    read_only = remap.format(flags="or $KERNEL_PAGE_RO, %rax")
    assert "mapped read-only" in crashed(
        f"{TRAPS}{read_only} mov $page + 4096, %rsp\n ud2\n{HANDLERS}{page}".replace("trap    14, 0", "trap    6, 0")
    )
    no_execute = remap.format(flags="movabs $_PAGE_NX, %rdx\n or %rdx, %rax\n or $KERNEL_PAGE, %rax")
    assert "(NX)" in crashed(f"main: {no_execute} call page\n{page}")


def test_no_state_makes_it_fail() -> None:
    """Stack pointers, addresses and code at random: always a report."""
    rng = random.Random(5)
    edges = [0, 1, 4095, (1 << 47) - 4, 1 << 47, 1 << 63, (1 << 64) - 8, (1 << 64) - 1, 0xFFFF8000_00000000]
    for _ in range(25):
        rsp, rbp, target = (
            rng.choice([*edges, rng.getrandbits(64), 0xFFFFFFFF80000000 + rng.getrandbits(16)]) for _ in "abc"
        )
        text = crashed(f"main: movabs ${rsp}, %rsp\n movabs ${rbp}, %rbp\n movabs ${target}, %rax\n jmp *%rax")
        assert "code at rip" in text and "stack:" in text


def test_reporting_changes_nothing() -> None:
    with puppet() as p:
        before = memory(p)
        assert "vCPUs:" in report(p.domain, "a look")
        assert memory(p) == before
        assert p.alive


def memory(p: Puppet) -> bytes:
    return b"".join(bytes(p.engine.page(mfn)) for mfn in range(p.engine.nr_frames) if p.guest.owns(mfn))


@pytest.mark.parametrize(
    ("code", "is_call"),
    [
        ("e800000000", True),
        ("ffd0", True),  # call *%rax
        ("41ffd3", True),  # call *%r11
        ("ff10", True),  # call *(%rax)
        ("ff5008", True),
        ("ff9000010000", True),
        ("ff1500010000", True),  # call *x(%rip)
        ("ff14c500010000", True),  # call *table(, %rax, 8)
        ("ff542408", True),
        ("ffe0", False),  # jmp *%rax
        ("c3", False),
        ("0f05", False),
        ("ff9000", False),
    ],
)
def test_what_follows_a_call(code: str, is_call: bool) -> None:
    memory = b"\x90" * 8 + bytes.fromhex(code)
    assert disassembly.follows_a_call(lambda at, size: memory[at : at + size], len(memory)) == is_call


def test_nothing_before_rip_where_decoding_misses_it() -> None:
    with puppet() as p:
        table = symbol_table(p.domain.config.image)
        start = next(a for a in range(p.arena - (1 << 20), p.arena) if table.name(a) == "main")
        whole = disassembly.decode(p.guest.peek(start, 64), start)
        inside = whole[2].address
        before = disassembly.around(p.guest.peek, table, inside, 4, 1)
        assert [i.address for i in before] == [whole[0].address, whole[1].address, inside]
        assert len(disassembly.around(p.guest.peek, table, inside + 1, 4, 1)) <= 1
