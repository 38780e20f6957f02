"""What an instruction that the CPU or Xen refuses raises in the guest: vector, error code, and where rip points."""

from __future__ import annotations

import pytest
from guest_kit import assemble, boot

import hv

ONE = """
main:   hypercall set_trap_table, $traps
        mov     $1 << 63, %rax
        mov     %rsp, %r12
        mov     %rbp, %r13
{before}
here:   {instruction}
behind: {behind}
        mov     %r12, %rsp
        println "nothing"
        poweroff
        entry   plain, on_plain
        entry   with_error, on_with_error, error=1
on_plain:
        print   "no error code"
        jmp     1f
on_with_error:
        print   "error "
        print_hex frame_error(%rdi)
1:      print   ", rip "
        mov     frame_rip(%rdi), %rax
        sub     $here, %rax
        print_dec %rax
        println
        poweroff
        .data
        .balign 8
traps:  trap    1, 0, plain
        trap    4, 0, plain
        trap    6, 0, plain
        trap    {vector}, 0, {handler}
        trap    0, 0, 0
"""
WITH_ERROR = {12, 13, 14}


def raised(instruction: str, vector: int, before: str = "", behind: str = "") -> str:
    handler = "with_error" if vector in WITH_ERROR else "plain"
    text = ONE.format(instruction=instruction, vector=vector, handler=handler, before=before, behind=behind)
    output, code, _ = boot(text)
    assert code == 0
    return output.strip()


@pytest.mark.parametrize(
    ("instruction", "vector", "expected"),
    [
        ("mov (%rax), %rcx", 13, "error 0x0, rip 0"),
        ("mov %fs:(%rax), %rcx", 13, "error 0x0, rip 0"),
        ("mov (%rsp,%rax), %rcx", 12, "error 0x0, rip 0"),
        ("mov %rax, %rbp; mov 8(%rbp), %rcx", 12, "error 0x0, rip 3"),
        ("mov %rax, %rbp; movaps (%rbp), %xmm0", 12, "error 0x0, rip 3"),
        ("mov %rax, %rbp; mov %gs:(%rbp), %rcx", 13, "error 0x0, rip 3"),
        ("mov %rax, %r13; mov (%r13), %rcx", 13, "error 0x0, rip 3"),
        ("mov %rax, %rbp; mov 0x1000(%rax,%rbp), %rcx", 14, "error 0x0, rip 3"),  # two of them make 0x1000
        ("mov %rax, %rdi; stosb", 13, "error 0x0, rip 3"),
        (".byte 0xf1", 1, "no error code, rip 1"),
        (".byte 0x66, 0xf1", 1, "no error code, rip 2"),
        ("int $0x41", 13, "error 0x20a, rip 0"),
        (".byte 0x66, 0xcd, 0x41", 13, "error 0x20a, rip 0"),
        (".byte 0xf3, 0x48, 0xcd, 0x41", 13, "error 0x20a, rip 0"),
        ("int $4", 4, "no error code, rip 2"),
        ("rdpmc", 13, "error 0x0, rip 0"),
        ("sysretq", 13, "error 0x0, rip 0"),
        ("swapgs", 13, "error 0x0, rip 0"),
        ("hlt", 13, "error 0x0, rip 0"),
        ("invlpg (%rsp)", 13, "error 0x0, rip 0"),
        ("lgdt (%rsp)", 13, "error 0x0, rip 0"),
        ("mov $0x33, %ecx; mov %ecx, %ds", 13, "error 0x30, rip 5"),
        ("mov $0xe033, %ecx; mov %ecx, %ss", 13, "error 0xe030, rip 5"),
        ("sysenter", 6, "no error code, rip 0"),
        ("ud2", 6, "no error code, rip 0"),
    ],
)
def test_exception(instruction: str, vector: int, expected: str) -> None:
    assert raised(instruction, vector) == expected


# DS is loaded with a descriptor that is then taken away. At the next switch to the vCPU, DS can not be loaded.
FAILSAFE = """
        use_shared_info
main:   call    map_shared_info
        hypercall callback_op, $CALLBACKOP_register, $failsafe_callback
        mov     $descriptors, %rdi
        call    virt_to_mfn
        mov     %rax, frames
        shl     $12, %rax
        mov     %rax, %rbx
        or      $KERNEL_PAGE_RO, %rax
        hypercall update_va_mapping, $descriptors, %rax, $UVMF_INVLPG
        hypercall set_gdt, $frames, $16
        mov     $0x1b, %eax
        mov     %eax, %ds
        mov     %eax, %fs
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        add     $3 * 8, %rbx
        hypercall update_descriptor, %rbx, $0
        hypercall sched_op, $SCHEDOP_yield              # the other domain runs
        println "not told"
        poweroff
        .balign 16
failsafe:
        mov     %rsp, %rdi
        print   "failsafe: ds "
        print_hex 16(%rdi)
        print   ", es "
        print_hex 24(%rdi)
        print   ", fs "
        print_hex 32(%rdi)
        print   ", cs "
        mov     56(%rdi), %eax
        print_hex %rax
        print   ", masked "
        movzbl  shared_info + vcpu_info_evtchn_upcall_mask, %eax
        print_dec %rax
        mov     %ds, %eax
        print   ", ds now "
        print_hex %rax
        println
        poweroff
        .data
        .balign 8
failsafe_callback:
        .word   CALLBACKTYPE_failsafe, CALLBACKF_mask_events
        .long   0
        .quad   failsafe
frames: .quad   0
        .balign PAGE_SIZE
descriptors:
        .quad   0, 0, 0, 0x00cff3000000ffff
        .balign PAGE_SIZE
"""


def test_failsafe_callback() -> None:
    with hv.Machine() as machine:
        domain = machine.create(assemble(FAILSAFE))
        machine.create("timer")
        machine.run(timeout=20)
        assert domain.console.output == b"failsafe: ds 0x1b, es 0x0, fs 0x1b, cs 0xe030, masked 1, ds now 0x0\n"


BLOCK_OVER_TWO_PAGES = """
main:   hypercall set_trap_table, $traps
        mov     $beyond, %rax
        mov     %rax, %dr0
        mov     $0x402, %eax
        mov     %rax, %dr7
        jmp     edge
        entry   debug, on_debug
on_debug:
        mov     frame_rip(%rdi), %rax
        sub     $beyond, %rax
        print_dec %rax
        println " behind the breakpoint"
        poweroff
        .balign 4096
        .skip   4096 - 3
edge:   nop
        nop
        nop
beyond: nop
        println "nothing"
        poweroff
        .data
        .balign 8
traps:  trap    1, 0, debug
        trap    0, 0, 0
"""


def test_a_breakpoint_of_the_guests_that_a_block_of_the_page_before_runs_into() -> None:
    output, code, _ = boot(BLOCK_OVER_TWO_PAGES)
    assert (output.strip(), code) == ("0 behind the breakpoint", 0)
