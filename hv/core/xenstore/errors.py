"""A request that XenStore refuses.

This is an answer to the peer, not a fault of hv: `handle` turns it into an XS_ERROR reply. Only the
names of the closed set in public/io/xs_wire.h may travel.
"""

from hv.abi.io.xs_wire import XSD_ERRORS


class XenStoreError(Exception):
    """The errno name that answers a request, such as ENOENT."""

    def __init__(self, name: str) -> None:
        assert name in XSD_ERRORS, name
        super().__init__(name)
        self.name = name
