# broken-unmask: an event is lost, because the port is unmasked too late and nobody looks again.
#
# The twin of `race`. While a port is masked, an event becomes pending and causes no upcall. This guest then clears the
# mask bit and goes on as if nothing had happened: Xen does not watch that bit, so nothing tells it that an event waits.
# And no later event helps: the port is pending already, and a pending port sends nothing further. It is dead for good.
# `hv run broken-unmask --events` shows it: pending, not masked, and the later events merged.
#
# Title: The mask bit is cleared and pending is not looked at: the port is dead
# Exit: 6
# Output:
#   the IPI works: events 1
#   masked, sent, unmasked: events 1
#   sent again, three times: events 1
#   pending: yes
#   masked: NO

        .include "guest.inc"
        guest   "broken-unmask"
        use_shared_info
        use_events on_event

        .macro  send
        hypercall event_channel_op, $EVTCHNOP_send, $port
        .endm

        .macro  print_events text
        print   "\text: events "
        print_dec events
        println
        .endm

main:
        call    map_shared_info
        hypercall set_callbacks, $event, $0, $0
        hypercall event_channel_op, $EVTCHNOP_bind_ipi, $ipi
        hypercall event_channel_op, $EVTCHNOP_unmask, $port
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        mov     port, %ebx
        send
        print_events "the IPI works"
        lock bts %rbx, shared_info + shared_info_evtchn_mask
        send
        lock btr %rbx, shared_info + shared_info_evtchn_mask    # the mistake: and no look at pending behind it
        print_events "masked, sent, unmasked"
        send
        send
        send
        print_events "sent again, three times"
        print   "pending: "
        bt      %rbx, shared_info + shared_info_evtchn_pending
        print_if c
        print   "masked: "
        bt      %rbx, shared_info + shared_info_evtchn_mask
        print_if c
        call    drain_console
        shut_down SHUTDOWN_crash
        ud2

        entry   event, on_upcall
on_upcall:
        call    scan_events
        ret

on_event:
        incq    events
        ret

        .data
        .balign 8
events: .quad   0
ipi:    .long   0                               # struct evtchn_bind_ipi: vcpu, port
port:   .long   0
