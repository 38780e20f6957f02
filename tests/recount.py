"""Every reference to every frame of a machine, counted again from outside, and compared with what hv keeps.

Nothing of hv's own accounting is used: page tables are read as they stand in memory, with the rules of Xen's mm.c. A
frame's own flags (pinned, validated, whose) and `held_frames`, what hv itself points at, are taken as given.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import TYPE_CHECKING

import hv
from hv.abi.grant_table import GNTMAP_device_map, GNTMAP_readonly

if TYPE_CHECKING:
    from hv.engine.machine import Engine

LEVELS = {"l1": 1, "l2": 2, "l3": 3, "l4": 4}
PRESENT, RW = 1, 2
HYPERVISOR_SLOTS = range(256, 272)


def wrong_counts(machine: hv.Machine) -> list[str]:
    """What differs, in words; empty where every count is as it should be."""
    engine = machine.engine
    live = [domain for domain in machine.domains if not domain.ended]
    frames = {mfn: engine.frame(mfn) for mfn in engine.frames_in_use}
    counts: Counter[int] = Counter()
    types: Counter[int] = Counter()
    wrong = []
    for mfn, (owner, kind, _, _, _) in frames.items():
        if owner is not None:
            _own(engine, mfn, kind, counts, types)
    for domain in live:
        lines = domain.pirqs.needs_eoi_mfn
        for mfn, kind in [*domain.guest.held_frames(), *([(lines, "writable")] if lines is not None else [])]:
            counts[mfn] += 1
            types[mfn] += 1
            if frames[mfn][1] != kind:
                wrong.append(f"frame {mfn:#x} is held as {kind} and is {frames[mfn][1]}")
        _mapped_for_devices(domain, counts, types)
        pages = sum(frame[0] == domain.domid and not engine.frame_flags(mfn)[2] for mfn, frame in frames.items())
        if pages != domain.guest.nr_pages:
            wrong.append(f"domain {domain.domid} owns {pages} frames and has {domain.guest.nr_pages}")
    _mapped_by_hv(machine, counts, types)
    numbers = {domain.domid for domain in live}
    for mfn, (owner, kind, type_count, count, _) in frames.items():
        if owner is not None and owner not in numbers:
            continue  # of a dead domain: what others hold of it
        if (type_count, count) != (types[mfn], counts[mfn]):
            wrong.append(
                f"frame {mfn:#x} of {owner} ({kind}): hv has {type_count} type references and {count} in all, "
                f"there are {types[mfn]} and {counts[mfn]}"
            )
    return wrong


def _own(engine: Engine, mfn: int, kind: str, counts: Counter[int], types: Counter[int]) -> None:
    """The references that a frame holds by being what it is, to itself and as a page table to others."""
    validated, pinned, xenheap, allocated = engine.frame_flags(mfn)
    counts[mfn] += allocated + xenheap + pinned
    types[mfn] += xenheap + pinned
    level = LEVELS.get(kind)
    if level is None or not validated:
        return
    for slot, entry in enumerate(struct.unpack("<512Q", engine.page(mfn))):
        target = (entry & 0x000F_FFFF_FFFF_F000) >> 12
        hypervisors = level == 4 and slot in HYPERVISOR_SLOTS
        if not entry & PRESENT or hypervisors or (level > 1 and target == mfn):
            continue
        counts[target] += 1
        if level > 1 or entry & RW:
            types[target] += 1


def _mapped_by_hv(machine: hv.Machine, counts: Counter[int], types: Counter[int]) -> None:
    """Grants that domain 0 has mapped: it has no page tables."""
    for _, domid, ref, flags in machine.domain0.guest.mapped_grants():
        for domain in machine.domains:
            granted = {row[0]: row[5] for row in domain.guest.granted()} if domain.domid == domid else {}
            if (uses := granted.get(ref)) is not None:
                counts[uses[1]] += 1
                types[uses[1]] += not flags & GNTMAP_readonly


def _mapped_for_devices(domain: hv.Domain, counts: Counter[int], types: Counter[int]) -> None:
    """Grants that a domain has mapped for devices, of itself and of others: no page table shows them."""
    own = {ref: uses for ref, _, _, _, _, uses in domain.guest.granted()}
    for mfn, (_, _, reads, writes) in domain.guest.foreign_frames().items():
        counts[mfn] += reads + writes
        types[mfn] += writes
    for _, domid, ref, flags in domain.guest.mapped_grants():
        uses = own.get(ref)
        if domid == domain.domid and flags & GNTMAP_device_map and uses is not None:
            counts[uses[1]] += 1
            types[uses[1]] += not flags & GNTMAP_readonly
