"""Memory reservations, maps and resources. Follows public/memory.h.

Of the operations for toolstacks (sharing, paging, access) only the numbers are here.
"""

import ctypes

from hv.abi.arch_x86_xen import xen_pfn_t, xen_ulong_t
from hv.abi.layout import handle, layout, u8, u16, u32, u64
from hv.abi.physdev import physdev_pci_device
from hv.abi.xen import domid_t

XENMEM_increase_reservation = 0
XENMEM_decrease_reservation = 1
XENMEM_populate_physmap = 6
XENMEM_exchange = 11
XENMEM_maximum_ram_page = 2
XENMEM_current_reservation = 3
XENMEM_maximum_reservation = 4
XENMEM_maximum_gpfn = 14
XENMEM_machphys_mfn_list = 5
XENMEM_machphys_compat_mfn_list = 25
XENMEM_machphys_mapping = 12
XENMEM_add_to_physmap = 7
XENMEM_add_to_physmap_batch = 23
XENMEM_remove_from_physmap = 15
XENMEM_memory_map = 9
XENMEM_machine_memory_map = 10
XENMEM_set_memory_map = 13
XENMEM_set_pod_target = 16
XENMEM_get_pod_target = 17
XENMEM_get_sharing_freed_pages = 18
XENMEM_get_sharing_shared_pages = 19
XENMEM_paging_op = 20
XENMEM_paging_op_nominate = 0
XENMEM_paging_op_evict = 1
XENMEM_paging_op_prep = 2
XENMEM_access_op = 21
XENMEM_access_op_set_access = 0
XENMEM_access_op_get_access = 1
XENMEM_access_op_set_access_multi = 4
XENMEM_sharing_op = 22
XENMEM_sharing_op_nominate_gfn = 0
XENMEM_sharing_op_nominate_gref = 1
XENMEM_sharing_op_share = 2
XENMEM_sharing_op_debug_gfn = 3
XENMEM_sharing_op_debug_mfn = 4
XENMEM_sharing_op_debug_gref = 5
XENMEM_sharing_op_add_physmap = 6
XENMEM_sharing_op_audit = 7
XENMEM_sharing_op_range_share = 8
XENMEM_sharing_op_fork = 9
XENMEM_sharing_op_fork_reset = 10
XENMEM_claim_pages = 24
XENMEM_reserved_device_memory_map = 27
XENMEM_RDM_ALL = 1
XENMEM_acquire_resource = 28
XENMEM_resource_ioreq_server = 0
XENMEM_resource_grant_table = 1
XENMEM_resource_vmtrace_buf = 2
XENMEM_resource_grant_table_id_shared = 0
XENMEM_resource_grant_table_id_status = 1
XENMEM_resource_ioreq_server_frame_bufioreq = 0
XENMEM_get_vnumainfo = 26

XENMEMF_populate_on_demand = 1 << 16
XENMEMF_exact_node_request = 1 << 17
XENMEMF_vnode = 1 << 18
XENMEM_access_n = 0
XENMEM_access_r = 1
XENMEM_access_w = 2
XENMEM_access_rw = 3
XENMEM_access_x = 4
XENMEM_access_rx = 5
XENMEM_access_wx = 6
XENMEM_access_rwx = 7
XENMEM_access_rx2rw = 8
XENMEM_access_n2rwx = 9
XENMEM_access_default = 10

XENMEM_SHARING_OP_S_HANDLE_INVALID = -10
XENMEM_SHARING_OP_C_HANDLE_INVALID = -9
XENMEM_SHARING_OP_FIELD_IS_GREF_FLAG = 1 << 62

XENMEM_FORK_WITH_IOMMU_ALLOWED = 1 << 0
XENMEM_FORK_BLOCK_INTERRUPTS = 1 << 1
XENMEM_FORK_RESET_STATE = 1 << 2
XENMEM_FORK_RESET_MEMORY = 1 << 3

XENMAPSPACE_shared_info = 0
XENMAPSPACE_grant_table = 1
XENMAPSPACE_gmfn = 2
XENMAPSPACE_gmfn_range = 3
XENMAPSPACE_gmfn_foreign = 4
XENMAPSPACE_dev_mmio = 5
XENMAPIDX_grant_table_status = 0x80000000


def XENMEMF_address_bits(bits: int) -> int:
    """Ask for frames below `1 << bits`."""
    return bits


def XENMEMF_get_address_bits(flags: int) -> int:
    """The width asked for, 0 for any."""
    return flags & 0xFF


def XENMEMF_node(node: int) -> int:
    """Prefer frames of a NUMA node."""
    return (node + 1) << 8


def XENMEMF_get_node(flags: int) -> int:
    """The node preferred, 0xff for none."""
    return ((flags >> 8) - 1) & 0xFF


@layout
class xen_memory_reservation(ctypes.Structure):
    """Extents of `1 << extent_order` frames; `mem_flags` is XENMEMF_*."""

    extent_start: handle
    nr_extents: xen_ulong_t
    extent_order: u32
    mem_flags: u32
    domid: domid_t


@layout
class xen_memory_exchange(ctypes.Structure):
    """Trade frames for others of a different shape."""

    in_: xen_memory_reservation
    out: xen_memory_reservation
    nr_exchanged: xen_ulong_t


@layout
class xen_memory_domain(ctypes.Structure):
    """The domain that is asked about."""

    domid: domid_t


@layout
class xen_machphys_mfn_list(ctypes.Structure):
    """Frames that hold the machine-to-physical table."""

    max_extents: u32
    extent_start: handle
    nr_extents: u32


@layout
class xen_machphys_mapping(ctypes.Structure):
    """Where the machine-to-physical table is mapped."""

    v_start: xen_ulong_t
    v_end: xen_ulong_t
    max_mfn: xen_ulong_t


@layout
class xen_add_to_physmap(ctypes.Structure):
    """Put a page at a guest frame; `space` is XENMAPSPACE_*."""

    domid: domid_t
    size: u16
    space: u32
    idx: xen_ulong_t
    gpfn: xen_pfn_t


@layout
class xen_add_to_physmap_batch(ctypes.Structure):
    """The same for many pages."""

    @layout
    class u_t(ctypes.Union):
        foreign_domid: domid_t
        res0: u16

    domid: domid_t
    space: u16
    size: u16
    u: u_t
    idxs: handle
    gpfns: handle
    errs: handle


@layout
class xen_remove_from_physmap(ctypes.Structure):
    """Take a page away."""

    domid: domid_t
    gpfn: xen_pfn_t


@layout
class xen_memory_map(ctypes.Structure):
    """E820 entries: room in, number out."""

    nr_entries: u32
    buffer: handle


@layout
class xen_foreign_memory_map(ctypes.Structure):
    """E820 of another domain."""

    domid: domid_t
    map: xen_memory_map


@layout
class xen_pod_target(ctypes.Structure):
    """Populate-on-demand counters."""

    target_pages: u64
    tot_pages: u64
    pod_cache_pages: u64
    pod_entries: u64
    domid: domid_t


@layout
class xen_reserved_device_memory(ctypes.Structure):
    """A range that a device keeps for itself."""

    start_pfn: xen_pfn_t
    nr_pages: xen_ulong_t


@layout
class xen_reserved_device_memory_map(ctypes.Structure):
    """Ranges that devices keep for themselves."""

    @layout
    class dev_t(ctypes.Union):
        pci: physdev_pci_device

    flags: u32
    nr_entries: u32
    buffer: handle
    dev: dev_t


@layout
class xen_mem_acquire_resource(ctypes.Structure):
    """Frames of something the hypervisor owns; `type` is XENMEM_resource_*."""

    domid: domid_t
    type: u16
    id: u32
    nr_frames: u32
    pad: u32
    frame: u64
    frame_list: handle


@layout
class xen_mem_access_op(ctypes.Structure):
    """Access rights of guest frames; `op` is one of XENMEM_access_op_*."""

    op: u8
    access: u8
    domid: domid_t
    nr: u32
    pfn: u64
    pfn_list: handle
    access_list: handle


@layout
class xen_vmemrange(ctypes.Structure):
    """A range of one virtual NUMA node."""

    start: u64
    end: u64
    flags: u32
    nid: u32


@layout
class xen_vnuma_topology_info(ctypes.Structure):
    """Virtual NUMA topology of a domain."""

    @layout
    class vdistance_t(ctypes.Union):
        h: handle
        pad: u64

    @layout
    class vcpu_to_vnode_t(ctypes.Union):
        h: handle
        pad: u64

    @layout
    class vmemrange_t(ctypes.Union):
        h: handle
        pad: u64

    domid: domid_t
    pad: u16
    nr_vnodes: u32
    nr_vcpus: u32
    nr_vmemranges: u32
    vdistance: vdistance_t
    vcpu_to_vnode: vcpu_to_vnode_t
    vmemrange: vmemrange_t
