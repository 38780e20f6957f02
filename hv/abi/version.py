"""What the hypervisor tells about itself. Follows public/version.h."""

import ctypes
from ctypes import Array

from hv.abi.arch_x86_xen import xen_ulong_t
from hv.abi.layout import Annotated, layout, u32

XENVER_version = 0
XENVER_extraversion = 1
XENVER_compile_info = 2
XENVER_capabilities = 3
XENVER_changeset = 4
XENVER_platform_parameters = 5
XENVER_get_features = 6
XENVER_pagesize = 7
XENVER_guest_handle = 8
XENVER_commandline = 9
XENVER_build_id = 10

XEN_EXTRAVERSION_LEN = 16
XEN_CAPABILITIES_INFO_LEN = 1024
XEN_CHANGESET_INFO_LEN = 64

xen_extraversion_t = ctypes.c_char * XEN_EXTRAVERSION_LEN
xen_capabilities_info_t = ctypes.c_char * XEN_CAPABILITIES_INFO_LEN
xen_changeset_info_t = ctypes.c_char * XEN_CHANGESET_INFO_LEN
xen_commandline_t = ctypes.c_char * 1024
# Declared in public/xen.h, but only an answer to XENVER_guest_handle for a guest.
xen_domain_handle_t = ctypes.c_uint8 * 16


@layout
class xen_compile_info(ctypes.Structure):
    """Who built it, with what, and when."""

    compiler: Annotated[bytes, ctypes.c_char * 64]
    compile_by: Annotated[bytes, ctypes.c_char * 16]
    compile_domain: Annotated[bytes, ctypes.c_char * 32]
    compile_date: Annotated[bytes, ctypes.c_char * 32]


@layout
class xen_platform_parameters(ctypes.Structure):
    """Where the hypervisor's part of the address space begins."""

    virt_start: xen_ulong_t


@layout
class xen_feature_info(ctypes.Structure):
    """32 feature bits; `submap_idx` in, `submap` out."""

    submap_idx: u32
    submap: u32


@layout
class xen_build_id(ctypes.Structure):
    """Room in, build id out; `len` bytes follow."""

    len: u32
    buf: Annotated[Array[ctypes.c_uint8], 0]
