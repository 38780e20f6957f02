"""What the engine's C functions serve (hv/engine/hypercall.pyx); sub-operations not named here come to Python."""

from hv.hypercalls.registry import served_in_c

for _name in (
    "mmu_update",
    "stack_switch",
    "fpu_taskswitch",
    "sched_op_compat",
    "set_debugreg",
    "get_debugreg",
    "multicall",
    "update_va_mapping",
    "update_va_mapping_otherdomain",
    "set_timer_op",
    "event_channel_op_compat",
    "physdev_op_compat",
    "iret",
    "set_segment_base",
    "mmuext_op",
):
    served_in_c(_name)
served_in_c("xen_version", "XENVER_version", "XENVER_pagesize")
served_in_c("sched_op", "SCHEDOP_yield", "SCHEDOP_block", "SCHEDOP_poll")
served_in_c(
    "grant_table_op",
    "GNTTABOP_map_grant_ref",
    "GNTTABOP_unmap_grant_ref",
    "GNTTABOP_unmap_and_replace",
    "GNTTABOP_transfer",
    "GNTTABOP_copy",
    "GNTTABOP_swap_grant_ref",
    "GNTTABOP_cache_flush",
)
served_in_c("event_channel_op", "EVTCHNOP_send", "EVTCHNOP_unmask")
served_in_c(
    "vcpu_op",
    "VCPUOP_is_up",
    "VCPUOP_get_runstate_info",
    "VCPUOP_set_periodic_timer",
    "VCPUOP_stop_periodic_timer",
    "VCPUOP_set_singleshot_timer",
    "VCPUOP_stop_singleshot_timer",
    "VCPUOP_send_nmi",
)
