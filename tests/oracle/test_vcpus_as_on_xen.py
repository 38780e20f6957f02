"""The fine print of vCPUs and timers: one guest, the same lines from hv and from real Xen."""

from __future__ import annotations

from guest_kit import assemble

import hv
from hv.testing import xen_in_qemu

VCPUS = 3
ASKING = """
        use_shared_info
        .set    MS, 1000000

# ask TEXT, CALL...: the result of a hypercall.
        .macro  ask text, call, a1, a2, a3
        print   "\\text: "
        hypercall \\call, \\a1, \\a2, \\a3
        print_dec %rax
        println
        .endm

        .macro  state_of vcpu                           # its run state, and whether it is up
        hypercall vcpu_op, $VCPUOP_get_runstate_info, $\\vcpu, $info
        print   "  vCPU \\vcpu: state "
        movslq  info + vcpu_runstate_info_state, %rax
        print_dec %rax
        print   ", up "
        hypercall vcpu_op, $VCPUOP_is_up, $\\vcpu
        print_dec %rax
        println
        .endm

        .macro  timer_event                             # has VIRQ_TIMER come? takes it
        mov     timer + evtchn_bind_virq_port, %eax
        lock btr %rax, shared_info + shared_info_evtchn_pending
        print_if c
        .endm

        .macro  no_timer_event
        mov     timer + evtchn_bind_virq_port, %eax
        bt      %rax, shared_info + shared_info_evtchn_pending
        print_if nc
        .endm

        .macro  now register, ms=0
        call    system_time
        add     $\\ms * MS, %rax
        mov     %rax, \\register
        .endm

        .macro  passed since, least, most               # ms, since that time in a register
        call    system_time
        sub     \\since, %rax
        sub     $\\least * MS, %rax
        cmp     $(\\most - \\least) * MS, %rax
        print_if b
        .endm

        .macro  poll ports, timeout
        movq    $timer + evtchn_bind_virq_port, poll + sched_poll_ports
        movl    $\\ports, poll + sched_poll_nr_ports
        mov     \\timeout, %rax
        mov     %rax, poll + sched_poll_timeout
        hypercall sched_op, $SCHEDOP_poll, $poll
        .endm

        .macro  let_others_run
        now     %r15, 20
        poll    0, %r15
        .endm

main:   call    map_shared_info
        hypercall event_channel_op, $EVTCHNOP_bind_virq, $timer
        hypercall event_channel_op, $EVTCHNOP_bind_ipi, $ipi
        same_page_table context

        now     %r12, 300
        poll    1, %r12
        print   "a singleshot in the past comes at once: "
        movq    $1, single
        hypercall vcpu_op, $VCPUOP_set_singleshot_timer, $0, $single
        timer_event
        print   "one that is negative too: "
        movq    $-1, single
        hypercall vcpu_op, $VCPUOP_set_singleshot_timer, $0, $single
        timer_event
        print   "set_timer_op in the past: "
        hypercall set_timer_op, $1
        timer_event

        print   "the periodic timer is there, and set anew it goes on from its last event: "
        hypercall vcpu_op, $VCPUOP_set_periodic_timer, $0, $period
        no_timer_event
        now     %r12, 250
        now     %r13
        poll    1, %r12
        print   "it does not wake: "
        passed  %r13, 240, 600
        print   "but has an event afterwards: "
        timer_event
        hypercall vcpu_op, $VCPUOP_stop_periodic_timer, $0

        now     %r13
        now     %r12, 200
        now     %r14, 60
        hypercall set_timer_op, %r14
        poll    1, %r12
        print   "an event ends a poll: "
        passed  %r13, 55, 150
        timer_event
        poll    0, $0
        print   "its timeout ends the next one: "
        passed  %r13, 195, 400

        ask     "two watchdogs", sched_op, $SCHEDOP_watchdog, $watchdog
        ask     "two watchdogs", sched_op, $SCHEDOP_watchdog, $watchdog
        ask     "a third", sched_op, $SCHEDOP_watchdog, $watchdog
        movl    $2, watchdog + sched_watchdog_id
        movl    $0, watchdog + sched_watchdog_timeout
        ask     "stop it", sched_op, $SCHEDOP_watchdog, $watchdog
        ask     "again", sched_op, $SCHEDOP_watchdog, $watchdog
        movl    $3, watchdog + sched_watchdog_id
        ask     "number 3", sched_op, $SCHEDOP_watchdog, $watchdog
        movl    $1, watchdog + sched_watchdog_id
        ask     "stop the other", sched_op, $SCHEDOP_watchdog, $watchdog

        println "before:"
        state_of 0
        state_of 1
        ask     "timer of another", vcpu_op, $VCPUOP_stop_singleshot_timer, $1
        ask     "up before initialise", vcpu_op, $VCPUOP_up, $1
        ask     "initialise", vcpu_op, $VCPUOP_initialise, $1, $context
        ask     "initialise twice", vcpu_op, $VCPUOP_initialise, $1, $context
        ask     "down", vcpu_op, $VCPUOP_down, $1
        ask     "up", vcpu_op, $VCPUOP_up, $1
        let_others_run
        println "it polls:"
        state_of 1
        ask     "down", vcpu_op, $VCPUOP_down, $1
        state_of 1
        ask     "up", vcpu_op, $VCPUOP_up, $1
        state_of 1
        ask     "down", vcpu_op, $VCPUOP_down, $1
        ask     "an event while it is down", event_channel_op, $EVTCHNOP_send, $ipi + evtchn_bind_ipi_port
        state_of 1
        ask     "up", vcpu_op, $VCPUOP_up, $1
        let_others_run
        print   "it ran: "
        cmpq    $1, ran
        print_if e
        state_of 1

        orq     $VGCF_online, context + vcpu_guest_context_flags
        ask     "initialise as online", vcpu_op, $VCPUOP_initialise, $2, $context
        state_of 2
        ask     "up", vcpu_op, $VCPUOP_up, $2
        let_others_run
        state_of 2

        println "areas:"
        ask     "a run state area of hv's", vcpu_op, $VCPUOP_register_runstate_memory_area, $0, $hypervisors
        ask     "not mapped", vcpu_op, $VCPUOP_register_runstate_memory_area, $0, $nowhere
        ask     "of another", vcpu_op, $VCPUOP_register_runstate_memory_area, $1, $here
        movslq  area + vcpu_runstate_info_state, %rax
        print_dec %rax
        println
        ask     "a time area of hv's", vcpu_op, $VCPUOP_register_vcpu_time_memory_area, $0, $hypervisors
        ask     "not mapped", vcpu_op, $VCPUOP_register_vcpu_time_memory_area, $0, $nowhere
        ask     "here", vcpu_op, $VCPUOP_register_vcpu_time_memory_area, $0, $here
        print   "the same scale: "
        mov     area + vcpu_time_info_tsc_to_system_mul, %eax
        cmp     shared_info + vcpu_info_time_tsc_to_system_mul, %eax
        print_if e
        ask     "get_runstate_info into nothing", vcpu_op, $VCPUOP_get_runstate_info, $0, $0
        ret

second: hypercall sched_op, $SCHEDOP_poll, $ever                # vCPU 1 and vCPU 2
        incq    ran
1:      hypercall sched_op, $SCHEDOP_poll, $ever_again
        jmp     1b

        .data
        .balign 8
timer:  .long   VIRQ_TIMER, 0, 0
        .balign 8
ipi:    .long   1, 0
single: .quad   0, 0
period: .quad   100 * MS
poll:   .quad   0
        .long   0, 0
        .quad   0
ever:   .quad   ipi + evtchn_bind_ipi_port
        .long   1, 0
        .quad   0
ever_again:
        .quad   never_bound
        .long   1, 0
        .quad   0
never_bound:
        .long   50
watchdog:
        .long   0, 1000
        .balign 8
ran:    .quad   0
hypervisors:
        .quad   0xffff830000000000
nowhere:
        .quad   0x600000000000
here:   .quad   area
context:
        vcpu_context second, 0
        .bss
        .balign 8
info:   .skip   sizeof_vcpu_runstate_info
area:   .skip   64
"""


def test_vcpus_and_timers_as_on_real_xen() -> None:
    image = assemble(ASKING, "asking")
    with hv.Machine() as machine:
        domain = machine.create(image, vcpus=VCPUS)
        machine.run(timeout=30)
        here = domain.console.output.decode().splitlines()
    there = xen_in_qemu.run(image, vcpus=VCPUS)
    assert here == there.output.splitlines(), there.xen
    assert "NO" not in here
    assert (domain.exit_code, there.exit_code) == (0, 0)
