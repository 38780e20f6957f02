# timer: sleeping until a deadline, and being woken by an event.
#
# A guest asks for one timer event at an absolute system time (set_timer_op) and gives up the CPU (SCHEDOP_block, which
# also unmasks events). When the time comes, Xen raises VIRQ_TIMER, a virtual interrupt that the guest has bound to an
# event channel (EVTCHNOP_bind_virq): it sets the port's pending bit and, as the port is not masked, calls the guest at
# its event callback (callback_op). That is an upcall: a frame like an exception's, with events masked until iret.
#
# Look at `scan_events` in guest.inc for how a guest finds which port it was. Each deadline is 10 ms behind the one
# before, whatever time the handler takes, so the ticks do not drift.
#
# Title: Five timer ticks: VIRQ_TIMER, set_timer_op, SCHEDOP_block, the upcall
# Exit: 0
# Output:
#   timer bound: 0
#   tick 1: 10 ms after the start
#   tick 2: 20 ms after the start
#   tick 3: 30 ms after the start
#   tick 4: 40 ms after the start
#   tick 5: 50 ms after the start
#   ticks: 5, by upcall: 5

        .include "guest.inc"
        guest   "timer"
        use_shared_info
        use_events on_event

        .set    PERIOD, 10000000                # ns

main:
        call    map_shared_info
        hypercall callback_op, $CALLBACKOP_register, $event_callback
        hypercall event_channel_op, $EVTCHNOP_bind_virq, $timer
        print   "timer bound: "
        print_dec %rax
        println
        hypercall event_channel_op, $EVTCHNOP_unmask, $timer + evtchn_bind_virq_port
        hypercall vcpu_op, $VCPUOP_stop_periodic_timer, $0      # every vCPU is made with one, of 10 ms

        call    system_time
        mov     %rax, %r12                      # r12: when it began
        mov     %rax, %r13                      # r13: the next deadline
        xor     %ebx, %ebx                      # rbx: how many there were
1:      add     $PERIOD, %r13
        hypercall set_timer_op, %r13
2:      hypercall sched_op, $SCHEDOP_block      # comes back when the upcall has been served
        call    system_time
        cmp     %r13, %rax
        jb      2b                              # somebody else's event
        inc     %ebx
        print   "tick "
        print_dec %rbx
        print   ": "
        sub     %r12, %rax
        xor     %edx, %edx
        mov     $1000000, %ecx
        div     %rcx
        print_dec %rax
        println " ms after the start"
        cmp     $5, %ebx
        jb      1b

        print   "ticks: "
        print_dec %rbx
        print   ", by upcall: "
        print_dec ticks
        println
        ret

        entry   event, on_upcall
on_upcall:
        call    scan_events
        ret

on_event:                                       # rdi: port
        cmp     timer + evtchn_bind_virq_port, %edi
        jne     1f
        incq    ticks
1:      ret

        .data
        .balign 8
event_callback:                                 # struct callback_register
        .word   CALLBACKTYPE_event, 0
        .long   0
        .quad   event
timer:                                          # struct evtchn_bind_virq: virq, vcpu, and the port that Xen chose
        .long   VIRQ_TIMER, 0, 0

        .bss
        .balign 8
ticks:  .skip   8
