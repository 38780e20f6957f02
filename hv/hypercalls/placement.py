"""Which frames a memory request is satisfied with: its order, address width and NUMA node.

Source: memory.h; Xen 4.17 common/memory.c.
"""

from hv.abi import memory as abi

PAGE_SHIFT = 12
MAX_ORDER = 9  # of an extent, for a domU


def width_refused(flags: int, nr_frames: int) -> bool:
    """A reservation of less than a page's width, where that is a limit at all."""
    bits = abi.XENMEMF_get_address_bits(flags)
    return 0 < bits <= PAGE_SHIFT and bits < (nr_frames - 1).bit_length() + PAGE_SHIFT


def node_refused(flags: int) -> bool:
    """A domU can not insist on a node; what it prefers is ignored."""
    return abi.XENMEMF_get_node(flags) != 0xFF and bool(flags & abi.XENMEMF_exact_node_request)


def frame_limit(flags: int, nr_frames: int) -> int:
    """The first frame that is too high for the address width."""
    bits = abi.XENMEMF_get_address_bits(flags)
    return min(nr_frames, 1 << max(0, bits - PAGE_SHIFT)) if bits else nr_frames
