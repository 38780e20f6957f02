"""Network devices. Follows public/io/netif.h."""

import ctypes
from ctypes import Array, c_uint8

from hv.abi.grant_table import grant_ref_t
from hv.abi.io.ring import sring
from hv.abi.layout import Annotated, i16, layout, u8, u16, u32

XEN_NETIF_NR_SLOTS_MIN = 18

_XEN_NETIF_CTRL_HASH_TYPE_IPV4 = 0
XEN_NETIF_CTRL_HASH_TYPE_IPV4 = 1 << _XEN_NETIF_CTRL_HASH_TYPE_IPV4
_XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP = 1
XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP = 1 << _XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP
_XEN_NETIF_CTRL_HASH_TYPE_IPV6 = 2
XEN_NETIF_CTRL_HASH_TYPE_IPV6 = 1 << _XEN_NETIF_CTRL_HASH_TYPE_IPV6
_XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP = 3
XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP = 1 << _XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP
XEN_NETIF_CTRL_HASH_ALGORITHM_NONE = 0
XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ = 1

XEN_NETIF_CTRL_TYPE_INVALID = 0
XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS = 1
XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS = 2
XEN_NETIF_CTRL_TYPE_SET_HASH_KEY = 3
XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE = 4
XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE = 5
XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING = 6
XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM = 7
XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE = 8
XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING = 9
XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING = 10

XEN_NETIF_CTRL_STATUS_SUCCESS = 0
XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED = 1
XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER = 2
XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW = 3

_XEN_NETIF_CTRLF_GREF_readonly = 0
XEN_NETIF_CTRLF_GREF_readonly = 1 << _XEN_NETIF_CTRLF_GREF_readonly

_NETTXF_csum_blank = 0
NETTXF_csum_blank = 1 << _NETTXF_csum_blank
_NETTXF_data_validated = 1
NETTXF_data_validated = 1 << _NETTXF_data_validated
_NETTXF_more_data = 2
NETTXF_more_data = 1 << _NETTXF_more_data
_NETTXF_extra_info = 3
NETTXF_extra_info = 1 << _NETTXF_extra_info

XEN_NETIF_MAX_TX_SIZE = 0xFFFF

XEN_NETIF_EXTRA_TYPE_NONE = 0
XEN_NETIF_EXTRA_TYPE_GSO = 1
XEN_NETIF_EXTRA_TYPE_MCAST_ADD = 2
XEN_NETIF_EXTRA_TYPE_MCAST_DEL = 3
XEN_NETIF_EXTRA_TYPE_HASH = 4
XEN_NETIF_EXTRA_TYPE_MAX = 5
_XEN_NETIF_EXTRA_FLAG_MORE = 0
XEN_NETIF_EXTRA_FLAG_MORE = 1 << _XEN_NETIF_EXTRA_FLAG_MORE

XEN_NETIF_GSO_TYPE_NONE = 0
XEN_NETIF_GSO_TYPE_TCPV4 = 1
XEN_NETIF_GSO_TYPE_TCPV6 = 2

_NETRXF_data_validated = 0
NETRXF_data_validated = 1 << _NETRXF_data_validated
_NETRXF_csum_blank = 1
NETRXF_csum_blank = 1 << _NETRXF_csum_blank
_NETRXF_more_data = 2
NETRXF_more_data = 1 << _NETRXF_more_data
_NETRXF_extra_info = 3
NETRXF_extra_info = 1 << _NETRXF_extra_info
_NETRXF_gso_prefix = 4
NETRXF_gso_prefix = 1 << _NETRXF_gso_prefix

NETIF_RSP_DROPPED = -2
NETIF_RSP_ERROR = -1
NETIF_RSP_OKAY = 0
NETIF_RSP_NULL = 1


@layout
class xen_netif_ctrl_request(ctypes.Structure):
    """`type` is XEN_NETIF_CTRL_TYPE_*."""

    id: u16
    type: u16
    data: Annotated[Array[ctypes.c_uint32], 3]


@layout
class xen_netif_ctrl_response(ctypes.Structure):
    """`status` is XEN_NETIF_CTRL_STATUS_*."""

    id: u16
    type: u16
    status: u32
    data: u32


@layout
class xen_netif_gref(ctypes.Structure):
    """A grant that the back end keeps mapped."""

    ref: grant_ref_t
    flags: u16
    status: u16


@layout
class xen_netif_ctrl_sring_entry(ctypes.Union):
    """A slot of the control ring."""

    req: xen_netif_ctrl_request
    rsp: xen_netif_ctrl_response


@layout
class xen_netif_ctrl_sring(sring):
    """The control ring."""

    ring: Annotated[Array[xen_netif_ctrl_sring_entry], 1]


@layout
class netif_tx_request(ctypes.Structure):
    """A packet, or a piece of one, to send; `flags` is NETTXF_*."""

    gref: grant_ref_t
    offset: u16
    flags: u16
    id: u16
    size: u16


@layout
class netif_extra_info(ctypes.Structure):
    """More about a packet, in a slot of its own; `type` is XEN_NETIF_EXTRA_TYPE_*."""

    @layout
    class u_t(ctypes.Union):
        @layout
        class gso_t(ctypes.Structure):
            size: u16
            type: u8
            pad: u8
            features: u16

        @layout
        class mcast_t(ctypes.Structure):
            addr: Annotated[Array[c_uint8], 6]

        @layout
        class hash_t(ctypes.Structure):
            type: u8
            algorithm: u8
            value: Annotated[Array[c_uint8], 4]

        gso: gso_t
        mcast: mcast_t
        hash: hash_t
        pad: Annotated[Array[ctypes.c_uint16], 3]

    type: u8
    flags: u8
    u: u_t


@layout
class netif_tx_response(ctypes.Structure):
    """`status` is NETIF_RSP_*."""

    id: u16
    status: i16


@layout
class netif_rx_request(ctypes.Structure):
    """A page to receive into."""

    id: u16
    pad: u16
    gref: grant_ref_t


@layout
class netif_rx_response(ctypes.Structure):
    """`status` is the size if it is positive, else NETIF_RSP_*; `flags` is NETRXF_*."""

    id: u16
    offset: u16
    flags: u16
    status: i16


@layout
class netif_tx_sring_entry(ctypes.Union):
    """A slot of the transmit ring."""

    req: netif_tx_request
    rsp: netif_tx_response


@layout
class netif_tx_sring(sring):
    """The transmit ring."""

    ring: Annotated[Array[netif_tx_sring_entry], 1]


@layout
class netif_rx_sring_entry(ctypes.Union):
    """A slot of the receive ring."""

    req: netif_rx_request
    rsp: netif_rx_response


@layout
class netif_rx_sring(sring):
    """The receive ring."""

    ring: Annotated[Array[netif_rx_sring_entry], 1]
