"""What the host side tells a trace: who did what, with which bytes.

A note is `source` NUL `what` NUL `data`. The source names the decoder (hv/trace/decoders): console, xenstore, domain, …
"""

from __future__ import annotations

import struct

BLOCK_REQUEST = struct.Struct("=QBQQh")  # id, BLKIF_OP_*, first sector, sectors, BLKIF_RSP_*; then the disk's name
GRANT_MAP = struct.Struct("=IB")  # reference, whether read-only


def encode(source: str, what: str, data: bytes = b"") -> bytes:
    return b"\0".join((source.encode(), what.encode(), data))
