"""Code as the CPU sees it: blocks that reach into an unmapped page, and code that somebody else writes."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from guest_kit import KERNEL_PAGE, NX, PAGE, READ_ONLY, Fault, Puppet, boot, puppet

from hv.abi import xen
from hv.abi.xen import DOMID_SELF

# Code at the end of page `first`; `second` is not mapped until the handler says so. The handler counts, and prints what
# had been executed when the fault came.
STRADDLE = """
        use_shared_info
main:   call    map_shared_info
        hypercall set_trap_table, $traps
        mov     $second, %rdi
        call    virt_to_mfn
        mov     %rax, second_mfn
        hypercall update_va_mapping, $second, $0, $UVMF_INVLPG
        xor     %ebx, %ebx
        call    {entry}
        print   "result "
        print_dec %rbx
        println
        ret
        entry   page_fault, on_page_fault, error=1
on_page_fault:
        print   "rbx "
        print_dec 11*8(%rdi)
        print   ", rip "
        mov     frame_rip(%rdi), %rax
        sub     $second, %rax
        print_dec %rax
        print   ", address "
        mov     shared_info + vcpu_info_arch_cr2, %rax
        sub     $second, %rax
        print_dec %rax
        print   ", error "
        print_hex frame_error(%rdi)
        println
        mov     second_mfn, %rax
        shl     $12, %rax
        or      $KERNEL_PAGE, %rax
        hypercall update_va_mapping, $second, %rax, $UVMF_INVLPG
        ret
        .data
        .balign 8
traps:  trap    14, 0, page_fault
        trap    0, 0, 0
second_mfn:
        .quad   0
        .balign PAGE_SIZE
first:  .skip   PAGE_SIZE - {before}
{code}
        .balign PAGE_SIZE
"""
STRADDLING = {
    # name: (bytes before the page's end, code, rbx and rip at the fault, rbx at the end)
    "five whole instructions before the end": (
        15,
        "start: inc %rbx\n inc %rbx\n inc %rbx\n inc %rbx\n inc %rbx\nsecond: inc %rbx\n ret",
        (5, 0),
        6,
    ),
    "an instruction across the end": (
        6,
        "start: inc %rbx\n .byte 0x48, 0x81, 0xc3\nsecond: .long 100\n ret",
        (1, -3),
        101,
    ),
    "a jump over the end": (5, "start: inc %rbx\n jmp 1f\nsecond: nop\n1: inc %rbx\n ret", (1, 1), 2),
    "nothing before the end": (1, "nop\nsecond:\nstart: inc %rbx\n ret", (0, 0), 1),
    "a loop that never reaches the end": (
        16,
        "start: mov $3, %ecx\n1: inc %rbx\n dec %ecx\n jnz 1b\n ret\n nop\n nop\n nop\nsecond: ret",
        None,
        3,
    ),
}


@pytest.mark.parametrize("name", STRADDLING)
def test_fetch_across_a_page_end(name: str) -> None:
    """What stands before the fault has been executed, once; rip and the address say which page is missing."""
    before, code, fault, result = STRADDLING[name]
    text = STRADDLE.format(entry="start", before=before, code=code)
    lines = []
    if fault is not None:
        rbx, rip = fault
        address = rip if rip >= 0 else 0
        lines.append(f"rbx {rbx}, rip {rip}, address {address}, error 0x10")
    free = boot(text)
    assert free[0].splitlines() == [*lines, f"result {result}"]
    assert boot(text, stepping=True) == free


def returning(value: int) -> bytes:
    """mov $value, %eax; ret"""
    return b"\xb8" + struct.pack("<I", value) + b"\xc3"


def by_alias(p: Puppet, value: int) -> None:
    assert p.map(p.page(2), p.mfn(p.page(1)), KERNEL_PAGE | NX) == 0
    p.store(p.page(2), int.from_bytes(returning(value) + b"\xcc\xcc", "little"))


def by_executable_alias(p: Puppet, value: int) -> None:
    assert p.map(p.page(2), p.mfn(p.page(1))) == 0
    assert p.execute(p.page(2)) == p.execute(p.page(1))
    p.store(p.page(2), int.from_bytes(returning(value) + b"\xcc\xcc", "little"))


def by_itself(p: Puppet, value: int) -> None:
    p.store(p.page(1), int.from_bytes(returning(value) + b"\xcc\xcc", "little"))


def by_exchange(p: Puppet, value: int) -> None:
    p.exchange(p.page(1), int.from_bytes(returning(value) + b"\xcc\xcc", "little"))


def by_host(p: Puppet, value: int) -> None:
    p.guest.write(p.page(1), returning(value))


def by_copy_page(p: Puppet, value: int) -> None:
    p.guest.write(p.page(2), returning(value))
    assert p.mmuext(xen.MMUEXT_COPY_PAGE, p.mfn(p.page(1)), p.mfn(p.page(2))) == 0


def by_mmu_update(p: Puppet, value: int) -> None:
    content = int.from_bytes(returning(value) + b"\xcc\xcc", "little")
    assert p.mmu_update(p.mfn(p.page(1)) << 12, content) == 0


def by_hypercall_result(p: Puppet, value: int) -> None:
    """mmu_update counts what it has done in a word of the guest's; here it is the operand of `mov`."""
    nothing = struct.pack("<2Q", p.mfn(p.page(3)) << 12, 0) * value
    assert p.hypercall("mmu_update", nothing, value, p.page(1) + 1, DOMID_SELF) == 0


def by_other_frame(p: Puppet, value: int) -> None:
    p.guest.write(p.page(2), returning(value))
    assert p.map(p.page(1), p.mfn(p.page(2))) == 0


def by_other_table(p: Puppet, value: int) -> None:
    """The entry is changed through mmu_update, and the guest flushes."""
    p.guest.write(p.page(2), returning(value))
    assert p.mmu_update(p.slot(1, p.page(1)), p.mfn(p.page(2)) << 12 | READ_ONLY) == 0
    assert p.mmuext(xen.MMUEXT_TLB_FLUSH_LOCAL) == 0


WRITERS = (
    by_alias,
    by_executable_alias,
    by_itself,
    by_exchange,
    by_host,
    by_copy_page,
    by_mmu_update,
    by_hypercall_result,
    by_other_frame,
    by_other_table,
)


@pytest.mark.parametrize("write", WRITERS, ids=lambda writer: writer.__name__)
def test_new_code_is_executed(write: Callable[[Puppet, int], None]) -> None:
    """After a hundred calls of the old code, as hot as code gets."""
    with puppet() as p:
        p.guest.write(p.page(1), returning(1))
        assert [p.execute(p.page(1)) for _ in range(100)] == [1] * 100
        write(p, 2)
        assert p.execute(p.page(1)) == 2


def test_cleared_page_holds_no_code() -> None:
    with puppet() as p:
        p.guest.write(p.page(1), returning(1))
        assert p.execute(p.page(1)) == 1
        assert p.mmuext(xen.MMUEXT_CLEAR_PAGE, p.mfn(p.page(1))) == 0
        with pytest.raises(Fault):  # add %al, (%rax): rax is page 1's index in the table of actions
            p.execute(p.page(1))
        assert p.alive


def test_no_execute() -> None:
    with puppet() as p:
        p.guest.write(p.page(1), returning(1))
        assert p.execute(p.page(1)) == 1
        assert p.map(p.page(1), p.mfn(p.page(1)), KERNEL_PAGE | NX) == 0
        with pytest.raises(Fault) as fault:
            p.execute(p.page(1))
        assert (fault.value.vector, fault.value.error, fault.value.address) == (14, 0x11, p.page(1))
        assert p.load(p.page(1)) & 0xFF == 0xB8


def test_code_of_one_domain_is_not_another_domains() -> None:
    """The same virtual address in two domains, alternately."""
    with puppet() as p:
        q = Puppet(p.machine)
        p.guest.write(p.page(1), returning(11))
        q.guest.write(q.page(1), returning(22))
        for _ in range(20):
            assert (p.execute(p.page(1)), q.execute(q.page(1))) == (11, 22)


def test_a_frame_that_changes_its_owner_brings_no_code() -> None:
    """Freed by one domain and given to another: old translations must not come along."""
    with puppet(memory="8M") as p:
        p.guest.write(p.page(1), returning(1))
        mfn = p.mfn(p.page(1))
        assert p.execute(p.page(1)) == 1
        p.hypercall("update_va_mapping", p.page(1), 0, xen.UVMF_INVLPG)
        frames = struct.pack("<Q", mfn)
        reservation = struct.pack("<QQIIH6x", p.place(frames), 1, 0, 0, DOMID_SELF)
        assert p.hypercall("memory_op", 1, reservation) == 1
        q = Puppet(p.machine)
        assert p.engine.frame(mfn)[0] == q.domain.domid
        for index in range(1, 32):
            q.guest.write(q.page(index), returning(index))
        assert [q.execute(q.page(index)) for index in range(1, 32)] == list(range(1, 32))
        assert PAGE == 4096
