"""Attacks on memory that take several steps, or other ways than the calls for page tables (rows as in attack_kit).

Stores to read-only L1 tables that would smuggle entries past the checks, multicalls that change a frame's type between
the steps, frames in use that are dropped or traded, other domains by number, addresses and requests that are none.
Sources: Xen 4.17 arch/x86/pv/ro-page-fault.c (ptwr_emulated_update), arch/x86/mm.c (do_mmu_update, do_mmuext_op,
get_pg_owner, vcpumask_to_pcpumask, steal_page), arch/x86/pv/descriptor-tables.c, common/memory.c.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from attack_kit import (
    FRAMES,
    Attack,
    check,
    foreign,
    guest_gdt,
    m2p_frame,
    of_own,
    on,
    other,
    own_entry,
    pinned_l1,
    shown,
    table,
    writable_page,
)
from guest_kit import ADDRESS, KERNEL_PAGE, MACHPHYS, PAGE, PWT, READ_ONLY, TABLE, UNMAPPED, Puppet, error_name

from hv.abi import hypercalls, memory, xen
from hv.abi.xen import DOMID_SELF

NOT_CANONICAL = 1 << 47
FAULT = "#14 error 0x3"  # a store to what is present and read-only
Step = tuple[str, int | bytes, int | bytes, int | bytes, int]
ROWS: dict[str, tuple[Callable[[Puppet], Attack], str]] = {}


def row(name: str, prepare: Callable[[Puppet], Attack], expected: str) -> None:
    assert name not in ROWS
    ROWS[name] = prepare, expected


# --- the guest's tables by stores: what Xen does not take reaches the guest as the page fault that it is


def l1_slot(p: Puppet) -> int:
    """The address at which the guest sees, read-only, the L1 entry of page 1."""
    return shown(1)(p) + p.slot(1, p.page(1)) % PAGE


def writing(value: Callable[[Puppet], int], how: Callable[[Puppet, int, int], object]) -> Callable[[Puppet], Attack]:
    def prepare(p: Puppet) -> Attack:
        new, at = value(p), l1_slot(p)
        return lambda: how(p, at, new)

    return prepare


SMUGGLED: dict[str, Callable[[Puppet], int]] = {
    **{f"{name}, writable": lambda p, f=frame: f(p) << 12 & ADDRESS | KERNEL_PAGE for name, frame in FRAMES.items()},
    **{f"the L{k} table, writable": lambda p, k=k: p.table(k, p.page(1)) << 12 | TABLE for k in (1, 2, 3, 4)},
    "a frame of descriptors, writable": lambda p: guest_gdt(p) << 12 | KERNEL_PAGE,
    "a page, write-through": of_own(KERNEL_PAGE | PWT),
}
for name, value in SMUGGLED.items():
    row(f"store an entry to {name}", writing(value, lambda p, at, new: p.store(at, new)), FAULT)
    row(f"exchange an entry for {name}", writing(value, lambda p, at, new: p.exchange(at, new)), FAULT)
for offset in (1, 2, 4, 7):
    row(f"store over two L1 entries, {offset} off", on(l1_slot, lambda p, at, o=offset: p.store(at + o, 0)), FAULT)

# --- multicalls: what is true in one step is not in the next


def calls(p: Puppet, *steps: Step) -> list[int | str]:
    """The results of a multicall by name; bytes are passed by address."""
    words = b""
    for name, *arguments in steps:
        given = [p.place(a) if isinstance(a, bytes) else a for a in arguments]
        words += struct.pack("<8Q", hypercalls.BY_NAME[name].number, 0, *given, 0, 0)
    at = p.place(words)
    assert p.hypercall("multicall", at, len(steps)) == 0
    return [error_name(struct.unpack("<q", p.guest.read(at + 64 * i + 8, 8))[0]) for i in range(len(steps))]


def set_page(p: Puppet, index: int, new: int) -> Step:
    return "update_va_mapping", p.page(index), new, xen.UVMF_INVLPG, 0


def operation(command: int, mfn: int) -> Step:
    return "mmuext_op", struct.pack("<I4x2Q", command, mfn, 0), 1, 0, DOMID_SELF


def put_entry(where: int, value: int) -> Step:
    return "mmu_update", struct.pack("<2Q", where, value), 1, 0, DOMID_SELF


def interleaved(attack: Callable[[Puppet, int], Step]) -> Callable[[Puppet], Attack]:
    """The attack on page 2 while it is a pinned L1 table; before and after it is a writable page."""

    def prepare(p: Puppet) -> Attack:
        mfn = p.mfn(p.page(2))
        steps = (
            set_page(p, 2, mfn << 12 | READ_ONLY),
            operation(xen.MMUEXT_PIN_L1_TABLE, mfn),
            attack(p, mfn),
            operation(xen.MMUEXT_UNPIN_TABLE, mfn),
            set_page(p, 2, mfn << 12 | KERNEL_PAGE),
        )

        def run() -> int:
            done = calls(p, *steps)
            assert done[:2] == done[3:] == [0, 0]
            return -next(n for n in range(1, 200) if error_name(-n) == done[2])

        return run

    return prepare


BETWEEN: dict[str, tuple[Callable[[Puppet, int], Step], str]] = {
    "map it writable": (lambda p, mfn: set_page(p, 2, mfn << 12 | KERNEL_PAGE), "-EBUSY"),
    "map it writable elsewhere": (lambda p, mfn: set_page(p, 3, mfn << 12 | KERNEL_PAGE), "-EBUSY"),
    "have it map itself writable": (lambda p, mfn: put_entry(mfn << 12, mfn << 12 | KERNEL_PAGE), "-EBUSY"),
    "have it map the M2P writable": (lambda p, mfn: put_entry(mfn << 12, m2p_frame(p) << 12 | KERNEL_PAGE), "-EBUSY"),
    "have it map another domain's page": (lambda p, mfn: put_entry(mfn << 12, foreign(p) << 12 | READ_ONLY), "-EBUSY"),
    "pin it again": (lambda p, mfn: operation(xen.MMUEXT_PIN_L1_TABLE, mfn), "-EINVAL"),
    "pin it as L2": (lambda p, mfn: operation(xen.MMUEXT_PIN_L2_TABLE, mfn), "-EINVAL"),
    "pin it as L4": (lambda p, mfn: operation(xen.MMUEXT_PIN_L4_TABLE, mfn), "-EINVAL"),
    "clear it": (lambda p, mfn: operation(xen.MMUEXT_CLEAR_PAGE, mfn), "-EINVAL"),
    "run on it": (lambda p, mfn: operation(xen.MMUEXT_NEW_BASEPTR, mfn), "-EINVAL"),
    "user mode on it": (lambda p, mfn: operation(xen.MMUEXT_NEW_USER_BASEPTR, mfn), "-EINVAL"),
    "link it at level 3": (lambda p, mfn: put_entry(p.slot(3, p.page(1)), mfn << 12 | TABLE), "-EINVAL"),
    "a GDT in it": (lambda p, mfn: ("set_gdt", struct.pack("<Q", mfn), 512, 0, 0), "-EINVAL"),
    "a descriptor into it": (lambda p, mfn: ("update_descriptor", mfn << 12, 0, 0, 0), "-EINVAL"),
    "trade it": (lambda p, mfn: ("memory_op", memory.XENMEM_exchange, exchange(p, mfn), 0, 0), "-EINVAL"),
}

# --- dropping and trading what is in use, or not the guest's


def exchange(p: Puppet, mfn: int) -> bytes:
    """struct xen_memory_exchange: one frame for a new one at page 3's place."""
    lists = (p.place(struct.pack("<Q", n)) for n in (mfn, p.guest.pfn_of(p.mfn(p.page(3)))))
    return b"".join(struct.pack("<QQIIH6x", at, 1, 0, 0, DOMID_SELF) for at in lists) + bytes(8)


def trade(p: Puppet, mfn: int) -> int:
    return p.hypercall("memory_op", memory.XENMEM_exchange, exchange(p, mfn))


def release(p: Puppet, mfn: int) -> int:
    """decrease_reservation of one frame: how many were taken."""
    reservation = struct.pack("<QQIIH6x", p.place(struct.pack("<Q", mfn)), 1, 0, 0, DOMID_SELF)
    return p.hypercall("memory_op", memory.XENMEM_decrease_reservation, reservation)


def describe(p: Puppet, mfn: int, offset: int = 0) -> int:
    return p.hypercall("update_descriptor", (mfn << 12 & ADDRESS) + offset, 0)


for name, (attack, expected) in BETWEEN.items():
    row(f"between pin and unpin: {name}", interleaved(attack), expected)
for name, frame in FRAMES.items():
    row(f"release {name}", on(frame, release), "0")
    row(f"trade {name}", on(frame, trade), "-EINVAL")
    row(f"a descriptor into {name}", on(frame, describe), "-EINVAL")
for level in (1, 2, 3, 4):
    row(f"trade the L{level} table", on(table(level), trade), "-EINVAL")
    row(f"a descriptor into the L{level} table", on(table(level), describe), "-EINVAL")
for name, frame in {"a mapped page": writable_page, "a GDT": guest_gdt, "a pinned table": pinned_l1}.items():
    row(f"trade {name}", on(frame, trade), "-EINVAL")
for offset in (1, 4, 7):
    row(f"a descriptor {offset} off", on(writable_page, lambda p, m, o=offset: describe(p, m, o)), "-EINVAL")

# --- other domains by number

for name, domain, expected in (
    ("domain 0", lambda p: 0, "-EPERM"),
    ("another guest", lambda p: other(p).domain.domid, "-EPERM"),
    ("DOMID_IO", lambda p: xen.DOMID_IO, "-EPERM"),
    ("DOMID_XEN", lambda p: xen.DOMID_XEN, "-EPERM"),
    ("nobody", lambda p: 999, "-ESRCH"),
    ("its own number", lambda p: p.domain.domid, "-ESRCH"),
):

    def to_domain(p: Puppet, domid: int) -> int:
        return p.hypercall("update_va_mapping_otherdomain", p.page(1), own_entry(1, 0)(p), 0, domid)

    row(f"update_va_mapping_otherdomain for {name}", on(domain, to_domain), expected)
for name, frame in {"another domain's page": foreign, "a frame of the M2P": m2p_frame}.items():

    def as_itself(p: Puppet, mfn: int) -> int:
        entry = mfn << 12 | KERNEL_PAGE
        return p.hypercall("update_va_mapping_otherdomain", p.page(1), entry, 0, DOMID_SELF)

    row(f"update_va_mapping_otherdomain for DOMID_SELF, {name}", on(frame, as_itself), "-EBUSY")


def in_tables_of(p: Puppet, domid: int) -> int:
    """mmu_update with the number of the tables' owner in the upper half."""
    update = struct.pack("<2Q", p.slot(1, p.page(1)), 0)
    return p.hypercall("mmu_update", update, 1, 0, domid + 1 << 16 | DOMID_SELF)


row("mmu_update in another guest's tables", on(lambda p: other(p).domain.domid, in_tables_of), "-EPERM")
row("mmu_update in nobody's tables", on(lambda p: 999, in_tables_of), "-ESRCH")

# --- addresses and requests that are none

for command in (4, 5, 6, 7):
    slot = on(lambda p: p.slot(1, p.page(1)), lambda p, at, c=command: p.mmu_update(at | c, 0))
    row(f"mmu_update with command {command}", slot, "-ENOSYS")
for name, address in {"nothing": UNMAPPED, "no canonical address": NOT_CANONICAL, "hv's range": MACHPHYS}.items():
    for call in ("mmu_update", "mmuext_op"):
        requests = on(lambda p, a=address: a, lambda p, at, c=call: p.hypercall(c, at, 1, 0, DOMID_SELF))
        row(f"{call} with requests at {name}", requests, "-EFAULT")
    trades = on(lambda p, a=address: a, lambda p, at: p.hypercall("memory_op", memory.XENMEM_exchange, at))
    row(f"trade by a list at {name}", trades, "-EFAULT")
    for flush in (xen.UVMF_TLB_FLUSH, xen.UVMF_INVLPG):

        def by_mask(p: Puppet, entry: int, flags: int = address | flush) -> int:
            return p.hypercall("update_va_mapping", p.page(1), entry, flags)

        row(f"flush {flush} of the vCPUs in a mask at {name}", on(own_entry(1, 0), by_mask), "-EFAULT")
for name, address, entries in (
    ("that begins inside a page", 8, 16),
    ("of too many entries", 0, 8193),
    ("at no canonical address", NOT_CANONICAL, 16),
    ("in hv's range", MACHPHYS, 16),
):
    where = on(
        lambda p, a=address: a if a >= PAGE else p.page(4) + a,
        lambda p, at, n=entries: p.mmuext(xen.MMUEXT_SET_LDT, at, n),
    )
    row(f"an LDT {name}", where, "-EINVAL")


@pytest.mark.parametrize("name", ROWS)
def test_attack(name: str) -> None:
    check(*ROWS[name])
