"""HYPERVISOR_memory_op: what belongs to toolstacks and to domains with a translated physmap, as a PV domU sees it.

Each is refused where Xen refuses it: behind the checks that come before. What is refused without any is in the rows of
hv.abi.hypercalls. Source: memory.h; Xen 4.17 common/memory.c, common/mem_access.c, arch/x86/mm.c.
"""

from hv.abi import memory as abi
from hv.abi.errno import (
    XEN_EACCES,
    XEN_EDOM,
    XEN_EINVAL,
    XEN_ENOSYS,
    XEN_EOPNOTSUPP,
    XEN_EPERM,
    XEN_ESRCH,
)
from hv.hypercalls.domains import another, exists
from hv.hypercalls.memory_op import EXTENT_SHIFT
from hv.hypercalls.registry import Call, operation

U16 = 0xFFFF


def _extent(call: Call) -> int:
    return call.registers[0] >> EXTENT_SHIFT


@operation("memory_op", "XENMEM_add_to_physmap", raw=True)
def add_to_physmap(call: Call, address: int) -> int:
    if _extent(call) > U16:
        return -XEN_EDOM
    argument = call.read(address, abi.xen_add_to_physmap)
    if argument.space == abi.XENMAPSPACE_gmfn_foreign:
        return -XEN_ENOSYS
    return -XEN_EACCES if exists(call, argument.domid) else -XEN_ESRCH


@operation("memory_op", "XENMEM_add_to_physmap_batch", raw=True)
def add_to_physmap_batch(call: Call, address: int) -> int:
    if _extent(call) > U16:
        return -XEN_EDOM
    argument = call.read(address, abi.xen_add_to_physmap_batch)
    if argument.space == abi.XENMAPSPACE_gmfn_range:
        return -XEN_EOPNOTSUPP
    return -XEN_EACCES if exists(call, argument.domid) else -XEN_ESRCH


@operation("memory_op", "XENMEM_remove_from_physmap")
def remove_from_physmap(call: Call, argument: abi.xen_remove_from_physmap) -> int:
    return -XEN_EACCES if exists(call, argument.domid) else -XEN_ESRCH


@operation("memory_op", "XENMEM_set_pod_target")
@operation("memory_op", "XENMEM_get_pod_target")
def pod_target(call: Call, argument: abi.xen_pod_target) -> int:
    """Every domain here is PV."""
    return -XEN_EINVAL if exists(call, argument.domid) else -XEN_ESRCH


@operation("memory_op", "XENMEM_access_op")
def access_op(call: Call, argument: abi.xen_mem_access_op) -> int:
    return another(call, argument.domid) or -XEN_EINVAL


@operation("memory_op", "XENMEM_claim_pages")
def claim_pages(call: Call, argument: abi.xen_memory_reservation) -> int:
    if argument.extent_start or argument.extent_order or argument.mem_flags:
        return -XEN_EINVAL
    return -XEN_EINVAL if another(call, argument.domid) == -XEN_ESRCH else -XEN_EPERM


@operation("memory_op", "XENMEM_get_vnumainfo")
def get_vnumainfo(call: Call, argument: abi.xen_vnuma_topology_info) -> int:
    """No domain here has a NUMA topology."""
    if argument.pad:
        return -XEN_EINVAL
    return call.domain.about(argument.domid) or -XEN_EOPNOTSUPP


@operation("memory_op", "XENMEM_acquire_resource")
def acquire_resource(call: Call, argument: abi.xen_mem_acquire_resource) -> int:
    if argument.pad or argument.frame >> 32 or (argument.frame + argument.nr_frames) >> 32:
        return -XEN_EINVAL
    return another(call, argument.domid) or -XEN_EPERM


@operation("memory_op", "XENMEM_get_sharing_freed_pages")
@operation("memory_op", "XENMEM_get_sharing_shared_pages")
def no_sharing(call: Call, *_: int) -> int:
    """How many pages are shared between domains."""
    return 0
