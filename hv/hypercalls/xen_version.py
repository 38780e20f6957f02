"""HYPERVISOR_xen_version: what the hypervisor says about itself. Source: version.h, features.h; answers of Xen 4.17."""

from __future__ import annotations

import ctypes
from typing import Any

from hv.abi import features, version
from hv.abi.arch_x86_64 import HYPERVISOR_VIRT_START
from hv.abi.errno import XEN_EINVAL
from hv.abi.xen import VMASST_TYPE_pae_extended_cr3
from hv.hypercalls.registry import Call, operation
from hv.version import __version__

FEATURES = (
    1 << features.XENFEAT_mmu_pt_update_preserve_ad
    | 1 << features.XENFEAT_highmem_assist
    | 1 << features.XENFEAT_gnttab_map_avail_bits
    | 1 << features.XENFEAT_memory_op_vnode_supported
    | 1 << features.XENFEAT_direct_mapped
)
CAPABILITIES = b"xen-3.0-x86_64 "
DENIED = b"<denied>"


def _fill(argument: Any, text: bytes) -> int:
    ctypes.memset(argument, 0, ctypes.sizeof(argument))
    ctypes.memmove(argument, text, min(len(text), ctypes.sizeof(argument) - 1))
    return 0


@operation("xen_version", "XENVER_extraversion")
def extraversion(call: Call, argument: Any) -> int:
    return _fill(argument, b".7-hv")


@operation("xen_version", "XENVER_compile_info")
def compile_info(call: Call, argument: version.xen_compile_info) -> int:
    """The same for every build of hv, so that runs repeat."""
    argument.compiler, argument.compile_by, argument.compile_domain = b"gcc", b"hv", b"(none)"
    argument.compile_date = b"Wed Jan  1 00:00:00 UTC 2020"
    return 0


@operation("xen_version", "XENVER_capabilities")
def capabilities(call: Call, argument: Any) -> int:
    return _fill(argument, CAPABILITIES)


@operation("xen_version", "XENVER_changeset")
def changeset(call: Call, argument: Any) -> int:
    return _fill(argument, b"hv " + __version__.encode())


@operation("xen_version", "XENVER_platform_parameters")
def platform_parameters(call: Call, argument: version.xen_platform_parameters) -> int:
    argument.virt_start = HYPERVISOR_VIRT_START
    return 0


@operation("xen_version", "XENVER_get_features")
def get_features(call: Call, argument: version.xen_feature_info) -> int:
    if argument.submap_idx:
        return -XEN_EINVAL
    argument.submap = FEATURES
    if call.guest.vm_assist >> VMASST_TYPE_pae_extended_cr3 & 1:
        argument.submap |= 1 << features.XENFEAT_pae_pgdir_above_4gb
    return 0


@operation("xen_version", "XENVER_guest_handle")
def guest_handle(call: Call, argument: Any) -> int:
    argument[:] = call.domain.handle
    return 0


@operation("xen_version", "XENVER_commandline", raw=True)
def commandline(call: Call, address: int) -> int:
    """What a domU may know of it: the refusal alone is written, not the whole buffer."""
    call.write_bytes(address, DENIED + b"\0")
    return 0
