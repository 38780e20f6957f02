"""Writes to a read-only L1 table: emulated (hv/engine/trapped_write.pyx), and alike to the same on plain memory.

A guest runs each instruction twice, on an L1 table and on an ordinary page with the same words in it: registers, flags
and memory must come out the same. The words are entries that are not present, which Xen takes whatever they say.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from guest_kit import (
    ACCESSED,
    DIRTY,
    GLOBAL,
    KERNEL_PAGE,
    PAGE,
    PCD,
    PRESENT,
    READ_ONLY,
    TABLE,
    USER,
    Fault,
    Puppet,
    boot,
    puppet,
)

from hv.abi import xen

ALL, LOGIC, CARRY, NONE = 0x8D5, 0x8C5, 0x001, 0  # the flags that are defined afterwards
SUFFIXES = {1: "b", 2: "w", 4: "l", 8: "q"}
COUNT = {1: "%cl", 2: "%cx", 4: "%ecx", 8: "%rcx"}
AD, KERNEL = ACCESSED | DIRTY, 1 << 52
EVEN = ~1 & (1 << 64) - 1  # bit 0 of a whole entry is PRESENT


def instructions() -> list[tuple[str, int]]:
    """(instruction, flags to compare): r8 points at a word; all of it, or its upper half, is the operand."""
    rows: list[tuple[str, int]] = []
    for size, suffix in SUFFIXES.items():
        at, register = ("(%r8)" if size == 8 else "4(%r8)"), COUNT[size]
        rows += [(f"mov{suffix} {register}, {at}", ALL), (f"xchg{suffix} {register}, {at}", ALL)]
        rows += [(f"mov{suffix} $0x5a, {at}", ALL), (f"lock xadd{suffix} {register}, {at}", ALL)]
        rows += [(f"cmpxchg{suffix} {register}, {at}", ALL), (f"lock cmpxchg{suffix} {register}, {at}", ALL)]
        for name in ("add", "sub", "or", "and", "xor"):
            flags = ALL if name in ("add", "sub") else LOGIC
            rows += [(f"{name}{suffix} {register}, {at}", flags), (f"lock {name}{suffix} $-0x12, {at}", flags)]
        rows += [(f"neg{suffix} {at}", ALL), (f"stos{suffix}", ALL), (f"movs{suffix}", ALL)]
        if size > 1:
            rows += [(f"lock bt{what}{suffix} $9, {at}", CARRY) for what in "src"]
            rows += [(f"{name}{suffix} $0x1234, {at}", ALL) for name in ("add", "mov")]
        if size < 8:
            rows += [(f"{name}{suffix} {register}, {at}", ALL) for name in ("adc", "sbb")]
            rows += [(f"{name}{suffix} {at}", ALL) for name in ("inc", "dec", "not")]
    rows += [(f"movb %{high}, 4(%rdi)", ALL) for high in ("ah", "ch", "dh", "bh", "sil", "r9b")]
    rows += [
        (f"set{condition} 4(%r8)", ALL)
        for condition in ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"]
    ]
    rows += [("lock cmpxchg8b (%r8)", ALL), ("movnti %ecx, 4(%r8)", ALL), ("movnti %rcx, (%r8)", ALL)]
    rows += [("movl %ecx, %fs:4(%r8)", ALL), ("movl %ecx, -12(%r8, %r9, 8)", ALL), ("movl %ecx, 0x404(%r8, %r10)", ALL)]
    for offset in (5, 40, -10, -40, 20):
        for size, at in ((2, "4(%r8)"), (4, "4(%r8)"), (8, "(%r8)")):
            bits = (f"mov ${offset}, %rcx; bt{what}{SUFFIXES[size]} {COUNT[size]}, {at}" for what in "src")
            rows += [(instruction, CARRY) for instruction in bits]
    rows += [("mov $2, %ecx; rep stosq", ALL), ("mov $3, %ecx; rep movsb", ALL), ("mov $0, %ecx; rep stosl", ALL)]
    return rows + shifts() + swaps() + stacks()


def shifts() -> list[tuple[str, int]]:
    """By 1 all flags are defined, else not OF, and not CF of a word that is shifted out; AF never."""
    rows = []
    for size, suffix in SUFFIXES.items():
        start, at = ("movq $0x123450, (%r8); ", "(%r8)") if size == 8 else ("", "4(%r8)")  # bit 0 stays clear
        for name in ("rol", "ror", "shl", "shr", "sar"):
            rotates = name[0] == "r"
            rows += [(f"{start}{name}{suffix} ${count}, {at}", 0xD5 if rotates else 0xC4) for count in (5, 33)]
            if size < 8:
                rows += [(f"{name}{suffix} {at}", ALL if rotates else LOGIC)]
                rows += [(f"{name}{suffix} %cl, {at}", 0xD5 if rotates else 0xC4)]
        if size > 1:
            register = {2: "%r9w", 4: "%r9d", 8: "%r9"}[size]
            rows += [(f"{start}{name}{suffix} $5, {register}, {at}", 0xC5) for name in ("shld", "shrd")]
            rows += [(f"{start}mov $5, %ecx; {name}{suffix} %cl, {register}, {at}", 0xC5) for name in ("shld", "shrd")]
    return rows


def swaps() -> list[tuple[str, int]]:
    return [("movbe %ecx, 4(%r8)", ALL), ("movbe %cx, 6(%r8)", ALL), ("mov $0x12345678, %ecx; movbe %rcx, (%r8)", ALL)]


AWAY = "lea 7b(%rip), %rdx; sub %rdx, (%rsp)"  # the two copies of a call lie at two addresses


def stacks() -> list[tuple[str, int]]:
    """With the stack in the page; how far it has moved is compared too, in rdi."""
    rows = []
    for top, push in (
        (8, "push %rcx"),
        (8, "push $0x1234"),
        (8, "push $-2"),
        (6, "pushw %cx"),
        (6, "pushw $0x1234"),
        (8, "clc; pushf"),
        (8, "push 8(%r8)"),
        (8, f".balign 2; nop; call 7f; 7: {AWAY}"),  # the address behind the call is even
        (8, f"lea 7f(%rip), %rdx; .balign 2; call *%rdx; 7: {AWAY}"),
    ):
        rows.append(f"mov %rsp, %r11; lea {top}(%r8), %rsp; {push}; mov %rsp, %rdi; mov %r11, %rsp; mov $0, %edx")
    return [(row, ALL) for row in [*rows, "push %rcx; popq (%r8)", "pushw %cx; popw 6(%r8)"]]


PROLOGUE = """
main:   hypercall vm_assist, $VMASST_CMD_enable, $VMASST_TYPE_writable_pagetables
        mov     start_info, %rsi
        mov     start_info_mfn_list(%rsi), %rsi
        mov     $table, %rax
        sub     $0xffffffff80000000, %rax
        shr     $12, %rax
        mov     (%rsi, %rax, 8), %rbx
        mov     %rbx, pin + mmuext_op_arg1_mfn
        shl     $12, %rbx
        or      $0x21, %rbx
        hypercall update_va_mapping, $table, %rbx, $UVMF_INVLPG
        hypercall mmuext_op, $pin, $1, $0, $DOMID_SELF
        test    %rax, %rax
        jz      1f
        println "the table can not be pinned"
1:
        .macro  put value, where
        movabs  $\\value, %rax
        mov     %rax, \\where
        .endm
        .macro  keep mask, where
        pushf
        cld
        andq    $\\mask, (%rsp)
        popq    \\where
        mov     %rax, \\where + 8
        mov     %rcx, \\where + 16
        mov     %rdx, \\where + 24
        mov     %rbx, \\where + 32
        sub     %r8, %rdi
        mov     %rdi, \\where + 40
        mov     %rsi, \\where + 48
        mov     -8(%r8), %rax
        mov     %rax, \\where + 56
        mov     (%r8), %rax
        mov     %rax, \\where + 64
        mov     8(%r8), %rax
        mov     %rax, \\where + 72
        .endm
"""
EPILOGUE = """
        println "done"
        ret
        .data
        .balign 16
pin:    .long   MMUEXT_PIN_L1_TABLE, 0
        .quad   0, 0
first:  .skip   80
second: .skip   80
source: .quad   0x1122334455667788, 0x99aabbccddeeff00, 0x123456789abcdef0
        .bss
        .balign 4096
table:  .skip   4096
plain:  .skip   4096
"""


def on(page: str, instruction: str, mask: int, words: list[int], registers: list[int], flags: int, to: str) -> str:
    lines = [f"mov ${page} + 0x800, %r8", *(f"put {word:#x}, {8 * i - 8}(%r8)" for i, word in enumerate(words))]
    lines += [f"movabs ${value:#x}, %{name}" for name, value in zip(("rcx", "rdx", "rbx"), registers[1:], strict=True)]
    lines += ["lea 3(%r8), %rdi" if "sb" in instruction else "mov %r8, %rdi", "mov $source, %rsi", "mov $1, %r9d"]
    lines += ["mov $-0x400, %r10", f"movabs ${registers[0]:#x}, %rax", f"pushq ${flags:#x}", "popf", instruction]
    return "\n".join(f"        {line}" for line in [*lines, f"keep {mask:#x}, {to}"])


def compare(number: int) -> str:
    return f"""
        mov     $first, %rsi
        mov     $second, %rdi
        mov     $10, %ecx
        repe cmpsq
        je      1f
        println "{number} differs"
1:"""


@pytest.mark.parametrize("variant", range(3))
def test_as_on_plain_memory(variant: int) -> None:
    rows, random_bits = instructions(), random.Random(variant)
    assert len(rows) > 150
    parts = []
    for number, (instruction, mask) in enumerate(rows):
        words = [random_bits.getrandbits(64) & EVEN for _ in range(3)]
        registers = [random_bits.getrandbits(64) & EVEN for _ in range(4)]
        if variant == 1 and "cmpxchg" in instruction:  # they find what they expect
            whole = "(%r8)" in instruction.split()[-1:] or instruction.endswith(" (%r8)")
            registers[0] = words[1] if whole else words[1] >> 32
            registers[1] = words[1] >> 32 if "8b" in instruction else registers[1]
            registers[2] = words[1] >> 32
        flags = 0x202 | random_bits.choice((0, ALL, 1, 0x40, 0x80, 0x800)) | (0x400 if variant == 2 else 0)
        for page, to in (("table", "first"), ("plain", "second")):
            parts.append(on(page, instruction, mask, words, registers, flags, to))
        parts.append(compare(number))
    output, exit_code, _ = boot(PROLOGUE + "\n".join(parts) + EPILOGUE)
    differing = [rows[int(line.split()[0])][0] for line in output.splitlines() if line.endswith("differs")]
    assert not differing and output.endswith("done\n") and exit_code == 0, (differing, output)


# --- what is refused is the guest's #PF, and changes nothing


def l1_shown(p: Puppet) -> int:
    """The address of a read-only view of the guest's own L1 table, with writable page tables switched on."""
    assert p.hypercall("vm_assist", xen.VMASST_CMD_enable, xen.VMASST_TYPE_writable_pagetables) == 0
    assert p.map(p.page(1), p.table(1, p.page(1)), READ_ONLY) == 0
    return p.page(1)


def entry_of(p: Puppet, index: int) -> int:
    """The address, in that view, of the entry that maps a page."""
    return l1_shown(p) + (p.page(index) >> 12 & 511) * 8


Row = tuple[str, Callable[[Puppet], tuple[int, int]], bool]
STORES: list[Row] = [
    ("not present", lambda p: (entry_of(p, 5), 0x1234 << 12), True),
    ("another page of its own", lambda p: (entry_of(p, 5), p.mfn(p.page(6)) << 12 | KERNEL_PAGE), True),
    ("its own page, read-only", lambda p: (entry_of(p, 5), p.mfn(p.page(5)) << 12 | READ_ONLY), True),
    ("for user mode", lambda p: (entry_of(p, 5), p.mfn(p.page(5)) << 12 | KERNEL_PAGE | USER), True),
    ("its L1 table, read-only", lambda p: (entry_of(p, 5), p.table(1, p.page(1)) << 12 | READ_ONLY), True),
    ("its L1 table, writable", lambda p: (entry_of(p, 5), p.table(1, p.page(1)) << 12 | KERNEL_PAGE), False),
    ("its L4 table, writable", lambda p: (entry_of(p, 5), p.table(4, p.page(1)) << 12 | KERNEL_PAGE), False),
    ("another domain's page", lambda p: (entry_of(p, 5), other(p) << 12 | READ_ONLY), False),
    ("hv's page", lambda p: (entry_of(p, 5), 300 << 12 | READ_ONLY), False),
    ("no frame", lambda p: (entry_of(p, 5), (1 << 39) << 12 | READ_ONLY), False),
    ("uncached", lambda p: (entry_of(p, 5), p.mfn(p.page(5)) << 12 | KERNEL_PAGE | PCD), False),
    ("not aligned", lambda p: (entry_of(p, 5) + 4, 0), False),
    ("across the page's end", lambda p: (l1_shown(p) + PAGE - 4, 0), False),
]


def other(p: Puppet) -> int:
    return p.machine.engine.create_domain(77, 1, 16).populate(0)


@pytest.mark.parametrize(("name", "prepare", "accepted"), STORES, ids=[row[0] for row in STORES])
def test_new_entries(name: str, prepare: Callable[[Puppet], tuple[int, int]], accepted: bool) -> None:
    with puppet() as p:
        address, value = prepare(p)
        where, old = p.leaf(p.page(5))
        before = [p.engine.frame(mfn) for mfn in range(p.engine.nr_frames) if mfn < 4096]
        if accepted:
            p.store(address, value)
            new = int.from_bytes(p.engine.ram[where : where + 8], "little")
            added = 0 if not value & PRESENT else GLOBAL if value & USER else KERNEL | USER
            assert new & ~AD == (value | added) & ~AD
        else:
            with pytest.raises(Fault) as caught:
                p.store(address, value)
            assert (caught.value.vector, caught.value.error) == (14, 3)
            assert p.leaf(p.page(5))[1] == old
            assert [p.engine.frame(mfn) for mfn in range(p.engine.nr_frames) if mfn < 4096] == before
        assert p.alive


def test_without_the_assist() -> None:
    with puppet() as p:
        at = entry_of(p, 5)
        assert p.hypercall("vm_assist", xen.VMASST_CMD_disable, xen.VMASST_TYPE_writable_pagetables) == 0
        with pytest.raises(Fault, match="error 0x3"):
            p.store(at, 0)


@pytest.mark.parametrize("level", [2, 3, 4])
def test_only_l1_tables(level: int) -> None:
    with puppet() as p:
        l1_shown(p)
        assert p.map(p.page(2), p.table(level, p.page(1)), READ_ONLY) == 0
        with pytest.raises(Fault, match="error 0x3"):
            p.store(p.page(2) + 8 * 100, 0)


def test_exchange_gives_the_old_entry() -> None:
    """What Linux does when it takes a mapping away: the entry comes back as Xen keeps it, and the mapping is gone."""
    with puppet() as p:
        at = entry_of(p, 5)
        old = p.leaf(p.page(5))[1]
        assert p.exchange(at, 0) == old and old & TABLE & ~0x20 & 0x7 == 7
        p.mmuext(xen.MMUEXT_INVLPG_LOCAL, p.page(5))
        with pytest.raises(Fault, match="error 0x2"):
            p.store(p.page(5), 1)
