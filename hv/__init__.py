"""hv: a Xen-compatible micro-hypervisor for x86-64 PV guests."""
