"""What page types come to, said without counting: a frame has one role, and everything else follows from that.

The engine (hv/fastpath/paging.pyx) keeps types and reference counts up to date step by step. This model knows only
causes: what tables contain, what is pinned, which roots are in use, what the guest has mapped. From these it derives
every role and every count anew after each operation, and an operation is legal if the roles it leads to do not clash.

Specification: Xen 4.17's arch/x86/mm.c; the rules are those of paging.pyx's docstring.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

PRESENT, RW, USER, ACCESSED, DIRTY, PSE, GLOBAL = 1, 2, 4, 0x20, 0x40, 0x80, 0x100
ADDRESS = 0x000F_FFFF_FFFF_F000
L1_FORBIDDEN = PSE | 0x18
LX_FORBIDDEN = GLOBAL | PSE | 0x18
WRITABLE, SEGDESC = "writable", "segdesc"
LEVELS = ("l1", "l2", "l3", "l4")
XEN_SLOTS = range(256, 272)


class Clash(Exception):
    """A state that must not be: some frame would have two roles, or somebody would reach what is not his."""


@dataclass
class World:
    """All causes. `entries(frame)` reads a table's 512 entries; `foreign(frame)` says whether nobody here owns it."""

    entries: Callable[[int], list[int]]
    foreign: Callable[[int], bool]
    allocated: set[int] = field(default_factory=set)
    pinned: dict[int, str] = field(default_factory=dict)  # frame -> level
    roots: Counter[int] = field(default_factory=Counter)  # frames in use as roots, how often
    held: Counter[tuple[int, str]] = field(default_factory=Counter)  # references taken by hv: (frame, type)
    mapped: dict[int, tuple[int, bool]] = field(default_factory=dict)  # window -> (frame, writable)
    before: dict[int, str] = field(default_factory=dict)  # roles that frames have already

    def copy(self) -> World:
        return World(
            self.entries,
            self.foreign,
            set(self.allocated),
            dict(self.pinned),
            Counter(self.roots),
            Counter(self.held),
            dict(self.mapped),
            dict(self.before),
        )

    def facts(self) -> dict[int, tuple[str, int, int, bool]]:
        """(role, references to the role, references, pinned) of each frame that has any; Clash if that can not be."""
        roles: dict[int, str] = {}
        typed: Counter[int] = Counter()
        plain: Counter[int] = Counter()
        linear: dict[str, set[int]] = {"has": set(), "is": set()}

        def take(frame: int, role: str, count: int = 1) -> None:
            if self.foreign(frame):
                raise Clash(f"{frame:#x} is not the domain's")
            if roles.setdefault(frame, role) != role:
                raise Clash(f"{frame:#x} would be {roles[frame]} and {role}")
            typed[frame] += count
            if role in LEVELS and typed[frame] == count:
                follow(frame, role)

        def follow(frame: int, role: str) -> None:
            """The references that a table's entries hold."""
            for slot, entry in enumerate(self.entries(frame)):
                if not entry & PRESENT or (role == "l4" and slot in XEN_SLOTS):
                    continue
                if entry & (L1_FORBIDDEN if role == "l1" else LX_FORBIDDEN):
                    raise Clash(f"slot {slot} of {frame:#x} has forbidden flags")
                target = (entry & ADDRESS) >> 12
                if role == "l1":
                    refer(target, bool(entry & RW))
                elif target != frame and not entry & RW and self.before.get(target, roles.get(target)) == role:
                    linear["has"].add(frame)  # shows another table of its own level
                    linear["is"].add(target)
                    take(target, role)
                elif target != frame:
                    take(target, LEVELS[LEVELS.index(role) - 1])
                elif entry & RW:
                    raise Clash(f"{frame:#x} would be writable through itself")

        def refer(frame: int, writable: bool) -> None:
            if writable:
                take(frame, WRITABLE)
            elif self.foreign(frame):
                raise Clash(f"{frame:#x} is not the domain's")
            else:
                plain[frame] += 1

        for frame, level in self.pinned.items():
            take(frame, level)
        for frame, count in self.roots.items():
            if count:
                take(frame, "l4", count)
        for (frame, role), count in self.held.items():
            if count:
                take(frame, role, count)
        for frame, writable in self.mapped.values():
            refer(frame, writable)
        if linear["has"] & linear["is"]:
            raise Clash("a chain of linear page tables")
        return {
            frame: (
                roles.get(frame, ""),
                typed[frame],
                typed[frame] + plain[frame] + (frame in self.allocated),
                frame in self.pinned,
            )
            for frame in {*self.allocated, *typed, *plain}
        }
