"""Every hypercall that Xen 4.17 offers to 64-bit PV guests, as rows.

Argument names are those of Xen's own prototypes. Sub-operations take their number from the header's
module by name, so each number is written down once. An operation without an argument
structure either needs none or is one that only a toolstack may use.

A number without a row is answered with -ENOSYS.
"""

from __future__ import annotations

from hv.abi import (
    arch_x86_64,
    callback,
    event_channel,
    grant_table,
    hvm_op,
    memory,
    nmi,
    physdev,
    sched,
    vcpu,
    version,
    xenoprof,
)
from hv.abi import xen as xen_
from hv.abi.arch_x86_xen import vcpu_guest_context
from hv.abi.rows import Argument, Hypercall, Operation, by_name, by_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any

# Spelled without a leading name that Python would mangle: see xen.py.
_NUMBERS: dict[str, int] = {
    key.removeprefix("__HYPERVISOR_"): value for key, value in vars(xen_).items() if key.startswith("__HYPERVISOR_")
}

# What hot_<name> in C answers: the whole call, or the sub-operations named here; the others come to Python.
_HOT: dict[str, tuple[str, ...]] = {
    "mmu_update": (),
    "stack_switch": (),
    "fpu_taskswitch": (),
    "sched_op_compat": (),
    "set_debugreg": (),
    "get_debugreg": (),
    "multicall": (),
    "update_va_mapping": (),
    "update_va_mapping_otherdomain": (),
    "set_timer_op": (),
    "event_channel_op_compat": (),
    "physdev_op_compat": (),
    "iret": (),
    "set_segment_base": (),
    "mmuext_op": (),
    "xen_version": ("XENVER_version", "XENVER_pagesize"),
    "sched_op": ("SCHEDOP_yield", "SCHEDOP_block", "SCHEDOP_poll"),
    "event_channel_op": ("EVTCHNOP_send", "EVTCHNOP_unmask"),
    "vcpu_op": (
        "VCPUOP_is_up",
        "VCPUOP_get_runstate_info",
        "VCPUOP_set_periodic_timer",
        "VCPUOP_stop_periodic_timer",
        "VCPUOP_set_singleshot_timer",
        "VCPUOP_stop_singleshot_timer",
        "VCPUOP_send_nmi",
    ),
    "grant_table_op": (
        "GNTTABOP_map_grant_ref",
        "GNTTABOP_unmap_grant_ref",
        "GNTTABOP_unmap_and_replace",
        "GNTTABOP_transfer",
        "GNTTABOP_copy",
        "GNTTABOP_swap_grant_ref",
        "GNTTABOP_cache_flush",
    ),
}


def _ops(header: ModuleType, prefix: str, *rows: tuple[Any, ...]) -> tuple[Operation, ...]:
    """Rows (name without prefix, argument, direction[, count]) with the header's numbers."""
    return tuple(Operation(getattr(header, prefix + name), prefix + name, *rest) for name, *rest in rows)


def _call(
    name: str,
    arguments: str = "",
    operations: Iterable[Operation] = (),
    domu: str | None = None,
    command_bits: int = 0xFFFFFFFF,
) -> Hypercall:
    """A row; `arguments` is `name=kind` for each register."""
    return Hypercall(
        _NUMBERS[name],
        name,
        tuple(Argument(*argument.split("=", 1)) for argument in arguments.split()),
        tuple(operations),
        f"hot_{name}" if name in _HOT else None,
        _HOT.get(name, ()),
        domu,
        command_bits,
    )


_MMU = _ops(
    xen_,
    "MMU_",
    ("NORMAL_PT_UPDATE", xen_.mmu_update, "in", True),
    ("MACHPHYS_UPDATE", xen_.mmu_update, "in", True),
    ("PT_UPDATE_PRESERVE_AD", xen_.mmu_update, "in", True),
    ("PT_UPDATE_NO_TRANSLATE", xen_.mmu_update, "in", True),
)

_MMUEXT = _ops(
    xen_,
    "MMUEXT_",
    *((name.removeprefix("MMUEXT_"), xen_.mmuext_op, "in", True) for name in vars(xen_) if name.startswith("MMUEXT_")),
)

_MEMORY = _ops(
    memory,
    "XENMEM_",
    ("increase_reservation", memory.xen_memory_reservation, "in"),
    ("decrease_reservation", memory.xen_memory_reservation, "in"),
    ("maximum_ram_page", None, "none"),
    ("current_reservation", memory.xen_memory_domain, "in"),
    ("maximum_reservation", memory.xen_memory_domain, "in"),
    ("machphys_mfn_list", memory.xen_machphys_mfn_list, "inout"),
    ("populate_physmap", memory.xen_memory_reservation, "in"),
    ("add_to_physmap", memory.xen_add_to_physmap, "in"),
    ("memory_map", memory.xen_memory_map, "inout"),
    ("machine_memory_map", memory.xen_memory_map, "inout", False, "EPERM"),
    ("exchange", memory.xen_memory_exchange, "inout"),
    ("machphys_mapping", memory.xen_machphys_mapping, "out"),
    ("set_memory_map", memory.xen_foreign_memory_map, "in"),
    ("maximum_gpfn", memory.xen_memory_domain, "in"),
    ("remove_from_physmap", memory.xen_remove_from_physmap, "in"),
    ("set_pod_target", memory.xen_pod_target, "inout"),
    ("get_pod_target", memory.xen_pod_target, "inout"),
    ("get_sharing_freed_pages", None, "none"),
    ("get_sharing_shared_pages", None, "none"),
    ("paging_op", None, "inout", False, "ENOSYS"),
    ("access_op", memory.xen_mem_access_op, "inout"),
    ("sharing_op", None, "inout", False, "ENOSYS"),
    ("add_to_physmap_batch", memory.xen_add_to_physmap_batch, "in"),
    ("claim_pages", memory.xen_memory_reservation, "in"),
    ("machphys_compat_mfn_list", memory.xen_machphys_mfn_list, "inout", False, "EOPNOTSUPP"),
    ("get_vnumainfo", memory.xen_vnuma_topology_info, "inout"),
    ("reserved_device_memory_map", memory.xen_reserved_device_memory_map, "inout"),
    ("acquire_resource", memory.xen_mem_acquire_resource, "inout"),
)

_VERSION = _ops(
    version,
    "XENVER_",
    ("version", None, "none"),
    ("extraversion", version.xen_extraversion_t, "out"),
    ("compile_info", version.xen_compile_info, "out"),
    ("capabilities", version.xen_capabilities_info_t, "out"),
    ("changeset", version.xen_changeset_info_t, "out"),
    ("platform_parameters", version.xen_platform_parameters, "out"),
    ("get_features", version.xen_feature_info, "inout"),
    ("pagesize", None, "none"),
    ("guest_handle", version.xen_domain_handle_t, "out"),
    ("commandline", version.xen_commandline_t, "out"),
    ("build_id", version.xen_build_id, "inout", False, "EPERM"),
)

_GRANT_TABLE = _ops(
    grant_table,
    "GNTTABOP_",
    ("map_grant_ref", grant_table.gnttab_map_grant_ref, "inout", True),
    ("unmap_grant_ref", grant_table.gnttab_unmap_grant_ref, "inout", True),
    ("setup_table", grant_table.gnttab_setup_table, "inout", True),
    ("dump_table", grant_table.gnttab_dump_table, "inout", True, "ENOSYS"),
    ("transfer", grant_table.gnttab_transfer, "inout", True),
    ("copy", grant_table.gnttab_copy, "inout", True),
    ("query_size", grant_table.gnttab_query_size, "inout", True),
    ("unmap_and_replace", grant_table.gnttab_unmap_and_replace, "inout", True),
    ("set_version", grant_table.gnttab_set_version, "inout", True),
    ("get_status_frames", grant_table.gnttab_get_status_frames, "inout", True),
    ("get_version", grant_table.gnttab_get_version, "inout", True),
    ("swap_grant_ref", grant_table.gnttab_swap_grant_ref, "inout", True),
    ("cache_flush", grant_table.gnttab_cache_flush, "in", True),
)

_VCPU = _ops(
    vcpu,
    "VCPUOP_",
    ("initialise", vcpu_guest_context, "in"),
    ("up", None, "none"),
    ("down", None, "none"),
    ("is_up", None, "none"),
    ("get_runstate_info", vcpu.vcpu_runstate_info, "out"),
    ("register_runstate_memory_area", vcpu.vcpu_register_runstate_memory_area, "in"),
    ("set_periodic_timer", vcpu.vcpu_set_periodic_timer, "in"),
    ("stop_periodic_timer", None, "none"),
    ("set_singleshot_timer", vcpu.vcpu_set_singleshot_timer, "in"),
    ("stop_singleshot_timer", None, "none"),
    ("register_vcpu_info", vcpu.vcpu_register_vcpu_info, "in"),
    ("send_nmi", None, "none"),
    ("get_physid", vcpu.vcpu_get_physid, "out", False, "EINVAL"),
    ("register_vcpu_time_memory_area", vcpu.vcpu_register_time_memory_area, "in"),
)

_SCHED = _ops(
    sched,
    "SCHEDOP_",
    ("yield", None, "none"),
    ("block", None, "none"),
    ("shutdown", sched.sched_shutdown, "in"),
    ("poll", sched.sched_poll, "in"),
    ("remote_shutdown", sched.sched_remote_shutdown, "in"),
    ("shutdown_code", sched.sched_shutdown, "in"),
    ("watchdog", sched.sched_watchdog, "in"),
    ("pin_override", sched.sched_pin_override, "in", False, "EPERM"),
)

# The old call passes the reason of a shutdown in the register itself.
_SCHED_COMPAT = _ops(sched, "SCHEDOP_", ("yield", None, "none"), ("block", None, "none"), ("shutdown", None, "none"))

_EVENT_CHANNEL = _ops(
    event_channel,
    "EVTCHNOP_",
    ("bind_interdomain", event_channel.evtchn_bind_interdomain, "inout"),
    ("bind_virq", event_channel.evtchn_bind_virq, "inout"),
    ("bind_pirq", event_channel.evtchn_bind_pirq, "inout"),
    ("close", event_channel.evtchn_close, "in"),
    ("send", event_channel.evtchn_send, "in"),
    ("status", event_channel.evtchn_status, "inout"),
    ("alloc_unbound", event_channel.evtchn_alloc_unbound, "inout"),
    ("bind_ipi", event_channel.evtchn_bind_ipi, "inout"),
    ("bind_vcpu", event_channel.evtchn_bind_vcpu, "in"),
    ("unmask", event_channel.evtchn_unmask, "in"),
    ("reset", event_channel.evtchn_reset, "in"),
    ("init_control", event_channel.evtchn_init_control, "inout"),
    ("expand_array", event_channel.evtchn_expand_array, "in"),
    ("set_priority", event_channel.evtchn_set_priority, "in"),
)

_PHYSDEV = _ops(
    physdev,
    "PHYSDEVOP_",
    ("IRQ_UNMASK_NOTIFY", None, "none"),
    ("irq_status_query", physdev.physdev_irq_status_query, "inout"),
    ("set_iopl", physdev.physdev_set_iopl, "in"),
    ("set_iobitmap", physdev.physdev_set_iobitmap, "in"),
    ("apic_read", physdev.physdev_apic, "inout"),
    ("apic_write", physdev.physdev_apic, "in"),
    ("alloc_irq_vector", physdev.physdev_irq, "inout"),
    ("free_irq_vector", physdev.physdev_irq, "in", False, "ENOSYS"),
    ("eoi", physdev.physdev_eoi, "in"),
    ("map_pirq", physdev.physdev_map_pirq, "inout"),
    ("unmap_pirq", physdev.physdev_unmap_pirq, "in"),
    ("manage_pci_add", physdev.physdev_manage_pci, "in"),
    ("manage_pci_remove", physdev.physdev_manage_pci, "in"),
    ("pirq_eoi_gmfn_v1", physdev.physdev_pirq_eoi_gmfn, "in"),
    ("restore_msi", physdev.physdev_restore_msi, "in"),
    ("manage_pci_add_ext", physdev.physdev_manage_pci_ext, "in"),
    ("setup_gsi", physdev.physdev_setup_gsi, "in"),
    ("get_free_pirq", physdev.physdev_get_free_pirq, "inout"),
    ("pci_mmcfg_reserved", physdev.physdev_pci_mmcfg_reserved, "in", False, "EPERM"),
    ("pci_device_add", physdev.physdev_pci_device_add, "in", False, "EOPNOTSUPP"),
    ("pci_device_remove", physdev.physdev_pci_device, "in", False, "EOPNOTSUPP"),
    ("restore_msi_ext", physdev.physdev_pci_device, "in"),
    ("pirq_eoi_gmfn_v2", physdev.physdev_pirq_eoi_gmfn, "in"),
    ("dbgp_op", physdev.physdev_dbgp_op, "in", False, "EPERM"),
    ("prepare_msix", physdev.physdev_pci_device, "in"),
    ("release_msix", physdev.physdev_pci_device, "in"),
)

_CALLBACK = _ops(
    callback,
    "CALLBACKOP_",
    ("register", callback.callback_register, "in"),
    ("unregister", callback.callback_unregister, "in"),
)

_NMI = _ops(
    nmi,
    "XENNMI_",
    ("register_callback", nmi.xennmi_callback, "in"),
    ("unregister_callback", None, "none"),
)

_XENOPROF = _ops(
    xenoprof,
    "XENOPROF_",
    ("init", xenoprof.xenoprof_init, "inout"),
    *(
        (name, None, "none", False, "EPERM")
        for name in (
            "reset_active_list",
            "reset_passive_list",
            "set_active",
            "set_passive",
            "reserve_counters",
            "counter",
            "setup_events",
            "enable_virq",
            "start",
            "stop",
            "disable_virq",
            "release_counters",
            "shutdown",
            "set_backtrace",
            "get_ibs_caps",
            "ibs_counter",
        )
    ),
    ("get_buffer", xenoprof.xenoprof_get_buffer, "inout", False, "EBUSY"),
)

_HVM = _ops(
    hvm_op,
    "HVMOP_",
    ("set_param", hvm_op.xen_hvm_param, "in"),
    ("get_param", hvm_op.xen_hvm_param, "inout"),
    ("flush_tlbs", None, "none", False, "EINVAL"),
    ("pagetable_dying", hvm_op.xen_hvm_pagetable_dying, "in"),
    ("get_time", hvm_op.xen_hvm_get_time, "out"),
    ("xentrace", hvm_op.xen_hvm_xentrace, "in"),
    ("get_mem_type", hvm_op.xen_hvm_get_mem_type, "inout"),
    ("set_evtchn_upcall_vector", hvm_op.xen_hvm_evtchn_upcall_vector, "in", False, "EINVAL"),
    ("guest_request_vm_event", None, "none"),
    ("altp2m", None, "none", False, "EOPNOTSUPP"),
)

_SEGBASE = _ops(
    arch_x86_64,
    "SEGBASE_",
    ("FS", None, "none"),
    ("GS_USER", None, "none"),
    ("GS_KERNEL", None, "none"),
    ("GS_USER_SEL", None, "none"),
)

_CONSOLE = _ops(xen_, "CONSOLEIO_", ("write", None, "in"), ("read", None, "out"))

_VM_ASSIST = _ops(xen_, "VMASST_CMD_", ("enable", None, "none"), ("disable", None, "none"))

HYPERCALLS: tuple[Hypercall, ...] = (
    _call("set_trap_table", "traps=ptr:trap_info"),
    _call("mmu_update", "ureqs=ptr:mmu_update count=count pdone=u32 foreigndom=domid", _MMU),
    _call("set_gdt", "frame_list=u64s entries=count"),
    _call("stack_switch", "ss=selector esp=va"),
    _call("set_callbacks", "event_address=va failsafe_address=va syscall_address=va"),
    _call("fpu_taskswitch", "set=int"),
    _call("sched_op_compat", "cmd=op arg=uint", _SCHED_COMPAT),
    _call("platform_op", "u_xenpf_op=buf", domu="EPERM"),
    _call("set_debugreg", "reg=int value=flags"),
    _call("get_debugreg", "reg=int"),
    _call("update_descriptor", "gaddr=maddr desc=descriptor"),
    _call("memory_op", "cmd=op arg=arg", _MEMORY, command_bits=0x3F),
    _call("multicall", "call_list=ptr:multicall_entry nr_calls=count"),
    _call("update_va_mapping", "va=va val64=pte flags=flags"),
    _call("set_timer_op", "timeout=time"),
    _call("event_channel_op_compat", "uop=ptr:evtchn_op"),
    _call("xen_version", "cmd=op arg=arg", _VERSION),
    _call("console_io", "cmd=op count=count buffer=buf", _CONSOLE),
    _call("physdev_op_compat", "uop=ptr:physdev_op"),
    _call("grant_table_op", "cmd=op uop=arg count=count", _GRANT_TABLE, command_bits=0xFFF),
    _call("vm_assist", "cmd=op type=uint", _VM_ASSIST),
    _call("update_va_mapping_otherdomain", "va=va val64=pte flags=flags domid=domid"),
    _call("iret"),
    _call("vcpu_op", "cmd=op vcpuid=vcpu arg=arg", _VCPU),
    _call("set_segment_base", "which=op base=va", _SEGBASE),
    _call("mmuext_op", "uops=ptr:mmuext_op count=count pdone=u32 foreigndom=domid", _MMUEXT),
    _call("xsm_op", "op=buf", domu="ENOSYS"),
    _call("nmi_op", "cmd=op arg=arg", _NMI),
    _call("sched_op", "cmd=op arg=arg", _SCHED),
    _call("callback_op", "cmd=op arg=arg", _CALLBACK),
    _call("xenoprof_op", "op=op arg=arg", _XENOPROF),
    _call("event_channel_op", "cmd=op arg=arg", _EVENT_CHANNEL),
    _call("physdev_op", "cmd=op arg=arg", _PHYSDEV),
    _call("hvm_op", "op=op arg=arg", _HVM),
    _call("sysctl", "u_sysctl=buf", domu="EPERM"),
    _call("domctl", "u_domctl=buf", domu="EPERM"),
    _call("kexec_op", "op=uint uarg=buf", domu="EPERM"),
    _call("tmem_op", "uops=buf", domu="ENOSYS"),
    _call("argo_op", "cmd=uint arg1=buf arg2=buf arg3=flags arg4=flags", domu="ENOSYS"),
    _call("xenpmu_op", "op=uint arg=buf", domu="EOPNOTSUPP"),
    _call("dm_op", "domid=domid nr_bufs=count bufs=buf"),
    _call("hypfs_op", "cmd=uint arg1=buf arg2=uint arg3=buf arg4=uint", domu="EPERM"),
    # On x86: machine checks (mca), and the continuation of a paging domctl.
    _call("arch_0", "u_xen_mc=buf", domu="EPERM"),
    _call("arch_1", "u_domctl=buf"),
    *(_call(f"arch_{slot}", domu="ENOSYS") for slot in range(2, 8)),
)

BY_NUMBER: dict[int, Hypercall] = by_number(HYPERCALLS)
BY_NAME: dict[str, Hypercall] = by_name(HYPERCALLS)
