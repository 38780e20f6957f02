"""What the host side tells a trace: who did what, with which bytes.

A note is `source` NUL `what` NUL `data`. The source names the decoder (hv/trace/decoders): console, xenstore, domain, …
"""

from __future__ import annotations


def encode(source: str, what: str, data: bytes = b"") -> bytes:
    return b"\0".join((source.encode(), what.encode(), data))
