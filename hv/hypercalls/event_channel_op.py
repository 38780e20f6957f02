"""HYPERVISOR_event_channel_op: the cold operations; send and unmask are served in C.

Source: event_channel.h. The rules are hv.core.event_channel's.
"""

from typing import Any

from hv.abi import event_channel as abi
from hv.hypercalls.registry import Call, operation, prologue

RESET_CONTINUED = 14  # not in the public header: how Xen goes on with a long reset; yet a guest may make the call


@prologue("event_channel_op")
def continued_reset(call: Call, cmd: int, arg: int) -> int:
    if cmd & 0xFFFFFFFF != RESET_CONTINUED:
        return 0
    return call.domain.events.continue_reset(call.read(arg, abi.evtchn_reset).dom)


def _port(argument: Any, field: str, result: int) -> int:
    """A new port goes into the argument; the result is 0 then."""
    setattr(argument, field, max(result, 0))
    return min(result, 0)


@operation("event_channel_op", "EVTCHNOP_alloc_unbound")
def alloc_unbound(call: Call, argument: abi.evtchn_alloc_unbound) -> int:
    return _port(argument, "port", call.domain.events.alloc_unbound(argument.remote_dom, argument.dom))


@operation("event_channel_op", "EVTCHNOP_bind_interdomain")
def bind_interdomain(call: Call, argument: abi.evtchn_bind_interdomain) -> int:
    result = call.domain.events.bind_interdomain(argument.remote_dom, argument.remote_port)
    return _port(argument, "local_port", result)


@operation("event_channel_op", "EVTCHNOP_bind_virq")
def bind_virq(call: Call, argument: abi.evtchn_bind_virq) -> int:
    return _port(argument, "port", call.domain.events.bind_virq(argument.virq, argument.vcpu))


@operation("event_channel_op", "EVTCHNOP_bind_pirq")
def bind_pirq(call: Call, argument: abi.evtchn_bind_pirq) -> int:
    return _port(argument, "port", call.domain.events.bind_pirq(argument.pirq))


@operation("event_channel_op", "EVTCHNOP_bind_ipi")
def bind_ipi(call: Call, argument: abi.evtchn_bind_ipi) -> int:
    return _port(argument, "port", call.domain.events.bind_ipi(argument.vcpu))


@operation("event_channel_op", "EVTCHNOP_bind_vcpu")
def bind_vcpu(call: Call, argument: abi.evtchn_bind_vcpu) -> int:
    return call.domain.events.bind_vcpu(argument.port, argument.vcpu)


@operation("event_channel_op", "EVTCHNOP_close")
def close(call: Call, argument: abi.evtchn_close) -> int:
    return call.domain.events.close(argument.port)


@operation("event_channel_op", "EVTCHNOP_status")
def status(call: Call, argument: abi.evtchn_status) -> int:
    return call.domain.events.status(argument)


@operation("event_channel_op", "EVTCHNOP_reset")
def reset(call: Call, argument: abi.evtchn_reset) -> int:
    return call.domain.events.reset(argument.dom)


@operation("event_channel_op", "EVTCHNOP_init_control")
def init_control(call: Call, argument: abi.evtchn_init_control) -> int:
    argument.link_bits = abi.EVTCHN_FIFO_LINK_BITS
    return call.guest.init_control(argument.vcpu, argument.control_gfn, argument.offset)


@operation("event_channel_op", "EVTCHNOP_expand_array")
def expand_array(call: Call, argument: abi.evtchn_expand_array) -> int:
    return call.guest.expand_array(argument.array_gfn)


@operation("event_channel_op", "EVTCHNOP_set_priority")
def set_priority(call: Call, argument: abi.evtchn_set_priority) -> int:
    return call.guest.set_priority(argument.port, argument.priority)
