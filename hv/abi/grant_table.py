"""Grant tables: entries of both versions, operations, results. Follows public/grant_table.h."""

import ctypes
from ctypes import Array

from hv.abi.arch_x86_xen import xen_pfn_t
from hv.abi.layout import Annotated, handle, i16, layout, u16, u32, u64
from hv.abi.xen import domid_t

grant_ref_t = u32
grant_handle_t = u32

GNTTAB_NR_RESERVED_ENTRIES = 8
GNTTAB_RESERVED_CONSOLE = 0
GNTTAB_RESERVED_XENSTORE = 1

GTF_invalid = 0 << 0
GTF_permit_access = 1 << 0
GTF_accept_transfer = 2 << 0
GTF_transitive = 3 << 0
GTF_type_mask = 3 << 0
_GTF_readonly = 2
GTF_readonly = 1 << _GTF_readonly
_GTF_reading = 3
GTF_reading = 1 << _GTF_reading
_GTF_writing = 4
GTF_writing = 1 << _GTF_writing
_GTF_PWT = 5
GTF_PWT = 1 << _GTF_PWT
_GTF_PCD = 6
GTF_PCD = 1 << _GTF_PCD
_GTF_PAT = 7
GTF_PAT = 1 << _GTF_PAT
_GTF_sub_page = 8
GTF_sub_page = 1 << _GTF_sub_page
_GTF_transfer_committed = 2
GTF_transfer_committed = 1 << _GTF_transfer_committed
_GTF_transfer_completed = 3
GTF_transfer_completed = 1 << _GTF_transfer_completed

GNTTABOP_map_grant_ref = 0
GNTTABOP_unmap_grant_ref = 1
GNTTABOP_setup_table = 2
GNTTABOP_dump_table = 3
GNTTABOP_transfer = 4
GNTTABOP_copy = 5
GNTTABOP_query_size = 6
GNTTABOP_unmap_and_replace = 7
GNTTABOP_set_version = 8
GNTTABOP_get_status_frames = 9
GNTTABOP_get_version = 10
GNTTABOP_swap_grant_ref = 11
GNTTABOP_cache_flush = 12

_GNTCOPY_source_gref = 0
GNTCOPY_source_gref = 1 << _GNTCOPY_source_gref
_GNTCOPY_dest_gref = 1
GNTCOPY_dest_gref = 1 << _GNTCOPY_dest_gref

GNTTAB_CACHE_CLEAN = 1 << 0
GNTTAB_CACHE_INVAL = 1 << 1
GNTTAB_CACHE_SOURCE_GREF = 1 << 31

_GNTMAP_device_map = 0
GNTMAP_device_map = 1 << _GNTMAP_device_map
_GNTMAP_host_map = 1
GNTMAP_host_map = 1 << _GNTMAP_host_map
_GNTMAP_readonly = 2
GNTMAP_readonly = 1 << _GNTMAP_readonly
_GNTMAP_application_map = 3
GNTMAP_application_map = 1 << _GNTMAP_application_map
_GNTMAP_contains_pte = 4
GNTMAP_contains_pte = 1 << _GNTMAP_contains_pte
_GNTMAP_guest_avail0 = 16
GNTMAP_guest_avail_mask = 0xFFFFFFFF << _GNTMAP_guest_avail0 & 0xFFFFFFFF

GNTST_okay = 0
GNTST_general_error = -1
GNTST_bad_domain = -2
GNTST_bad_gntref = -3
GNTST_bad_handle = -4
GNTST_bad_virt_addr = -5
GNTST_bad_dev_addr = -6
GNTST_no_device_space = -7
GNTST_permission_denied = -8
GNTST_bad_page = -9
GNTST_bad_copy_arg = -10
GNTST_address_too_big = -11
GNTST_eagain = -12
GNTST_no_space = -13


@layout
class grant_entry_v1(ctypes.Structure):
    """One grant of a version 1 table."""

    flags: u16
    domid: domid_t
    frame: u32


@layout
class grant_entry_header(ctypes.Structure):
    """What all kinds of version 2 grants begin with."""

    flags: u16
    domid: domid_t


@layout
class grant_entry_v2(ctypes.Union):
    """One grant of a version 2 table; its status is in a table of its own."""

    @layout
    class full_page_t(ctypes.Structure):
        hdr: grant_entry_header
        pad0: u32
        frame: u64

    @layout
    class sub_page_t(ctypes.Structure):
        hdr: grant_entry_header
        page_off: u16
        length: u16
        frame: u64

    @layout
    class transitive_t(ctypes.Structure):
        hdr: grant_entry_header
        trans_domid: domid_t
        pad0: u16
        gref: grant_ref_t

    hdr: grant_entry_header
    full_page: full_page_t
    sub_page: sub_page_t
    transitive: transitive_t
    __spacer: Annotated[Array[ctypes.c_uint32], 4]


@layout
class gnttab_map_grant_ref(ctypes.Structure):
    """Map a foreign frame; `flags` is GNTMAP_*."""

    host_addr: u64
    flags: u32
    ref: grant_ref_t
    dom: domid_t
    status: i16
    handle: grant_handle_t
    dev_bus_addr: u64


@layout
class gnttab_unmap_grant_ref(ctypes.Structure):
    """Undo a mapping."""

    host_addr: u64
    dev_bus_addr: u64
    handle: grant_handle_t
    status: i16


@layout
class gnttab_setup_table(ctypes.Structure):
    """Size the table, and learn its frames."""

    dom: domid_t
    nr_frames: u32
    status: i16
    frame_list: handle


@layout
class gnttab_dump_table(ctypes.Structure):
    """Print a table to the hypervisor's log."""

    dom: domid_t
    status: i16


@layout
class gnttab_transfer(ctypes.Structure):
    """Give a frame away."""

    mfn: xen_pfn_t
    domid: domid_t
    ref: grant_ref_t
    status: i16


@layout
class gnttab_copy_ptr(ctypes.Structure):
    """One side of a copy."""

    @layout
    class u_t(ctypes.Union):
        ref: grant_ref_t
        gmfn: xen_pfn_t

    u: u_t
    domid: domid_t
    offset: u16


@layout
class gnttab_copy(ctypes.Structure):
    """Copy within one page, from or to granted frames; `flags` is GNTCOPY_*."""

    source: gnttab_copy_ptr
    dest: gnttab_copy_ptr
    len: u16
    flags: u16
    status: i16


@layout
class gnttab_query_size(ctypes.Structure):
    """How large a table is, and may become."""

    dom: domid_t
    nr_frames: u32
    max_nr_frames: u32
    status: i16


@layout
class gnttab_unmap_and_replace(ctypes.Structure):
    """Undo a mapping, and put the mapping of another address in its place."""

    host_addr: u64
    new_addr: u64
    handle: grant_handle_t
    status: i16


@layout
class gnttab_set_version(ctypes.Structure):
    """Switch the layout of the domain's own table."""

    version: u32


@layout
class gnttab_get_status_frames(ctypes.Structure):
    """Frames of a version 2 status table."""

    nr_frames: u32
    dom: domid_t
    status: i16
    frame_list: handle


@layout
class gnttab_get_version(ctypes.Structure):
    """Layout of a domain's table."""

    dom: domid_t
    pad: u16
    version: u32


@layout
class gnttab_swap_grant_ref(ctypes.Structure):
    """Exchange two entries."""

    ref_a: grant_ref_t
    ref_b: grant_ref_t
    status: i16


@layout
class gnttab_cache_flush(ctypes.Structure):
    """Clean or invalidate a part of a page; `op` is GNTTAB_CACHE_*."""

    @layout
    class a_t(ctypes.Union):
        dev_bus_addr: u64
        ref: grant_ref_t

    a: a_t
    offset: u16
    length: u16
    op: u32
