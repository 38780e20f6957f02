# broken-upcall: a handler that goes back without iret gets no second event.
#
# Xen sets evtchn_upcall_mask when it calls the guest at its event callback, lest upcalls pile up on the stack. The iret
# hypercall sets it back to what it was, in the same step in which it returns. This handler restores the registers and
# jumps back by itself: it returns to the right place, everything seems to work, and the vCPU is deaf from then on.
#
# Title: The event handler returns without iret: events stay masked
# Exit: 6
# Output:
#   sent the IPI: upcalls 1
#   sent it again: upcalls 1
#   an upcall is pending: yes
#   upcalls are masked: yes

        .include "guest.inc"
        guest   "broken-upcall"
        use_shared_info

        .macro  send_and_print text
        hypercall event_channel_op, $EVTCHNOP_send, $port
        print   "\text: upcalls "
        print_dec upcalls
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
        print   "an upcall is pending: "
        cmpb    $0, shared_info + vcpu_info_evtchn_upcall_pending
        print_if ne
        print   "upcalls are masked: "
        cmpb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        print_if ne
        call    drain_console
        shut_down SHUTDOWN_crash
        ud2

        .globl  event
event:                                          # on the stack: rcx, r11, rip, cs, rflags, rsp, ss
        push    %rax
        incq    upcalls
        movb    $0, shared_info + vcpu_info_evtchn_upcall_pending
        movq    $0, shared_info + vcpu_info_evtchn_pending_sel
        mov     port, %eax
        lock btr %rax, shared_info + shared_info_evtchn_pending
        pop     %rax
        pop     %rcx
        pop     %r11
        push    16(%rsp)                        # the mistake: rflags, rip and rsp are all restored here, the mask is not
        popfq
        mov     (%rsp), %rcx                    # rcx may change: what was interrupted is a hypercall
        mov     24(%rsp), %rsp
        jmp     *%rcx

        .data
        .balign 8
upcalls:
        .quad   0
ipi:    .long   0                               # struct evtchn_bind_ipi: vcpu, port
port:   .long   0
