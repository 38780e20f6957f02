"""Block devices. Follows public/io/blkif.h."""

import ctypes
from ctypes import Array

from hv.abi.grant_table import grant_ref_t
from hv.abi.io.ring import sring
from hv.abi.layout import Annotated, i16, layout, u8, u16, u64

blkif_vdev_t = u16
blkif_sector_t = u64

BLKIF_OP_READ = 0
BLKIF_OP_WRITE = 1
BLKIF_OP_WRITE_BARRIER = 2
BLKIF_OP_FLUSH_DISKCACHE = 3
BLKIF_OP_RESERVED_1 = 4
BLKIF_OP_DISCARD = 5
BLKIF_OP_INDIRECT = 6
BLKIF_MAX_SEGMENTS_PER_REQUEST = 11
BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST = 8
BLKIF_DISCARD_SECURE = 1 << 0
BLKIF_RSP_EOPNOTSUPP = -2
BLKIF_RSP_ERROR = -1
BLKIF_RSP_OKAY = 0

VDISK_CDROM = 0x1
VDISK_REMOVABLE = 0x2
VDISK_READONLY = 0x4


@layout
class blkif_request_segment(ctypes.Structure):
    """Sectors `first_sect` to `last_sect`, inclusive, of a granted page."""

    gref: grant_ref_t
    first_sect: u8
    last_sect: u8


@layout
class blkif_request(ctypes.Structure):
    """Read, write, barrier or flush."""

    operation: u8
    nr_segments: u8
    handle: blkif_vdev_t
    id: u64
    sector_number: blkif_sector_t
    seg: Annotated[Array[blkif_request_segment], BLKIF_MAX_SEGMENTS_PER_REQUEST]


@layout
class blkif_request_discard(ctypes.Structure):
    """BLKIF_OP_DISCARD, laid over a `blkif_request`."""

    operation: u8
    flag: u8
    handle: blkif_vdev_t
    id: u64
    sector_number: blkif_sector_t
    nr_sectors: u64


@layout
class blkif_request_indirect(ctypes.Structure):
    """BLKIF_OP_INDIRECT, laid over a `blkif_request`: its segments are in granted pages."""

    operation: u8
    indirect_op: u8
    nr_segments: u16
    id: u64
    sector_number: blkif_sector_t
    handle: blkif_vdev_t
    indirect_grefs: Annotated[Array[ctypes.c_uint32], BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST]


@layout
class blkif_response(ctypes.Structure):
    """`status` is BLKIF_RSP_*."""

    id: u64
    operation: u8
    status: i16


@layout
class blkif_sring_entry(ctypes.Union):
    """A slot of the ring."""

    req: blkif_request
    rsp: blkif_response


@layout
class blkif_sring(sring):
    """The ring."""

    ring: Annotated[Array[blkif_sring_entry], 1]
