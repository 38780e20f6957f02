"""Page types and counts in lockstep: a guest makes page-table hypercalls, the model says whether they may succeed.

After every operation the engine's facts about each frame (role, counts, pinned) are those the model derives from the
causes alone, and a refused operation has changed nothing.
"""

from __future__ import annotations

import struct
from typing import Any

from guest_kit import KERNEL_PAGE, READ_ONLY, Fault, Puppet, puppet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paging_model import LEVELS, SEGDESC, WRITABLE, XEN_SLOTS, Clash, World

from hv.abi import memory, xen
from hv.abi.xen import DOMID_SELF

FRAMES = 7
WINDOWS = 4
FLAGS = (0x1, 0x3, 0x7, 0x27, 0x63, 0x67, 0x21, 0x83, 0x107, 0xB, 0x13, 1 << 63 | 5, 1 << 52 | 5, 1 << 62 | 5, 0, 0x66)

frames = st.integers(0, FRAMES + 2)  # the last three are not the guest's: another domain's, hv's, none at all
own = st.integers(0, FRAMES - 1)
slots = st.sampled_from((0, 1, 5, 255, 256, 271, 272, 511))
entries = st.tuples(frames, st.sampled_from(FLAGS))
table_entries = st.tuples(own, st.sampled_from((0x7, 0x67, 0x5, 0x3)))
levels = st.sampled_from(LEVELS)
operations = st.one_of(
    st.tuples(st.just("write"), own, slots, st.one_of(entries, table_entries)),
    st.tuples(st.just("write"), own, slots, table_entries),
    st.tuples(st.just("map"), st.integers(0, WINDOWS - 1), frames, st.booleans()),
    st.tuples(st.just("store"), st.integers(0, WINDOWS - 1), slots, st.one_of(entries, table_entries)),
    st.tuples(st.just("unmap"), st.integers(0, WINDOWS - 1)),
    st.tuples(st.just("pin"), levels, own),
    st.tuples(st.just("pin"), levels, frames),
    st.tuples(st.just("unpin"), frames),
    st.tuples(st.just("user_root"), frames),
    st.tuples(st.just("release"), own),
    st.tuples(st.just("get"), own, st.sampled_from((*LEVELS, WRITABLE, SEGDESC))),
    st.tuples(st.just("put"), st.integers(0, 20)),
)


class Lockstep:
    """A guest with some frames of its own, and the model beside it."""

    def __init__(self, p: Puppet) -> None:
        self.p, self.engine, self.guest = p, p.engine, p.guest
        neighbour = p.machine.engine.create_domain(77, 1, 16)
        self.frames = [p.mfn(p.page(i)) for i in range(FRAMES)]
        others = [neighbour.populate(0), 16, (1 << 40) - 1]
        self.all = [*self.frames, *others]
        self.slots = [p.slot(1, p.page(20 + i)) for i in range(WINDOWS)]
        for address in [*(p.page(i) for i in range(FRAMES)), *(p.page(20 + i) for i in range(WINDOWS))]:
            assert p.hypercall("update_va_mapping", address, 0, xen.UVMF_INVLPG) == 0
        self.world = World(self.entries, lambda mfn: mfn not in self.alive, set(self.frames))
        self.alive = set(self.frames)
        assert p.hypercall("vm_assist", xen.VMASST_CMD_enable, xen.VMASST_TYPE_writable_pagetables) == 0
        self.check()

    def entries(self, mfn: int) -> list[int]:
        return list(struct.unpack("<512Q", self.engine.page(mfn)))

    # --- each operation: the causes as they would be, and the hypercall

    def write(self, index: int, slot: int, entry: tuple[int, int]) -> None:
        mfn, value = self.frames[index], self.all[entry[0]] << 12 & 0x000F_FFFF_FFFF_F000 | entry[1]
        if mfn not in self.alive:
            assert self.p.mmu_update((mfn << 12) + 8 * slot, value) < 0
            return
        role = self.world.facts()[mfn][0]
        wanted = self.world.copy()
        if role in LEVELS:
            refused = role == "l4" and slot in XEN_SLOTS

            def changed(frame: int) -> list[int]:
                result = self.entries(frame)
                if frame == mfn:
                    result[slot] = value
                return result

            wanted.entries = changed
        else:
            refused = role == SEGDESC
        self.attempt(wanted, refused, lambda: self.p.mmu_update((mfn << 12) + 8 * slot, value))

    def store(self, window: int, slot: int, entry: tuple[int, int]) -> None:
        """The guest's own store through a read-only window: emulated where that shows an L1 table, else a fault."""
        mfn, writable = self.world.mapped.get(window, (0, True))
        if writable:
            return
        value = self.all[entry[0]] << 12 & 0x000F_FFFF_FFFF_F000 | entry[1]
        wanted = self.world.copy()
        wanted.entries = lambda frame: [
            value if (frame, i) == (mfn, slot) else old for i, old in enumerate(self.entries(frame))
        ]

        def call() -> int:
            try:
                self.p.store(self.p.page(20 + window) + 8 * slot, value)
            except Fault as fault:
                assert (fault.vector, fault.error) == (14, 3)
                return -1
            return 0

        self.attempt(wanted, self.world.facts()[mfn][0] != "l1", call)

    def map(self, window: int, index: int, writable: bool) -> None:
        wanted = self.world.copy()
        wanted.mapped[window] = self.all[index], writable
        flags = KERNEL_PAGE if writable else READ_ONLY
        self.attempt(wanted, False, lambda: self.p.map(self.p.page(20 + window), self.all[index], flags))

    def unmap(self, window: int) -> None:
        wanted = self.world.copy()
        wanted.mapped.pop(window, None)
        self.attempt(wanted, False, lambda: self.p.hypercall("update_va_mapping", self.p.page(20 + window), 0, 0))

    def pin(self, level: str, index: int) -> None:
        mfn, wanted = self.all[index], self.world.copy()
        refused = mfn in wanted.pinned
        wanted.pinned.setdefault(mfn, level)
        command = xen.MMUEXT_PIN_L1_TABLE + LEVELS.index(level)
        self.attempt(wanted, refused, lambda: self.p.mmuext(command, mfn))

    def unpin(self, index: int) -> None:
        mfn, wanted = self.all[index], self.world.copy()
        refused = wanted.pinned.pop(mfn, None) is None
        self.attempt(wanted, refused, lambda: self.p.mmuext(xen.MMUEXT_UNPIN_TABLE, mfn))

    def user_root(self, index: int) -> None:
        """The last of the frames stands for 0: no user table."""
        mfn, wanted = (0 if index == FRAMES + 2 else self.all[index]), self.world.copy()
        wanted.roots.clear()
        if mfn:
            wanted.roots[mfn] = 1
        both = self.world.copy()  # the old root is let go only after the new one has been taken
        both.roots += wanted.roots
        self.attempt(wanted, self.clashes(both), lambda: self.p.mmuext(xen.MMUEXT_NEW_USER_BASEPTR, mfn))

    def release(self, index: int) -> None:
        mfn, wanted = self.frames[index], self.world.copy()
        refused = mfn not in self.alive  # given back before, but still in use: once more is no mistake
        wanted.allocated.discard(mfn)

        def call() -> int:
            reservation = struct.pack("<QQIIH6x", self.p.place(struct.pack("<Q", mfn)), 1, 0, 0, DOMID_SELF)
            return self.p.hypercall("memory_op", memory.XENMEM_decrease_reservation, reservation) - 1

        self.attempt(wanted, refused, call)

    def get(self, index: int, kind: str) -> None:
        mfn, wanted = self.frames[index], self.world.copy()
        wanted.held[mfn, kind] += 1
        self.attempt(wanted, False, lambda: self.guest.get_type(mfn, kind))

    def put(self, number: int) -> None:
        held = sorted(self.world.held.elements())
        if not held:
            return
        mfn, kind = held[number % len(held)]
        wanted = self.world.copy()
        wanted.held[mfn, kind] -= 1
        self.attempt(wanted, False, lambda: self.guest.put_type(mfn) or 0)

    # --- lockstep

    def clashes(self, world: World) -> bool:
        try:
            world.facts()
        except Clash:
            return True
        return False

    def attempt(self, wanted: World, refused: bool, call: Any) -> None:
        refused = refused or self.clashes(wanted)
        result = call()
        assert (result < 0) == refused, f"result {result}, the model says {'refused' if refused else 'fine'}"
        if not refused:
            wanted.entries = self.entries
            self.world = wanted
            wanted.before = {mfn: fact[0] for mfn, fact in wanted.facts().items()}
        self.alive &= set(self.world.facts())  # what nothing refers to any more is free
        self.check()

    def check(self) -> None:
        expected = self.world.facts()
        for mfn in self.frames:
            owner, role, typed, count, pinned = self.engine.frame(mfn)
            assert owner == (self.p.domain.domid if mfn in self.alive else None)
            assert (role if typed else "", typed, count, pinned) == expected.get(mfn, ("", 0, 0, False)), f"{mfn:#x}"
            if mfn not in self.alive:
                assert not any(self.engine.page(mfn))
        assert self.engine.frame(self.all[FRAMES])[1:] == ("none", 0, 1, False)
        assert self.engine.frame(16) == (None, "none", 0, 0, False)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(operations, min_size=5, max_size=40))
def test_types_and_counts(steps: list[tuple[Any, ...]]) -> None:
    with puppet() as p:
        lockstep = Lockstep(p)
        for name, *arguments in steps:
            getattr(lockstep, name)(*arguments)
        assert p.alive


TREE = [
    ("write", 3, 0, (2, 0x67)),
    ("write", 2, 5, (1, 0x67)),
    ("write", 1, 511, (0, 0x67)),
    ("write", 0, 0, (4, 0x63)),
]


LINEAR = [
    ("pin", "l2", 0),
    ("write", 1, 5, (0, 0x5)),  # the first is shown by the second, and then by the third
    ("pin", "l2", 1),
    ("pin", "l2", 2),
    ("write", 2, 5, (0, 0x5)),
    ("write", 2, 6, (0, 0x7)),  # writable
    ("write", 3, 5, (1, 0x5)),  # a chain: the second shows one itself
    ("pin", "l2", 3),
    ("write", 0, 5, (2, 0x5)),  # the other way round
    ("unpin", 0),  # it stays what it is
    ("pin", "l1", 0),
    ("map", 0, 0, True),
    ("write", 1, 5, (0, 0)),
    ("write", 2, 5, (0, 0)),
    ("map", 0, 0, True),
]


def test_linear_page_tables() -> None:
    with puppet() as p:
        lockstep = Lockstep(p)
        results = []
        for name, *arguments in LINEAR:
            world = lockstep.world
            getattr(lockstep, name)(*arguments)
            results.append(lockstep.world is not world)
        assert results == [True] * 5 + [False, True, False, False, True, False, False] + [True] * 3


def test_a_tree_of_four_levels() -> None:
    """Built, pinned, changed at every level, used as user root, and taken down in both orders."""
    with puppet() as p:
        lockstep = Lockstep(p)
        steps: list[tuple[Any, ...]] = [
            *TREE,
            ("pin", "l4", 3),
            ("pin", "l3", 2),
            ("map", 0, 0, True),
            ("map", 0, 0, False),
            ("map", 1, 4, True),
            ("store", 0, 9, (5, 0x63)),
            ("store", 0, 9, (0, 0x63)),
            ("store", 0, 9, (5, 0)),
            ("write", 0, 1, (0, 0x63)),
            ("write", 0, 1, (0, 0x61)),
            ("write", 1, 5, (1, 0x65)),
            ("write", 3, 300, (3, 0x25)),
            ("user_root", 3),
            ("unpin", 3),
            ("release", 4),
            ("release", 0),
            ("unmap", 0),
            ("user_root", FRAMES + 2),
            ("write", 0, 0, (4, 0)),
            ("unpin", 2),
            ("unmap", 1),
            ("pin", "l1", 3),
        ]
        for name, *arguments in steps:
            getattr(lockstep, name)(*arguments)
        assert p.alive
