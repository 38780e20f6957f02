"""What the host side tells a trace: who did what, with which bytes.

A note is `source` NUL `what` NUL `data`. The source names the decoder (hv/trace/decoders): console, xenstore, domain, …
"""

from __future__ import annotations

import struct

BLOCK_REQUEST = struct.Struct("=QBQQB")  # id, BLKIF_OP_*, first sector, count, whether indirect; then the disk's name
BLOCK_RESPONSE = struct.Struct("=QBQhQ")  # id, BLKIF_OP_*, sectors, BLKIF_RSP_*, ns since the request; the disk's name
NET_SLOT = struct.Struct("=H?HHIHHHh")  # interface; then hv.backends.net_queue.Slot


def encode(source: str, what: str, data: bytes = b"") -> bytes:
    return b"\0".join((source.encode(), what.encode(), data))
