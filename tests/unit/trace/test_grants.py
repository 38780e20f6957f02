"""Who maps whose grant where: by guests and by domain 0; and a chain of causes from one domain to the other."""

from __future__ import annotations

from grant_kit import DEVICE, HOST, PTE, RO, parties

import hv
from hv.trace import decoders
from hv.trace.events import Event, GrantUse, Hypercall, PortEvent, Upcall


def test_each_mapping_and_its_end() -> None:
    with parties() as (a, b):
        found: list[Event] = []
        mfn = a.grant_page(9, b)
        b.machine.trace.subscribe(found.append)
        where = b.page(1)
        _, first, _ = b.map_grant(a, 9, where)
        _, second, bus = b.map_grant(a, 9, 0, DEVICE | RO)
        _, third, _ = b.map_grant(a, 9, b.slot(1, b.page(2)), HOST | PTE | RO)
        b.map_grant(a, 10, where)
        b.unmap_grant(first, where)
        b.unmap_grant(second, 0, bus)
        a.grant(8, 0, mfn)
        with a.machine.domain0.grants.map(a.domid, 8, readonly=True):
            pass
        b.machine.trace.flush()
        uses = [event for event in found if isinstance(event, GrantUse)]
        calls = {event.id for event in found if isinstance(event, Hypercall)}
        assert [event.cause in calls for event in uses] == [True] * 5 + [False] * 2
        fifth = 4  # domain 0 has mapped both domains' console and store
        name = f"grant 9 of domain {a.domid} (mfn {mfn:#x})"
        assert [decoders.text(event) for event in uses] == [
            f"{name} mapped at {where:#x}, handle {first}",
            f"{name} mapped, for devices, read-only, handle {second}",
            f"{name} mapped by the entry at {b.slot(1, b.page(2)):#x}, read-only, handle {third}",
            f"{name} unmapped, handle {first}",
            f"{name} unmapped, for devices, read-only, handle {second}",
            f"grant 8 of domain {a.domid} (mfn {mfn:#x}) mapped, read-only, handle {fifth}",
            f"grant 8 of domain {a.domid} (mfn {mfn:#x}) unmapped, read-only, handle {fifth}",
        ]
        assert [event.domain for event in uses] == [b.domid] * 5 + [0] * 2


def test_a_send_is_the_cause_of_the_others_upcall() -> None:
    """And the upcall's handler that of the answer: there and back for ten rounds."""
    with hv.Machine() as machine:
        found: dict[int, Event] = {}
        machine.trace.subscribe(lambda event: found.update({event.id: event}))
        for domain in machine.create_together("bench-pingpong"):
            assert domain.domid in (1, 2)
        machine.run(timeout=60)
        last = [event for event in found.values() if isinstance(event, Upcall) and event.domain == 1][-1]
        chain: list[Event] = [last]
        while len(chain) < 30 and chain[-1].cause:
            chain.append(found[chain[-1].cause])
        kinds = [(type(event), event.domain) for event in chain]
        assert kinds == [(Upcall, 1), (PortEvent, 1), (Hypercall, 2), (Upcall, 2), (PortEvent, 2), (Hypercall, 1)] * 5
