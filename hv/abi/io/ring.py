"""The shared ring below block and network devices. Follows public/io/ring.h."""

import ctypes
from ctypes import Array, c_uint8

from hv.abi.layout import Annotated, layout, u8, u32

RING_IDX = u32


@layout
class sring(ctypes.Structure):
    """The 64 bytes before the entries; each protocol's `*_sring` derives from it."""

    @layout
    class pvt_t(ctypes.Union):
        @layout
        class netif_t(ctypes.Structure):
            smartpoll_active: u8

        @layout
        class tapif_user_t(ctypes.Structure):
            msg: u8

        netif: netif_t
        tapif_user: tapif_user_t
        pvt_pad: Annotated[Array[c_uint8], 4]

    req_prod: RING_IDX
    req_event: RING_IDX
    rsp_prod: RING_IDX
    rsp_event: RING_IDX
    pvt: pvt_t
    __pad: Annotated[Array[c_uint8], 44]


def ring_size(entry: type[ctypes.Union], size: int) -> int:
    """How many entries a ring of `size` bytes has: the largest power of two that fits."""
    return 1 << ((size - ctypes.sizeof(sring)) // ctypes.sizeof(entry)).bit_length() - 1
