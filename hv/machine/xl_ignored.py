"""The settings of xl.cfg that have no effect here, each with the reason that a user is told.

Every name that xl 4.17 reads is here or a row of hv.machine.xl_domain. Source: xl.cfg(5); tools/xl/xl_parse.c.
"""

from __future__ import annotations

_REASONS = {
    "there is one processor": "cpus cpus_soft",
    "there is one pool": "pool",
    "hv's scheduler takes weights and caps only": "period slice latency extratime",
    "the clock is in UTC, and a run's own": "localtime rtc_timeoffset",
    "the TSC is the machine's clock": "tsc_mode",
    "memory begins at 0, and has no nodes": "e820_host vnuma",
    "there are no labels": "seclabel init_seclabel device_model_stubdomain_seclabel",
    "there is no screen": "vfb vkb vdispl vnc vnclisten vncpasswd vncdisplay vncunused vncviewer sdl opengl nographic "
    "display xauthority keymap",
    "no device of the host is passed through": "pci pci_msitranslate pci_permissive pci_power_mgmt pci_seize "
    "passthrough gfx_passthru ioports iomem irqs dtdev rdm rdm_mem_boundary usbctrl usbdev usbdevice usb usbversion",
    "hv has no backend of that kind": "vtpm p9 pvcalls vsnd vif2 serial soundhw virtio",
    "what CPUID says is fixed": "cpuid mca_caps vpmu msr_relaxed vmtrace_buf_kb",
    "domains are not moved": "nomigrate xend_suspend_evtchn_compat driver_domain",
    "there is no boot loader": "bootloader_args boot",
    "only guests of other types than PV have it": "acpi acpi_firmware acpi_laptop_slate acpi_s3 acpi_s4 altp2m "
    "altp2mhvm apic bios bios_path_override device_model device_model_args device_model_args_hvm device_model_args_pv "
    "device_model_override device_model_stubdomain_override device_model_user device_model_version device_tree "
    "dm_restrict firmware firmware_override gic_version hap hdtype hpet hvm_firmware mmio_hole ms_vm_genid nestedhvm "
    "nx oos pae pvshim pvshim_cmdline pvshim_extra pvshim_path shadow_memory smbios_firmware spice "
    "spice_clipboard_sharing spice_image_compression spice_streaming_video spiceagent_mouse spicedisable_ticketing "
    "spicehost spicepasswd spiceport spicetls_port spiceusbredirection spicevdagent stdvga stubdomain_cmdline "
    "stubdomain_kernel stubdomain_memory stubdomain_ramdisk tee timer_mode vendor_device vga videoram viridian "
    "vkb_device vpt_align vuart xen_platform_pci",
}
NO_EFFECT = {name: reason for reason, names in _REASONS.items() for name in names.split()}
