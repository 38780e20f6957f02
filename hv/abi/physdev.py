"""Physical devices: interrupts, I/O privilege, PCI. Follows public/physdev.h."""

import ctypes
from ctypes import Array

from hv.abi.arch_x86_xen import xen_pfn_t
from hv.abi.layout import Annotated, handle, i32, layout, u8, u16, u32, u64
from hv.abi.xen import domid_t

PHYSDEVOP_eoi = 12
PHYSDEVOP_pirq_eoi_gmfn_v1 = 17
PHYSDEVOP_pirq_eoi_gmfn_v2 = 28
PHYSDEVOP_irq_status_query = 5
PHYSDEVOP_set_iopl = 6
PHYSDEVOP_set_iobitmap = 7
PHYSDEVOP_apic_read = 8
PHYSDEVOP_apic_write = 9
PHYSDEVOP_alloc_irq_vector = 10
PHYSDEVOP_free_irq_vector = 11
PHYSDEVOP_map_pirq = 13
PHYSDEVOP_unmap_pirq = 14
PHYSDEVOP_manage_pci_add = 15
PHYSDEVOP_manage_pci_remove = 16
PHYSDEVOP_restore_msi = 19
PHYSDEVOP_manage_pci_add_ext = 20
PHYSDEVOP_setup_gsi = 21
PHYSDEVOP_get_free_pirq = 23
PHYSDEVOP_pci_mmcfg_reserved = 24
PHYSDEVOP_pci_device_add = 25
PHYSDEVOP_pci_device_remove = 26
PHYSDEVOP_restore_msi_ext = 27
PHYSDEVOP_prepare_msix = 30
PHYSDEVOP_release_msix = 31
PHYSDEVOP_dbgp_op = 29
PHYSDEVOP_IRQ_UNMASK_NOTIFY = 4
PHYSDEVOP_pirq_eoi_gmfn = PHYSDEVOP_pirq_eoi_gmfn_v2

PHYSDEVOP_DBGP_RESET_PREPARE = 1
PHYSDEVOP_DBGP_RESET_DONE = 2
PHYSDEVOP_DBGP_BUS_UNKNOWN = 0
PHYSDEVOP_DBGP_BUS_PCI = 1

_XENIRQSTAT_needs_eoi = 0
XENIRQSTAT_needs_eoi = 1 << _XENIRQSTAT_needs_eoi
_XENIRQSTAT_shared = 1
XENIRQSTAT_shared = 1 << _XENIRQSTAT_shared

MAP_PIRQ_TYPE_MSI = 0x0
MAP_PIRQ_TYPE_GSI = 0x1
MAP_PIRQ_TYPE_UNKNOWN = 0x2
MAP_PIRQ_TYPE_MSI_SEG = 0x3
MAP_PIRQ_TYPE_MULTI_MSI = 0x4

XEN_PCI_MMCFG_RESERVED = 0x1
XEN_PCI_DEV_EXTFN = 0x1
XEN_PCI_DEV_VIRTFN = 0x2
XEN_PCI_DEV_PXM = 0x4


@layout
class physdev_eoi(ctypes.Structure):
    """Interrupt that has been handled."""

    irq: u32


@layout
class physdev_pirq_eoi_gmfn(ctypes.Structure):
    """Page in which interrupts that need an EOI are marked."""

    gmfn: xen_pfn_t


@layout
class physdev_irq_status_query(ctypes.Structure):
    """`flags` is XENIRQSTAT_*."""

    irq: u32
    flags: u32


@layout
class physdev_set_iopl(ctypes.Structure):
    """I/O privilege level of the vCPU."""

    iopl: u32


@layout
class physdev_set_iobitmap(ctypes.Structure):
    """I/O port bitmap of the vCPU."""

    bitmap: handle
    nr_ports: u32


@layout
class physdev_apic(ctypes.Structure):
    """An I/O APIC register."""

    apic_physbase: u64
    reg: u32
    value: u32


@layout
class physdev_irq(ctypes.Structure):
    """Vector of an interrupt."""

    irq: u32
    vector: u32


@layout
class physdev_map_pirq(ctypes.Structure):
    """`type` is MAP_PIRQ_TYPE_*."""

    domid: domid_t
    type: i32
    index: i32
    pirq: i32
    bus: i32
    devfn: i32
    entry_nr: i32
    table_base: u64


@layout
class physdev_unmap_pirq(ctypes.Structure):
    """Undo a mapping."""

    domid: domid_t
    pirq: i32


@layout
class physdev_manage_pci(ctypes.Structure):
    """A PCI function of segment 0."""

    bus: u8
    devfn: u8


@layout
class physdev_restore_msi(ctypes.Structure):
    """A PCI function of segment 0."""

    bus: u8
    devfn: u8


@layout
class physdev_manage_pci_ext(ctypes.Structure):
    """A PCI function of segment 0, perhaps a virtual one."""

    @layout
    class physfn_t(ctypes.Structure):
        bus: u8
        devfn: u8

    bus: u8
    devfn: u8
    is_extfn: u32
    is_virtfn: u32
    physfn: physfn_t


@layout
class physdev_op(ctypes.Structure):
    """Argument of the old one-argument hypercall."""

    @layout
    class u_t(ctypes.Union):
        irq_status_query: physdev_irq_status_query
        set_iopl: physdev_set_iopl
        set_iobitmap: physdev_set_iobitmap
        apic_op: physdev_apic
        irq_op: physdev_irq

    cmd: u32
    u: u_t


@layout
class physdev_setup_gsi(ctypes.Structure):
    """Trigger mode and polarity of a GSI."""

    gsi: i32
    triggering: u8
    polarity: u8


@layout
class physdev_get_free_pirq(ctypes.Structure):
    """`type` is MAP_PIRQ_TYPE_*."""

    type: i32
    pirq: u32


@layout
class physdev_pci_mmcfg_reserved(ctypes.Structure):
    """A memory-mapped PCI configuration range."""

    address: u64
    segment: u16
    start_bus: u8
    end_bus: u8
    flags: u32


@layout
class physdev_pci_device_add(ctypes.Structure):
    """`flags` is XEN_PCI_DEV_*; with XEN_PCI_DEV_PXM one number follows."""

    @layout
    class physfn_t(ctypes.Structure):
        bus: u8
        devfn: u8

    seg: u16
    bus: u8
    devfn: u8
    flags: u32
    physfn: physfn_t
    optarr: Annotated[Array[ctypes.c_uint32], 0]


@layout
class physdev_pci_device(ctypes.Structure):
    """A PCI function."""

    seg: u16
    bus: u8
    devfn: u8


@layout
class physdev_dbgp_op(ctypes.Structure):
    """Reset of a USB debug port."""

    @layout
    class u_t(ctypes.Union):
        pci: physdev_pci_device

    op: u8
    bus: u8
    u: u_t
