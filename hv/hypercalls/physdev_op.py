"""HYPERVISOR_physdev_op as far as a domU without devices sees it. Source: physdev.h; Xen 4.17 arch/x86/physdev.c."""

from hv.abi import physdev
from hv.abi.errno import XEN_EINVAL, XEN_ENODEV, XEN_EPERM
from hv.core.pirq import NR_GSIS, NR_PIRQS
from hv.hypercalls.handles import address_ok
from hv.hypercalls.registry import Call, operation

NR_PORTS = 65536


@operation("physdev_op", "PHYSDEVOP_set_iopl")
def set_iopl(call: Call, argument: physdev.physdev_set_iopl) -> int:
    if argument.iopl > 3:
        return -XEN_EINVAL
    call.guest.set_iopl(call.vcpu, argument.iopl)
    return 0


@operation("physdev_op", "PHYSDEVOP_set_iobitmap")
def set_iobitmap(call: Call, argument: physdev.physdev_set_iobitmap) -> int:
    """Which ports the guest lets its user mode use. The bitmap is read whenever one is used."""
    if not address_ok(argument.bitmap) or argument.nr_ports > NR_PORTS:
        return -XEN_EINVAL
    call.guest.set_io_bitmap(call.vcpu, argument.bitmap, argument.nr_ports)
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


@operation("physdev_op", "PHYSDEVOP_get_free_pirq")
def get_free_pirq(call: Call, argument: physdev.physdev_get_free_pirq) -> int:
    number = call.domain.pirqs.allocate(argument.type == physdev.MAP_PIRQ_TYPE_GSI)
    if number < 0:
        return number
    argument.pirq = number
    return 0


# --- the hardware domain's: each argument is read, and then its right is missing, or the device -------------------


@operation("physdev_op", "PHYSDEVOP_apic_read")
@operation("physdev_op", "PHYSDEVOP_apic_write")
@operation("physdev_op", "PHYSDEVOP_alloc_irq_vector")
@operation("physdev_op", "PHYSDEVOP_manage_pci_add")
@operation("physdev_op", "PHYSDEVOP_manage_pci_remove")
@operation("physdev_op", "PHYSDEVOP_prepare_msix")
@operation("physdev_op", "PHYSDEVOP_release_msix")
def hardware_domain_only(call: Call, _: object) -> int:
    return -XEN_EPERM


@operation("physdev_op", "PHYSDEVOP_manage_pci_add_ext")
def manage_pci_add_ext(call: Call, argument: physdev.physdev_manage_pci_ext) -> int:
    return -XEN_EINVAL if argument.is_extfn > 1 or argument.is_virtfn > 1 else -XEN_EPERM


@operation("physdev_op", "PHYSDEVOP_setup_gsi")
def setup_gsi(call: Call, argument: physdev.physdev_setup_gsi) -> int:
    return -XEN_EPERM if 0 <= argument.gsi < NR_GSIS else -XEN_EINVAL


@operation("physdev_op", "PHYSDEVOP_restore_msi")
@operation("physdev_op", "PHYSDEVOP_restore_msi_ext")
def restore_msi(call: Call, _: object) -> int:
    """There is no PCI device."""
    return -XEN_ENODEV
