"""XenStore: the tree of keys that guests, backends and tools share.

`store.Store` is the service; `ring.Ring` and `wire.Decoder` connect peers to it; `domain_keys` says
what a toolstack writes for a domain. Everything is pure: no I/O, no clock, no module-level state.
"""

from hv.core.xenstore.connection import Connection
from hv.core.xenstore.errors import XenStoreError
from hv.core.xenstore.store import Store
from hv.core.xenstore.wire import Decoder, Packet, ProtocolError, encode

__all__ = ["Connection", "Decoder", "Packet", "ProtocolError", "Store", "XenStoreError", "encode"]
