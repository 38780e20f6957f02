"""HYPERVISOR_physdev_op as far as a domU without devices sees it. Source: physdev.h; Xen 4.17 arch/x86/physdev.c."""

from hv.abi import physdev
from hv.abi.errno import XEN_EINVAL, XEN_EPERM
from hv.core.pirq import NR_PIRQS
from hv.hypercalls.registry import Call, operation


@operation("physdev_op", "PHYSDEVOP_set_iopl")
def set_iopl(call: Call, argument: physdev.physdev_set_iopl) -> int:
    if argument.iopl > 3:
        return -XEN_EINVAL
    call.guest.set_iopl(call.vcpu, argument.iopl)
    return 0


# --- physical interrupts: the rules are hv.core.pirq's ------------------------------------------------------------


@operation("physdev_op", "PHYSDEVOP_eoi")
def eoi(call: Call, argument: physdev.physdev_eoi) -> int:
    return call.domain.pirqs.eoi(argument.irq)


@operation("physdev_op", "PHYSDEVOP_IRQ_UNMASK_NOTIFY")
def irq_unmask_notify(call: Call, _: int) -> int:
    call.domain.pirqs.eoi_unmasked(lambda port: call.guest.port_events(port)[1])
    return 0


@operation("physdev_op", "PHYSDEVOP_irq_status_query")
def irq_status_query(call: Call, argument: physdev.physdev_irq_status_query) -> int:
    """Xen asks for an EOI of any of them, to be safe; nobody shares one here."""
    if argument.irq >= NR_PIRQS:
        return -XEN_EINVAL
    argument.flags = physdev.XENIRQSTAT_needs_eoi
    return 0


@operation("physdev_op", "PHYSDEVOP_pirq_eoi_gmfn_v1")
def pirq_eoi_gmfn_v1(call: Call, argument: physdev.physdev_pirq_eoi_gmfn) -> int:
    return call.domain.pirqs.share_needs_eoi(argument.gmfn, unmasks=True)


@operation("physdev_op", "PHYSDEVOP_pirq_eoi_gmfn_v2")
def pirq_eoi_gmfn_v2(call: Call, argument: physdev.physdev_pirq_eoi_gmfn) -> int:
    return call.domain.pirqs.share_needs_eoi(argument.gmfn, unmasks=False)


@operation("physdev_op", "PHYSDEVOP_map_pirq", raw=True)
def map_pirq(call: Call, address: int) -> int:
    """A toolstack's: what a domU may use was mapped for it. The argument is written back all the same."""
    argument = call.read(address, physdev.physdev_map_pirq)
    if argument.type == physdev.MAP_PIRQ_TYPE_MULTI_MSI and argument.table_base:
        return -XEN_EINVAL
    if argument.type == physdev.MAP_PIRQ_TYPE_MSI_SEG:
        argument.type = physdev.MAP_PIRQ_TYPE_MSI
    call.write(address, argument)
    return call.domain.about(argument.domid) or -XEN_EPERM


@operation("physdev_op", "PHYSDEVOP_unmap_pirq")
def unmap_pirq(call: Call, argument: physdev.physdev_unmap_pirq) -> int:
    return call.domain.about(argument.domid) or -XEN_EPERM
