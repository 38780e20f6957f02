# latency: how soon an event is noticed by who looks now and then, by who sleeps for it, and by who is called.
#
# A vCPU that has something else to do can look at the pending bit between two pieces of work; the event waits until then.
# It can sleep in SCHEDOP_poll: it is there in time, but does nothing else. Or it lets itself be interrupted: the upcall
# comes in the middle of the work, wherever that is, and the work goes on afterwards.
#
# The work is to wait until the next full 100 us; the timer goes off 250 us after the start.
#
# Title: Looking now and then, sleeping in SCHEDOP_poll, an upcall: when is an event noticed?
# Exit: 0
# Output:
#   looking: pieces of work done before it was noticed: 3, at least 45 us late: yes
#   sleeping: pieces of work done before it was noticed: 0, at least 45 us late: NO
#   upcall: pieces of work done before it was noticed: 2, at least 45 us late: NO

        .include "guest.inc"
        guest   "latency"
        use_shared_info
        use_events on_event

        .set    PIECE, 100000                   # ns
        .set    DEADLINE, 250000
        .set    LATE, 45000

main:
        call    map_shared_info
        hypercall callback_op, $CALLBACKOP_register, $event_callback
        hypercall vcpu_op, $VCPUOP_stop_periodic_timer, $0      # Xen's vCPUs start with one of 10 ms
        hypercall event_channel_op, $EVTCHNOP_bind_virq, $timer
        mov     port, %r12d

        call    start
1:      call    work
        lock btr %r12, shared_info + shared_info_evtchn_pending
        jnc     1b
        call    noticed
        print   "looking"
        call    result

        call    start
        hypercall sched_op, $SCHEDOP_poll, $poll
        lock btr %r12, shared_info + shared_info_evtchn_pending
        call    noticed
        print   "sleeping"
        call    result

        hypercall event_channel_op, $EVTCHNOP_unmask, $port
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        call    start
2:      call    work
        cmpq    $0, when
        je      2b
        print   "upcall"
        call    result
        ret

        .globl  start, work, noticed, result
start:
        movq    $0, pieces
        movq    $0, when
        call    system_time
        mov     %rax, began
        lea     DEADLINE(%rax), %rdi
        hypercall set_timer_op, %rdi
        ret

work:                                           # one piece
        imul    $PIECE, pieces, %rcx
        add     began, %rcx
        add     $PIECE, %rcx
1:      call    system_time
        cmp     %rcx, %rax
        jb      1b
        incq    pieces
        ret

noticed:
        call    system_time
        sub     began, %rax
        mov     %rax, when
        mov     pieces, %rax
        mov     %rax, pieces_then
        ret

result:
        print   ": pieces of work done before it was noticed: "
        print_dec pieces_then
        print   ", at least 45 us late: "
        cmpq    $DEADLINE + LATE, when
        print_if ae
        ret

        entry   event, on_upcall
on_upcall:
        call    scan_events
        ret

on_event:
        push_all
        call    noticed
        pop_all
        ret

        .data
        .balign 8
pieces: .quad   0
pieces_then:
        .quad   0
began:  .quad   0
when:   .quad   0                               # ns after that
poll:   .quad   port                            # struct sched_poll: ports, how many, timeout
        .long   1, 0
        .quad   0
event_callback:                                 # struct callback_register
        .word   CALLBACKTYPE_event, 0
        .long   0
        .quad   event
timer:  .long   VIRQ_TIMER, 0                   # struct evtchn_bind_virq: which, vcpu, port
port:   .long   0
