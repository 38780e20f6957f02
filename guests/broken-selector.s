# broken-selector: the selector is cleared before it is read, and with it goes what it said.
#
# The selector tells which of the 64 words of pending bits are worth a look. It has to be read and cleared in one step
# (xchg), as `scan_events` in guest.inc does. This guest's handler clears it first. It then finds no word to look at, and
# returns. The event stays pending for ever; and as a pending port sends nothing further, that was its last upcall.
#
# Title: The handler clears the selector before it reads it: events are never found
# Exit: 6
# Output:
#   sent the IPI: upcalls 1, events found 0
#   sent it again: upcalls 1, events found 0
#   pending: yes

        .include "guest.inc"
        guest   "broken-selector"
        use_shared_info

        .macro  send_and_print text
        hypercall event_channel_op, $EVTCHNOP_send, $port
        print   "\text: upcalls "
        print_dec upcalls
        print   ", events found "
        print_dec events
        println
        .endm

main:
        call    map_shared_info
        hypercall set_callbacks, $event, $0, $0
        hypercall event_channel_op, $EVTCHNOP_bind_ipi, $ipi
        hypercall event_channel_op, $EVTCHNOP_unmask, $port
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        send_and_print "sent the IPI"
        send_and_print "sent it again"
        print   "pending: "
        mov     port, %eax
        bt      %rax, shared_info + shared_info_evtchn_pending
        print_if c
        call    drain_console
        shut_down SHUTDOWN_crash
        ud2

        entry   event, on_upcall
on_upcall:
        incq    upcalls
        movb    $0, shared_info + vcpu_info_evtchn_upcall_pending
        movq    $0, shared_info + vcpu_info_evtchn_pending_sel          # the mistake
        mov     shared_info + vcpu_info_evtchn_pending_sel, %rbx
1:      bsf     %rbx, %rbp
        jz      3f
        btr     %rbp, %rbx
2:      bsf     shared_info + shared_info_evtchn_pending(, %rbp, 8), %rax
        jz      1b
        lock btr %rax, shared_info + shared_info_evtchn_pending(, %rbp, 8)
        incq    events
        jmp     2b
3:      ret

        .data
        .balign 8
upcalls:
        .quad   0
events: .quad   0
ipi:    .long   0                               # struct evtchn_bind_ipi: vcpu, port
port:   .long   0
