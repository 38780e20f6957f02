"""Operations on HVM domains, as far as a PV domain may name them.

Follows public/hvm/hvm_op.h. Follows public/hvm/params.h for the number of parameters. Follows public/trace.h for what
a trace record may be.
"""

import ctypes
from ctypes import Array

from hv.abi.layout import Annotated, layout, u8, u16, u32, u64
from hv.abi.xen import domid_t

HVMOP_set_param = 0
HVMOP_get_param = 1
HVMOP_flush_tlbs = 5
HVMOP_pagetable_dying = 9
HVMOP_get_time = 10
HVMOP_xentrace = 11
HVMOP_get_mem_type = 15
HVMOP_set_evtchn_upcall_vector = 23
HVMOP_guest_request_vm_event = 24
HVMOP_altp2m = 25

HVM_NR_PARAMS = 39
TRC_SUBCLS_SHIFT = 12
TRACE_EXTRA_MAX = 7


@layout
class xen_hvm_param(ctypes.Structure):
    """A parameter of an HVM domain."""

    domid: domid_t
    pad: u16
    index: u32
    value: u64


@layout
class xen_hvm_pagetable_dying(ctypes.Structure):
    """A hint for shadow paging."""

    domid: domid_t
    pad: Annotated[Array[ctypes.c_uint16], 3]
    gpa: u64


@layout
class xen_hvm_get_time(ctypes.Structure):
    """System time in ns."""

    now: u64


@layout
class xen_hvm_xentrace(ctypes.Structure):
    """A record for Xen's trace buffers."""

    event: u16
    extra_bytes: u16
    extra: Annotated[Array[ctypes.c_uint8], TRACE_EXTRA_MAX * 4]


@layout
class xen_hvm_get_mem_type(ctypes.Structure):
    """The type of a guest frame."""

    domid: domid_t
    mem_type: u16
    pad: Annotated[Array[ctypes.c_uint16], 2]
    pfn: u64


@layout
class xen_hvm_evtchn_upcall_vector(ctypes.Structure):
    """The interrupt vector of a vCPU's upcalls."""

    vcpu: u32
    vector: u8
