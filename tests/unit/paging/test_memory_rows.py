"""What calls for page tables answer about each kind of frame, flag, slot and number: a table of Xen 4.17's answers.

A row is a function of a puppet and its answer: an error's name, a number, or the exception that came. No row looks into
hv: tests/oracle/test_memory_as_on_xen.py asks real Xen all of them, and has the reasons of those that a domain 0 gets
another answer to. `ANSWERS` has a line for each action, a word for each frame in the order of `FRAMES`; a dot is 0.
Sources: Xen 4.17 arch/x86/mm.c, arch/x86/pv/mm.h, arch/x86/pv/descriptor-tables.c, common/memory.c.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from guest_kit import (
    ACCESSED,
    ADDRESS,
    DIRTY,
    KERNEL_PAGE,
    MACHPHYS,
    PAGE,
    READ_ONLY,
    TABLE,
    UNMAPPED,
    Fault,
    Puppet,
    error_name,
    puppet,
)

from hv.abi import memory, xen
from hv.abi.xen import DOMID_SELF

FREE_SLOT = 300  # of the tables above the puppet's pages
LINEAR = TABLE & ~2
Act = Callable[[Puppet], int]
ROWS: dict[str, tuple[Act, str]] = {}


def row(name: str, act: Act, answer: str) -> None:
    assert name not in ROWS
    ROWS[name] = act, answer


def answer(p: Puppet, act: Act) -> str:
    try:
        result = act(p)
    except Fault as fault:
        return f"#{fault.vector} error {fault.error:#x}"
    return str(error_name(result)) if result < 0 else hex(result)


# --- frames


def pinned(level: int, *entries: tuple[int, int], page: int = 2) -> Act:
    """The frame of a page that is pinned as a table with these (slot, entry)."""

    def prepare(p: Puppet) -> int:
        for slot, entry in entries:
            p.store(p.page(page) + 8 * slot, entry)
        mfn = p.read_only(page)
        assert p.mmuext(xen.MMUEXT_PIN_L1_TABLE + level - 1, mfn) == 0
        return mfn

    return prepare


def descriptors(p: Puppet) -> int:
    mfn = p.read_only(5)
    assert p.hypercall("set_gdt", struct.pack("<Q", mfn), 512) == 0
    return mfn


def idle(p: Puppet) -> int:
    """A frame that nothing maps."""
    mfn = p.mfn(p.page(7))
    assert p.map(p.page(7), 0, 0) == 0
    return mfn


FRAMES: dict[str, Act] = {
    "writable": lambda p: p.mfn(p.page(4)),
    "read-only": lambda p: p.read_only(5),
    "idle": idle,
    **{f"L{k} in use": lambda p, k=k: p.table(k, p.page(1)) for k in (1, 2, 3, 4)},
    **{f"L{k} pinned": pinned(k) for k in (1, 2, 3, 4)},
    "descriptors": descriptors,
    "far": lambda p: 1 << 39,
    "none": lambda p: ADDRESS >> 12,
}

# --- actions on a frame


def extended(command: int, frame_is_second: bool = False) -> Callable[[Puppet, int], int]:
    if frame_is_second:
        return lambda p, mfn: p.mmuext(command, p.mfn(p.page(3)), mfn)
    return lambda p, mfn: p.mmuext(command, mfn)


def free_slot(p: Puppet, level: int) -> int:
    """The machine address of an entry that nothing is in."""
    return (p.table(level, p.page(1)) << 12) + 8 * FREE_SLOT


def link(level: int, flags: int) -> Callable[[Puppet, int], int]:
    return lambda p, mfn: p.mmu_update(free_slot(p, level), mfn << 12 & ADDRESS | flags)


def release(p: Puppet, mfn: int) -> int:
    request = struct.pack("<QQIIH6x", p.place(struct.pack("<Q", mfn)), 1, 0, 0, DOMID_SELF)
    return p.hypercall("memory_op", memory.XENMEM_decrease_reservation, request)


def trade(p: Puppet, mfn: int) -> int:
    lists = (p.place(struct.pack("<Q", n)) for n in (mfn, 5))
    halves = b"".join(struct.pack("<QQIIH6x", at, 1, 0, 0, DOMID_SELF) for at in lists)
    return p.hypercall("memory_op", memory.XENMEM_exchange, halves + bytes(8))


ACTIONS: dict[str, Callable[[Puppet, int], int]] = {
    **{f"pin as L{k}": extended(xen.MMUEXT_PIN_L1_TABLE + k - 1) for k in (1, 2, 3, 4)},
    "unpin": extended(xen.MMUEXT_UNPIN_TABLE),
    "user mode on": extended(xen.MMUEXT_NEW_USER_BASEPTR),
    "clear": extended(xen.MMUEXT_CLEAR_PAGE),
    "copy over": lambda p, mfn: p.mmuext(xen.MMUEXT_COPY_PAGE, mfn, p.mfn(p.page(3))),
    "copy from": extended(xen.MMUEXT_COPY_PAGE, frame_is_second=True),
    "map writable": lambda p, mfn: p.map(p.page(1), mfn & ADDRESS >> 12, KERNEL_PAGE),
    "map read-only": lambda p, mfn: p.map(p.page(1), mfn & ADDRESS >> 12, READ_ONLY),
    "put into the L1, writable": lambda p, mfn: p.mmu_update(p.slot(1, p.page(1)), mfn << 12 & ADDRESS | TABLE),
    "put into the L1, read-only": lambda p, mfn: p.mmu_update(p.slot(1, p.page(1)), mfn << 12 & ADDRESS | READ_ONLY),
    **{f"put into the L{k}, writable": link(k, TABLE) for k in (2, 3, 4)},
    **{f"put into the L{k}, read-only": link(k, LINEAR) for k in (2, 3, 4)},
    "number": lambda p, mfn: p.mmu_update(mfn << 12 & ADDRESS | xen.MMU_MACHPHYS_UPDATE, 5),
    "describe in": lambda p, mfn: p.hypercall("update_descriptor", (mfn << 12 & ADDRESS) + 8, 0),
    "a GDT in": lambda p, mfn: p.hypercall("set_gdt", struct.pack("<Q", mfn), 512),
    "release": release,
    "trade": trade,
}

ANSWERS = """
pin as L1: INVAL . . . INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL
pin as L2: INVAL . . INVAL . INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL
pin as L3: INVAL . . INVAL INVAL . INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL
pin as L4: INVAL . . INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL
unpin: INVAL INVAL INVAL INVAL INVAL INVAL . . . . . INVAL INVAL INVAL
user mode on: INVAL . . INVAL INVAL INVAL . INVAL INVAL INVAL . INVAL INVAL INVAL
clear: . . . INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL
copy over: . . . INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL
copy from: . . . . . . . . . . . . INVAL INVAL
map writable: . . . BUSY BUSY BUSY BUSY BUSY BUSY BUSY BUSY BUSY PERM INVAL
map read-only: . . . . . . . . . . . . PERM INVAL
put into the L1, writable: . . . BUSY BUSY BUSY BUSY BUSY BUSY BUSY BUSY BUSY PERM INVAL
put into the L1, read-only: . . . . . . . . . . . . PERM INVAL
put into the L2, writable: INVAL . . . INVAL INVAL INVAL . INVAL INVAL INVAL INVAL INVAL INVAL
put into the L3, writable: INVAL . . INVAL . INVAL INVAL INVAL . INVAL INVAL INVAL INVAL INVAL
put into the L4, writable: INVAL . . INVAL INVAL . INVAL INVAL INVAL . INVAL INVAL INVAL INVAL
put into the L2, read-only: INVAL . . . . INVAL INVAL . . INVAL INVAL INVAL INVAL INVAL
put into the L3, read-only: INVAL . . INVAL . . INVAL INVAL . . INVAL INVAL INVAL INVAL
put into the L4, read-only: INVAL . . INVAL INVAL . . INVAL INVAL . . INVAL INVAL INVAL
number: . . . . . . . . . . . . INVAL INVAL
describe in: . . . INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL . INVAL INVAL
a GDT in: INVAL . . INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL . INVAL INVAL
release: 0x1 0x1 0x1 0x1 0x1 0x1 0x1 0x1 0x1 0x1 0x1 0x1 . .
trade: INVAL INVAL . INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL INVAL
"""

for line in ANSWERS.strip().splitlines():
    action, _, words = line.partition(":")
    for (frame_name, frame), word in zip(FRAMES.items(), words.split(), strict=True):
        result = "0x0" if word == "." else f"-E{word}" if word.isalpha() else word
        row(f"{action}: {frame_name}", lambda p, a=ACTIONS[action], f=frame: a(p, f(p)), result)

# --- flags: what may be in an entry, and what of it is changed


def entry_with(level: int, flags: int) -> Act:
    """The entry as it reads afterwards, without its frame; the error where it is refused."""

    def act(p: Puppet) -> int:
        target = p.mfn(p.page(4)) if level == 1 else pinned(level - 1)(p)
        where = p.slot(1, p.page(1)) if level == 1 else free_slot(p, level)
        result = p.mmu_update(where, target << 12 | flags)
        if result:
            return result
        assert p.map(p.page(6), where >> 12, READ_ONLY) == 0
        entry = p.load(p.page(6) + where % PAGE)
        assert (entry & ADDRESS) >> 12 == target
        return entry & ~ADDRESS & ~ACCESSED & ~DIRTY

    return act


# A bit beside PRESENT: what comes of the entry in an L1, L2, L3 and L4.
FLAG_ANSWERS = """
1: 0x10000000000007 0x7 0x7 0x7
2: 0x105 0x5 0x5 0x5
3: -EINVAL -EINVAL -EINVAL -EINVAL
4: -EINVAL -EINVAL -EINVAL -EINVAL
7: -EINVAL -EINVAL -EINVAL -EINVAL
8: 0x10000000000105 -EINVAL -EINVAL -EINVAL
9: 0x10000000000205 0x205 0x205 0x205
10: 0x10000000000405 0x405 0x405 0x405
11: 0x10000000000805 0x805 0x805 0x805
52: 0x10000000000005 0x10000000000005 0x10000000000005 0x10000000000005
53: 0x30000000000005 0x20000000000005 0x20000000000005 0x20000000000005
58: 0x410000000000005 0x400000000000005 0x400000000000005 0x400000000000005
59: 0x810000000000005 0x800000000000005 0x800000000000005 0x800000000000005
61: 0x2010000000000005 0x2000000000000005 0x2000000000000005 0x2000000000000005
62: 0x4010000000000005 0x4000000000000005 0x4000000000000005 0x4000000000000005
63: 0x8010000000000005 0x8000000000000005 0x8000000000000005 0x8000000000000005
"""
for line in FLAG_ANSWERS.strip().splitlines():
    bit, _, words = line.partition(":")
    for level, word in enumerate(words.split(), 1):
        row(f"bit {bit} in an L{level} entry", entry_with(level, 1 | 1 << int(bit)), word)

# --- linear page tables: a table shows another of its level


def shows(level: int, flags: int = LINEAR) -> Act:
    """Page 2 is a pinned table, page 3 one that shows it; the frame of the latter."""

    def prepare(p: Puppet) -> int:
        shown = pinned(level)(p)
        return pinned(level, (5, shown << 12 | flags), page=3)(p)

    return prepare


def pinning(level: int, *entries: Callable[[Puppet], int], page: int = 3) -> Act:
    """Pin a page with these entries from slot 5 on."""

    def act(p: Puppet) -> int:
        for i, entry in enumerate(entries):
            p.store(p.page(page) + 8 * (5 + i), entry(p))
        return p.mmuext(xen.MMUEXT_PIN_L1_TABLE + level - 1, p.read_only(page))

    return act


def by_update(level: int, first: Act, entry: Callable[[Puppet, int], int], where: Act | None = None) -> Act:
    """Put an entry, made of what `first` gives, into slot 7 of a pinned table (page 8, or `where`)."""

    def act(p: Puppet) -> int:
        made = first(p)
        into = pinned(level, page=8)(p) if where is None else where(p)
        return p.mmu_update((into << 12) + 56, entry(p, made))

    return act


def shown_by_update(level: int, first: Act, where: Act | None = None) -> Act:
    return by_update(level, first, lambda p, mfn: mfn << 12 | LINEAR, where)


for level in (2, 3, 4):
    shown = pinned(level)
    in_use = pinning(level, lambda p, k=level: p.table(k, p.page(1)) << 12 | LINEAR)
    row(f"L{level} shows a pinned one", pinning(level, lambda p, f=shown: f(p) << 12 | LINEAR), "0x0")
    row(f"L{level} shows a pinned one, writable", pinning(level, lambda p, f=shown: f(p) << 12 | TABLE), "-EINVAL")
    row(
        f"L{level} shows the one in use", pinning(level, lambda p, k=level: p.table(k, p.page(1)) << 12 | LINEAR), "0x0"
    )
    row(f"L{level} shows itself", pinning(level, lambda p: p.mfn(p.page(3)) << 12 | LINEAR), "0x0")
    row(f"L{level} shows itself, writable", pinning(level, lambda p: p.mfn(p.page(3)) << 12 | TABLE), "-EINVAL")
    one = by_update(level, shown, lambda p, mfn: mfn << 12 | LINEAR)
    row(f"L{level} shows a pinned one by an update", one, "0x0")
    row(
        f"L{level} shows one that shows one",
        by_update(level, shows(level), lambda p, mfn: mfn << 12 | LINEAR),
        "-EINVAL",
    )
    other_way = by_update(level, shows(level), lambda p, mfn: mfn << 12 | LINEAR, lambda p: p.mfn(p.page(2)))
    row(f"L{level} that is shown shows the other", other_way, "-EINVAL")
    twice = by_update(level, shows(level), lambda p, mfn: p.mfn(p.page(2)) << 12 | LINEAR)
    row(f"L{level}s show the same", twice, "0x0")
    row(f"L{level} shows an unvalidated page", pinning(level, lambda p: p.read_only(9) << 12 | LINEAR), "0x0")

    def stays(p: Puppet, level: int = level) -> int:
        shows(level)(p)
        mfn = p.mfn(p.page(2))
        assert p.mmuext(xen.MMUEXT_UNPIN_TABLE, mfn) == 0
        return p.mmuext(xen.MMUEXT_PIN_L1_TABLE, mfn)

    row(f"L{level} that is shown and unpinned is no L1", stays, "-EINVAL")

    def ends(p: Puppet, level: int = level) -> int:
        by = shows(level)(p)
        mfn = p.mfn(p.page(2))
        assert p.mmuext(xen.MMUEXT_UNPIN_TABLE, mfn) == 0
        assert p.mmuext(xen.MMUEXT_UNPIN_TABLE, by) == 0
        return p.map(p.page(2), mfn, KERNEL_PAGE)

    row(f"L{level} that was shown is a page again", ends, "0x0")

# --- stores to a read-only L1 table: the word at rsi was WORD, rcx is OPERAND; the word then, or the fault

WORD, OPERAND = 0x0123_4567_89AB_CDF0, 0x1122_3344_5566_7788
STORES = {
    "rolq $5, (%rsi)": ("48c10605", "0x2468acf13579be00"),
    "rorl $5, 4(%rsi)": ("c14e0405", "0x38091a2b89abcdf0"),
    "shlq $5, (%rsi)": ("48c12605", "0x2468acf13579be00"),
    "shrw $3, 4(%rsi)": ("66c16e0403", "0x12308ac89abcdf0"),
    "sarb $1, 7(%rsi)": ("d07e07", "0x23456789abcdf0"),
    "shll %cl, 4(%rsi)": ("d36604", "0x2345670089abcdf0"),
    "shldq $5, %rcx, (%rsi)": ("480fa40e05", "0x2468acf13579be02"),
    "shrdl $5, %ecx, 4(%rsi)": ("0fac4e0405", "0x40091a2b89abcdf0"),
    "movq %rcx, %xmm1; movq %xmm1, (%rsi)": ("66480f6ec9660fd60e", "#14 error 0x3"),
    "movq %rcx, %xmm1; movss %xmm1, 4(%rsi)": ("66480f6ec9f30f114e04", "#14 error 0x3"),
    "movq %rcx, %xmm1; movsd %xmm1, (%rsi)": ("66480f6ec9f20f110e", "#14 error 0x3"),
    "movq %rcx, %xmm1; movlps %xmm1, (%rsi)": ("66480f6ec90f130e", "#14 error 0x3"),
    "movq %rcx, %xmm1; movd %xmm1, 4(%rsi)": ("66480f6ec9660f7e4e04", "#14 error 0x3"),
    "movq %rcx, %mm1; movq %mm1, (%rsi); emms": ("480f6ec90f7f0e0f77", "#14 error 0x3"),
    "movnti %rcx, (%rsi)": ("480fc30e", "0x1122334455667788"),
    "movw %ds, 4(%rsi)": ("8c5e04", "#14 error 0x3"),
    "stmxcsr 4(%rsi)": ("0fae5e04", "#14 error 0x3"),
    "mov %rsp, %r11; lea 8(%rsi), %rsp; push %rcx; mov %r11, %rsp": ("4989e3488d6608514c89dc", "0x1122334455667788"),
    "mov %rsp, %r11; lea 6(%rsi), %rsp; pushw %cx; mov %r11, %rsp": ("4989e3488d660666514c89dc", "0x123778889abcdf0"),
    "push %rcx; popq (%rsi)": ("518f06", "0x1122334455667788"),
    "movups %xmm1, (%rsi)": ("0f110e", "#14 error 0x3"),
    "movl %ecx, 2(%rsi)": ("894e02", "#14 error 0x3"),
    "movw %cx, 1(%rsi)": ("66894e01", "#14 error 0x3"),
    "lock addl %ecx, 4(%rsi)": ("f0014e04", "0x5689bcef89abcdf0"),
    "xorb %cl, 5(%rsi)": ("304e05", "0x123cd6789abcdf0"),
    "btsl $3, 4(%rsi)": ("0fba6e0403", "0x123456f89abcdf0"),
    "lock xaddq %rcx, (%rsi)": ("f0480fc10e", "0x124578abdf124578"),
    "mov %rsi, %rdi; mov %ecx, %eax; stosl": ("4889f789c8ab", "0x123456755667788"),
    "notb 6(%rsi)": ("f65606", "0x1dc456789abcdf0"),
    "negw 6(%rsi)": ("66f75e06", "0xfedd456789abcdf0"),
}


def storing(code: str) -> Act:
    def act(p: Puppet) -> int:
        assert p.hypercall("vm_assist", xen.VMASST_CMD_enable, xen.VMASST_TYPE_writable_pagetables) == 0
        assert p.hypercall("update_va_mapping", p.page(9), WORD, 2) == 0
        where = (p.table(1, p.page(1)) << 12) + (p.page(9) >> 12 & 511) * 8
        assert p.map(p.page(6), where >> 12, READ_ONLY) == 0
        at = p.page(6) + where % PAGE
        loads = b"\x48\xbe" + struct.pack("<Q", at) + b"\x48\xb9" + struct.pack("<Q", OPERAND)
        whole = loads + bytes.fromhex(code) + b"\xc3"
        for i in range(0, len(whole), 8):  # by the guest's own stores: QEMU translates anew
            p.store(p.page(8) + i, int.from_bytes(whole[i : i + 8], "little"))
        p.execute(p.page(8))
        return p.load(at)

    return act


for name, (code, word) in STORES.items():
    row(f"store: {name}", storing(code), word)

# --- superpages


for level in (2, 3):
    row(f"superpage at level {level}", lambda p, k=level: p.mmu_update(free_slot(p, k), TABLE | 0x80), "-EINVAL")
    row(f"superpage at level {level}, pinned", pinning(level, lambda p: TABLE | 0x80), "-EINVAL")

# --- requests: commands, numbers, arrays, counters

NOT_CANONICAL, NOBODY, PREEMPTED = 1 << 47, 999, 1 << 31


def updating(command: int, who: int, value: Callable[[Puppet], int] = lambda p: 0) -> Act:
    def act(p: Puppet) -> int:
        request = struct.pack("<2Q", p.slot(1, p.page(1)) | command, value(p))
        return p.hypercall("mmu_update", request, 1, 0, who)

    return act


for command in (4, 5, 6, 7):
    row(f"mmu_update {command}", updating(command, DOMID_SELF), "-ENOSYS")
    row(f"mmu_update {command} for nobody", updating(command, NOBODY), "-ESRCH")
    row(f"mmu_update {command} for DOMID_XEN", updating(command, xen.DOMID_XEN), "-ENOSYS")
    row(f"mmu_update {command} for DOMID_IO", updating(command, xen.DOMID_IO), "-ENOSYS")
for command in (0, 2, 3):
    row(f"mmu_update {command} for DOMID_XEN", updating(command, xen.DOMID_XEN), "-EPERM")
    row(f"mmu_update {command} to nothing for DOMID_IO", updating(command, xen.DOMID_IO), "0x0")
    own = updating(command, xen.DOMID_IO, lambda p: p.mfn(p.page(4)) << 12 | KERNEL_PAGE)
    row(f"mmu_update {command} to an own page for DOMID_IO", own, "-EBUSY")
    same = updating(command, xen.DOMID_IO, lambda p: p.leaf(p.page(1))[1])
    row(f"mmu_update {command} to what is there for DOMID_IO", same, "0x0")
row("mmu_update 1 for DOMID_IO", updating(1, xen.DOMID_IO), "-EINVAL")
row("mmu_update 1 for DOMID_XEN", updating(1, xen.DOMID_XEN), "-EPERM")
for level in (2, 3, 4):

    def at_level(p: Puppet, level: int = level) -> int:
        return p.hypercall("mmu_update", struct.pack("<2Q", free_slot(p, level), 0), 1, 0, xen.DOMID_IO)

    row(f"an L{level} entry for DOMID_IO", at_level, "-EINVAL")
for name, who, result in (
    ("itself", DOMID_SELF, "0x0"),
    ("nobody", NOBODY, "-ESRCH"),
    ("DOMID_IO", xen.DOMID_IO, "0x0"),
    ("DOMID_XEN", xen.DOMID_XEN, "0x0"),
    ("its tables and itself", DOMID_SELF | 1 << 16, "0x0"),
    ("nobody's tables", DOMID_SELF | (NOBODY + 1) << 16, "-ESRCH"),
    ("DOMID_SELF's tables", DOMID_SELF | (DOMID_SELF + 1) << 16, "-ESRCH"),
):
    row(f"mmu_update of nothing for {name}", lambda p, w=who: p.hypercall("mmu_update", 0, 0, 0, w), result)
for call in ("mmu_update", "mmuext_op"):
    for name, where, count, result in (
        ("nothing at 0", 0, 0, "0x0"),
        ("nothing at no address", NOT_CANONICAL, 0, "-EFAULT"),
        ("nothing in Xen's range", MACHPHYS, 0, "-EFAULT"),
        ("nothing behind Xen's range", 0xFFFF_8800_0000_0000, 0, "0x0"),
        ("one at no address", NOT_CANONICAL, 1, "-EFAULT"),
        ("one where nothing is mapped", UNMAPPED, 1, "-EFAULT"),
    ):

        def ask(p: Puppet, call: str = call, where: int = where, count: int = count, who: int = DOMID_SELF) -> int:
            return p.hypercall(call, where, count, 0, who)

        row(f"{call} of {name}", ask, result)
        refusal = "-EFAULT" if where in (NOT_CANONICAL, MACHPHYS) else "-ESRCH"
        row(f"{call} of {name} for nobody", lambda p, f=ask: f(p, who=NOBODY), refusal)
    rest = str(0x8765_4321 - (1 << 32))
    row(f"{call}, the rest of nothing", lambda p, f=ask: f(p, where=0, count=PREEMPTED, who=0x1_8765_4321), rest)
    row(f"{call}, an empty rest", lambda p, f=ask: f(p, where=p.arena, count=PREEMPTED), "0x0")

    def counted(p: Puppet, call: str = call, who: int = DOMID_SELF, before: int = 7, count: int = PREEMPTED) -> int:
        done = p.place(struct.pack("<I", before))
        p.hypercall(call, p.place(bytes(16)), count, done, who)
        return p.load(done) & 0xFFFF_FFFF

    row(f"{call} counts on", counted, "0x7")
    row(f"{call} counts from 0", lambda p, f=counted: f(p, count=0), "0x0")
    left = "0x0" if call == "mmu_update" else "0x7"
    row(f"{call} for nobody counts", lambda p, f=counted: f(p, who=NOBODY, count=0), left)
row(
    "mmuext_op's domain has 16 bits",
    lambda p: p.hypercall("mmuext_op", struct.pack("<I4x2Q", 6, 0, 0), 1, 0, 0x5_0000 | DOMID_SELF),
    "0x0",
)


def mask_at_end(p: Puppet, size: int) -> int:
    """The address of the last bytes of a page behind which nothing is mapped."""
    assert p.map(p.page(11), 0, 0) == 0
    return p.page(11) - size


for size, result in ((1, "-EFAULT"), (4, "-EFAULT"), (7, "-EFAULT"), (8, "0x0")):

    def flushing(p: Puppet, size: int = size) -> int:
        return p.map(p.page(1), p.mfn(p.page(4)), KERNEL_PAGE, mask_at_end(p, size) & ~3 | xen.UVMF_INVLPG)

    if size != 1 and size != 7:
        row(f"update_va_mapping with a mask of {size} bytes", flushing, result)

    def multi(p: Puppet, size: int = size) -> int:
        return p.mmuext(xen.MMUEXT_INVLPG_MULTI, p.page(1), mask_at_end(p, size))

    row(f"INVLPG_MULTI with a mask of {size} bytes", multi, result.replace("EFAULT", "EINVAL"))


@pytest.mark.parametrize("name", ROWS)
def test_answer(name: str) -> None:
    act, expected = ROWS[name]
    with puppet() as p:
        assert answer(p, act) == expected
        assert p.alive


def test_every_action_has_a_line() -> None:
    assert [line.partition(":")[0] for line in ANSWERS.strip().splitlines()] == list(ACTIONS)
