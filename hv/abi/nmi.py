"""Non-maskable interrupts of a PV guest. Follows public/nmi.h."""

import ctypes

from hv.abi.layout import layout, u64

_XEN_NMIREASON_io_error = 0
XEN_NMIREASON_io_error = 1 << _XEN_NMIREASON_io_error
_XEN_NMIREASON_pci_serr = 1
XEN_NMIREASON_pci_serr = 1 << _XEN_NMIREASON_pci_serr
_XEN_NMIREASON_unknown = 2
XEN_NMIREASON_unknown = 1 << _XEN_NMIREASON_unknown

XENNMI_register_callback = 0
XENNMI_unregister_callback = 1


@layout
class xennmi_callback(ctypes.Structure):
    """The handler."""

    handler_address: u64
    pad: u64
