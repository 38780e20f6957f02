"""HYPERVISOR_event_channel_op: the cold operations; send and unmask are served in C.

Source: event_channel.h. The rules are hv.core.event_channel's.
"""

from hv.abi import event_channel as abi
from hv.abi.xen import DOMID_SELF
from hv.hypercalls.registry import Call, operation


@operation("event_channel_op", "EVTCHNOP_alloc_unbound")
def alloc_unbound(call: Call, argument: abi.evtchn_alloc_unbound) -> int:
    refusal = call.domain.about(argument.dom)
    if refusal:
        return refusal
    remote = call.guest.domid if argument.remote_dom == DOMID_SELF else argument.remote_dom
    result = call.domain.events.alloc_unbound(remote)
    argument.port = max(result, 0)
    return min(result, 0)


@operation("event_channel_op", "EVTCHNOP_bind_interdomain")
def bind_interdomain(call: Call, argument: abi.evtchn_bind_interdomain) -> int:
    remote = call.guest.domid if argument.remote_dom == DOMID_SELF else argument.remote_dom
    result = call.domain.events.bind_interdomain(remote, argument.remote_port)
    argument.local_port = max(result, 0)
    return min(result, 0)


@operation("event_channel_op", "EVTCHNOP_bind_virq")
def bind_virq(call: Call, argument: abi.evtchn_bind_virq) -> int:
    result = call.domain.events.bind_virq(argument.virq, argument.vcpu)
    argument.port = max(result, 0)
    return min(result, 0)


@operation("event_channel_op", "EVTCHNOP_bind_ipi")
def bind_ipi(call: Call, argument: abi.evtchn_bind_ipi) -> int:
    result = call.domain.events.bind_ipi(argument.vcpu)
    argument.port = max(result, 0)
    return min(result, 0)


@operation("event_channel_op", "EVTCHNOP_bind_vcpu")
def bind_vcpu(call: Call, argument: abi.evtchn_bind_vcpu) -> int:
    return call.domain.events.bind_vcpu(argument.port, argument.vcpu)


@operation("event_channel_op", "EVTCHNOP_close")
def close(call: Call, argument: abi.evtchn_close) -> int:
    return call.domain.events.close(argument.port)


@operation("event_channel_op", "EVTCHNOP_status")
def status(call: Call, argument: abi.evtchn_status) -> int:
    return call.domain.about(argument.dom) or call.domain.events.status(argument)
