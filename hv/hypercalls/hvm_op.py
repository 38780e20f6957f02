"""HYPERVISOR_hvm_op as a PV domain sees it: most of it is refused, the rest is harmless.

Source: hvm/hvm_op.h; Xen 4.17 arch/x86/hvm/hvm.c (do_hvm_op).
"""

import ctypes

from hv.abi import hvm_op as abi
from hv.abi.errno import XEN_EINVAL, XEN_EOPNOTSUPP, XEN_ESRCH
from hv.hypercalls.domains import exists
from hv.hypercalls.registry import Call, operation


@operation("hvm_op", "HVMOP_set_param")
@operation("hvm_op", "HVMOP_get_param")
def param(call: Call, argument: abi.xen_hvm_param) -> int:
    """No domain here is HVM."""
    return -XEN_EINVAL if argument.index >= abi.HVM_NR_PARAMS or exists(call, argument.domid) else -XEN_ESRCH


@operation("hvm_op", "HVMOP_get_mem_type")
def get_mem_type(call: Call, argument: abi.xen_hvm_get_mem_type) -> int:
    return call.domain.about(argument.domid) or -XEN_EINVAL


@operation("hvm_op", "HVMOP_pagetable_dying")
def pagetable_dying(call: Call, argument: abi.xen_hvm_pagetable_dying) -> int:
    about = call.domain.about(argument.domid)
    return about if about == -XEN_ESRCH else -XEN_EOPNOTSUPP if about else -XEN_EINVAL


@operation("hvm_op", "HVMOP_get_time")
def get_time(call: Call, argument: abi.xen_hvm_get_time) -> int:
    argument.now = call.domain.engine.now_ns
    return 0


@operation("hvm_op", "HVMOP_xentrace")
def xentrace(call: Call, argument: abi.xen_hvm_xentrace) -> int:
    """A record for trace buffers that nobody reads."""
    bad = argument.extra_bytes > ctypes.sizeof(argument.extra) or argument.event >> abi.TRC_SUBCLS_SHIFT
    return -XEN_EINVAL if bad else 0


@operation("hvm_op", "HVMOP_guest_request_vm_event", raw=True)
def guest_request_vm_event(call: Call, address: int) -> int:
    """Nobody monitors the domain."""
    return -XEN_EINVAL if address else 0
