# poll: two ways to wait for an event, with two kinds of port.
#
# An event channel's end is a port. This guest has an IPI port, which a vCPU sends to itself or another (bind_ipi), and
# an interdomain channel whose both ends are its own (alloc_unbound for DOMID_SELF, then bind_interdomain): what is sent
# on one end arrives at the other. A masked port still gets pending, but causes no upcall: SCHEDOP_poll waits for that,
# with a timeout. Unmasking a pending port (EVTCHNOP_unmask) delivers it by upcall after all.
#
# A new interdomain port starts out pending, lest an event was sent before it was bound: the first poll returns at once.
#
# Title: SCHEDOP_poll and upcalls, with an IPI port and a loopback channel
# Exit: 0
# Output:
#   a new interdomain port is pending: yes
#   poll returns at once: yes
#   nothing pending: poll returned 0 after 2 ms
#   sent on the far end: the near end is pending: yes
#   poll returns at once: yes
#   sent the IPI twice while masked: upcalls 0
#   unmasked: upcalls 1, from the IPI port: yes
#   sent the IPI unmasked: upcalls 2
#   sent with events masked: upcalls 2
#   events unmasked, then any hypercall: upcalls 3
#   closed: sending gives -22

        .include "guest.inc"
        guest   "poll"
        use_shared_info
        use_events on_event

        .set    TIMEOUT, 2000000                # ns

        .macro  send port
        hypercall event_channel_op, $EVTCHNOP_send, $\port
        .endm

# Is PORT pending? The carry flag says so.
        .macro  test_pending port
        mov     \port, %eax
        bt      %rax, shared_info + shared_info_evtchn_pending
        .endm

        .macro  clear_pending port
        mov     \port, %eax
        lock btr %rax, shared_info + shared_info_evtchn_pending
        .endm

        .macro  print_upcalls text
        print   "\text: upcalls "
        print_dec upcalls
        .endm

main:
        call    map_shared_info
        hypercall set_callbacks, $event, $0, $0         # the older call for callback_op
        hypercall event_channel_op, $EVTCHNOP_bind_ipi, $ipi
        hypercall event_channel_op, $EVTCHNOP_alloc_unbound, $unbound
        mov     unbound + evtchn_alloc_unbound_port, %eax
        mov     %eax, loopback + evtchn_bind_interdomain_remote_port
        hypercall event_channel_op, $EVTCHNOP_bind_interdomain, $loopback
        .set    near, loopback + evtchn_bind_interdomain_local_port
        .set    far, unbound + evtchn_alloc_unbound_port
        .set    ipi_port, ipi + evtchn_bind_ipi_port

        # Polling: all ports are masked.
        print   "a new interdomain port is pending: "
        test_pending near
        print_if c
        call    poll_at_once
        clear_pending near
        call    timed_poll
        print   "nothing pending: poll returned "
        print_dec %rax
        print   " after "
        mov     %rdx, %rax
        add     $500000, %rax                   # round to ms
        xor     %edx, %edx
        mov     $1000000, %ecx
        div     %rcx
        print_dec %rax
        println " ms"
        send    far
        print   "sent on the far end: the near end is pending: "
        test_pending near
        print_if c
        call    poll_at_once
        clear_pending near

        # Upcalls: of the IPI port.
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        send    ipi_port
        send    ipi_port
        print_upcalls "sent the IPI twice while masked"
        println
        hypercall event_channel_op, $EVTCHNOP_unmask, $ipi_port
        print_upcalls "unmasked"
        print   ", from the IPI port: "
        mov     last_port, %eax
        cmp     ipi_port, %eax
        print_if e
        send    ipi_port
        print_upcalls "sent the IPI unmasked"
        println

        # The vCPU's own mask holds all upcalls back.
        movb    $1, shared_info + vcpu_info_evtchn_upcall_mask
        send    ipi_port
        print_upcalls "sent with events masked"
        println
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        hypercall xen_version, $XENVER_version          # Xen looks at the mask on the way back
        print_upcalls "events unmasked, then any hypercall"
        println
        hypercall event_channel_op, $EVTCHNOP_close, $ipi_port
        send    ipi_port
        print   "closed: sending gives "
        print_dec %rax
        println
        ret

# Poll the near end, which should not wait.
poll_at_once:
        call    timed_poll
        print   "poll returns at once: "
        cmp     $TIMEOUT / 2, %rdx
        print_if b
        ret

# Poll the near end for TIMEOUT: %rax is the result, %rdx how long it took in ns.
timed_poll:
        call    system_time
        mov     %rax, %rbx
        add     $TIMEOUT, %rax
        mov     %rax, poll + sched_poll_timeout
        hypercall sched_op, $SCHEDOP_poll, $poll
        mov     %rax, %rbp
        call    system_time
        sub     %rbx, %rax
        mov     %rax, %rdx
        mov     %rbp, %rax
        ret

        entry   event, on_upcall
on_upcall:
        call    scan_events
        ret

on_event:                                       # rdi: port
        incq    upcalls
        mov     %edi, last_port
        ret

        .data
        .balign 8
poll:                                           # struct sched_poll: ports, how many, timeout
        .quad   near
        .long   1, 0
        .quad   0
ipi:                                            # struct evtchn_bind_ipi: vcpu, and the port that Xen chose
        .long   0, 0
unbound:                                        # struct evtchn_alloc_unbound: for whom, by whom, port
        .word   DOMID_SELF, DOMID_SELF
        .long   0
loopback:                                       # struct evtchn_bind_interdomain: whose, which port, and our new port
        .word   DOMID_SELF, 0
        .long   0, 0

        .bss
        .balign 8
upcalls:
        .skip   8
last_port:
        .skip   4
