# broken-callback: events without an event callback.
#
# A guest starts with its events masked. This one makes an event channel to itself, sends to it, and unmasks its events
# without having told Xen where to deliver them (set_callbacks or callback_op). The next return to the guest should be the
# upcall; there is nowhere to go, so Xen destroys the domain. See `poll` and `timer` for how it is done.
#
# Title: Events unmasked before there is an event callback
# Exit: 6
# Output:
#   event channel for vCPU 0: 0
#   sent: 0
#   Unmasking.

        .include "guest.inc"
        guest   "broken-callback"
        use_shared_info

main:
        call    map_shared_info                 # all ports are masked
        hypercall event_channel_op, $EVTCHNOP_bind_ipi, $ipi
        print   "event channel for vCPU 0: "
        print_dec %rax
        println
        mov     ipi + evtchn_bind_ipi_port, %ebx
        lock btr %rbx, shared_info + shared_info_evtchn_mask
        mov     %ebx, send
        hypercall event_channel_op, $EVTCHNOP_send, $send
        print   "sent: "
        print_dec %rax
        println
        println "Unmasking."
        call    drain_console
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        hypercall sched_op, $SCHEDOP_yield
        println "Not reached."
        ret

        .data
        .balign 4
ipi:    .long   0, 0                            # struct evtchn_bind_ipi: vcpu, port
send:   .long   0                               # struct evtchn_send
