"""A result that a guest has made wider than a register is what the register holds of it."""

from guest_kit import puppet

from hv.abi import memory, xen


def test_the_highest_frame_number_is_what_the_guest_says() -> None:
    """XENMEM_maximum_gpfn counts down from shared_info's max_pfn, which the guest may write."""
    with puppet() as p:
        shared = xen.shared_info.from_buffer(p.machine.engine.page(p.guest.shared_mfn))
        argument = p.place((xen.DOMID_SELF).to_bytes(2, "little"))
        for said, result in ((0, 0), (1, 0), (5, 4), (1 << 63, (1 << 63) - 1), ((1 << 64) - 1, -2)):
            shared.arch.max_pfn = said
            assert p.hypercall("memory_op", memory.XENMEM_maximum_gpfn, argument) == result
