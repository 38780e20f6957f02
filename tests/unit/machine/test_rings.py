"""The rings of console and XenStore: domain 0 has mapped them by the guest's grants; the guest can not take them."""

from __future__ import annotations

import struct

from guest_kit import puppet

from hv.abi.grant_table import GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE
from hv.abi.memory import XENMEM_decrease_reservation
from hv.abi.xen import DOMID_SELF, UVMF_INVLPG

BASE = 0xFFFFFFFF80000000  # where the puppet's memory begins


def test_domain_0_has_mapped_them() -> None:
    with puppet() as p:
        domain, host = p.domain, p.machine.domain0.guest
        rows = [(domid, ref) for _, domid, ref, _ in host.mapped_grants()]
        assert rows == [(domain.domid, GNTTAB_RESERVED_CONSOLE), (domain.domid, GNTTAB_RESERVED_XENSTORE)]
        assert [(row.ref, row.user, row.writers) for row in domain.grants if row.ref < 8] == [(0, 0, 1), (1, 0, 1)]
        domain.destroy()
        assert not host.mapped_grants()


def test_a_ring_that_is_given_back_goes_to_nobody_else() -> None:
    """A guest unmaps and frees both frames: no other domain gets them while domain 0 still writes there."""
    with puppet() as p:
        guest = p.domain.guest
        rings = [row.mfn for row in p.domain.grants if row.ref < 8]
        for mfn in rings:
            assert mfn is not None
            address = BASE + guest.pfn_of(mfn) * 4096
            assert p.mfn(address) == mfn
            assert p.hypercall("update_va_mapping", address, 0, UVMF_INVLPG) == 0
            argument = p.place(struct.pack("<QQIHxx", p.place(struct.pack("<Q", mfn)), 1, 0, DOMID_SELF))
            assert p.hypercall("memory_op", XENMEM_decrease_reservation, argument) in (0, 1)
        others = [p.machine.create("hello", memory="16M") for _ in range(4)]
        p.domain.console.send("a word")
        assert not any(other.guest.owns(mfn) for other in others for mfn in rings)
