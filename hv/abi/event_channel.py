"""Event channels: operations, states, the FIFO layout. Follows public/event_channel.h."""

import ctypes
from ctypes import Array

from hv.abi.layout import Annotated, layout, u8, u32, u64
from hv.abi.xen import domid_t

evtchn_port_t = u32

EVTCHNOP_bind_interdomain = 0
EVTCHNOP_bind_virq = 1
EVTCHNOP_bind_pirq = 2
EVTCHNOP_close = 3
EVTCHNOP_send = 4
EVTCHNOP_status = 5
EVTCHNOP_alloc_unbound = 6
EVTCHNOP_bind_ipi = 7
EVTCHNOP_bind_vcpu = 8
EVTCHNOP_unmask = 9
EVTCHNOP_reset = 10
EVTCHNOP_init_control = 11
EVTCHNOP_expand_array = 12
EVTCHNOP_set_priority = 13

BIND_PIRQ__WILL_SHARE = 1

EVTCHNSTAT_closed = 0
EVTCHNSTAT_unbound = 1
EVTCHNSTAT_interdomain = 2
EVTCHNSTAT_pirq = 3
EVTCHNSTAT_virq = 4
EVTCHNSTAT_ipi = 5

EVTCHN_2L_NR_CHANNELS = 8 * 8 * 64

EVTCHN_FIFO_PRIORITY_MAX = 0
EVTCHN_FIFO_PRIORITY_DEFAULT = 7
EVTCHN_FIFO_PRIORITY_MIN = 15
EVTCHN_FIFO_MAX_QUEUES = EVTCHN_FIFO_PRIORITY_MIN + 1
EVTCHN_FIFO_PENDING = 31
EVTCHN_FIFO_MASKED = 30
EVTCHN_FIFO_LINKED = 29
EVTCHN_FIFO_BUSY = 28
EVTCHN_FIFO_LINK_BITS = 17
EVTCHN_FIFO_LINK_MASK = (1 << EVTCHN_FIFO_LINK_BITS) - 1
EVTCHN_FIFO_NR_CHANNELS = 1 << EVTCHN_FIFO_LINK_BITS


@layout
class evtchn_alloc_unbound(ctypes.Structure):
    """New port of `dom` to which `remote_dom` may bind."""

    dom: domid_t
    remote_dom: domid_t
    port: evtchn_port_t


@layout
class evtchn_bind_interdomain(ctypes.Structure):
    """New local port, connected to an unbound port of another domain."""

    remote_dom: domid_t
    remote_port: evtchn_port_t
    local_port: evtchn_port_t


@layout
class evtchn_bind_virq(ctypes.Structure):
    """New port for a virtual interrupt."""

    virq: u32
    vcpu: u32
    port: evtchn_port_t


@layout
class evtchn_bind_pirq(ctypes.Structure):
    """New port for a physical interrupt."""

    pirq: u32
    flags: u32
    port: evtchn_port_t


@layout
class evtchn_bind_ipi(ctypes.Structure):
    """New port for interrupts between vCPUs."""

    vcpu: u32
    port: evtchn_port_t


@layout
class evtchn_close(ctypes.Structure):
    """Port to close."""

    port: evtchn_port_t


@layout
class evtchn_send(ctypes.Structure):
    """Port to notify the other end of."""

    port: evtchn_port_t


@layout
class evtchn_status(ctypes.Structure):
    """What a port is bound to; `status` is EVTCHNSTAT_*."""

    @layout
    class u_t(ctypes.Union):
        @layout
        class unbound_t(ctypes.Structure):
            dom: domid_t

        @layout
        class interdomain_t(ctypes.Structure):
            dom: domid_t
            port: evtchn_port_t

        unbound: unbound_t
        interdomain: interdomain_t
        pirq: u32
        virq: u32

    dom: domid_t
    port: evtchn_port_t
    status: u32
    vcpu: u32
    u: u_t


@layout
class evtchn_bind_vcpu(ctypes.Structure):
    """vCPU that a port shall notify from now on."""

    port: evtchn_port_t
    vcpu: u32


@layout
class evtchn_unmask(ctypes.Structure):
    """Port to unmask, and to deliver if it is pending."""

    port: evtchn_port_t


@layout
class evtchn_reset(ctypes.Structure):
    """Domain whose ports are all closed."""

    dom: domid_t


@layout
class evtchn_init_control(ctypes.Structure):
    """FIFO control block of a vCPU."""

    control_gfn: u64
    offset: u32
    vcpu: u32
    link_bits: u8
    _pad: Annotated[Array[ctypes.c_uint8], 7]


@layout
class evtchn_expand_array(ctypes.Structure):
    """Next page of the FIFO event array."""

    array_gfn: u64


@layout
class evtchn_set_priority(ctypes.Structure):
    """FIFO queue of a port."""

    port: evtchn_port_t
    priority: u32


@layout
class evtchn_op(ctypes.Structure):
    """Argument of the old one-argument hypercall."""

    @layout
    class u_t(ctypes.Union):
        alloc_unbound: evtchn_alloc_unbound
        bind_interdomain: evtchn_bind_interdomain
        bind_virq: evtchn_bind_virq
        bind_pirq: evtchn_bind_pirq
        bind_ipi: evtchn_bind_ipi
        close: evtchn_close
        send: evtchn_send
        status: evtchn_status
        bind_vcpu: evtchn_bind_vcpu
        unmask: evtchn_unmask

    cmd: u32
    u: u_t


@layout
class evtchn_fifo_control_block(ctypes.Structure):
    """Queue heads of a vCPU, and which of them are not empty."""

    ready: u32
    _rsvd: u32
    head: Annotated[Array[ctypes.c_uint32], EVTCHN_FIFO_MAX_QUEUES]
