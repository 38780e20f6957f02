# race: an event that comes while its port is masked, or just when it is unmasked, is not lost.
#
# A guest masks a port for a moment by setting its bit in shared_info; that needs no hypercall. The event that comes
# meanwhile becomes pending and nothing else happens. So unmasking is two steps, in this order: clear the mask bit, then
# look whether the port is pending, and if so, deliver it after all. There are two ways to do that, tried here in turn:
# EVTCHNOP_unmask lets Xen do both; or the guest does both itself, as Linux does for the vCPU that it runs on: it sets
# the selector bit and the upcall flag as Xen would have, and makes some hypercall, on whose way back Xen looks at them.
#
# A timer is set to go off at ever different moments of a loop that masks and unmasks its port.
#
# Title: A port is masked and unmasked while events come: none is lost
# Exit: 0
# Output:
#   timers set: 200
#   events: 200
#   waited for in vain: 0

        .include "guest.inc"
        guest   "race"
        use_shared_info
        use_events on_event

        .set    ROUNDS, 200
        .set    STEP, 97                        # ns: how much later each timer goes off in the loop
        .set    PATIENCE, 10000000              # rounds of the loop: long before that, an event comes or never will

main:
        call    map_shared_info
        hypercall callback_op, $CALLBACKOP_register, $event_callback
        hypercall vcpu_op, $VCPUOP_stop_periodic_timer, $0      # Xen's vCPUs start with one of 10 ms
        hypercall event_channel_op, $EVTCHNOP_bind_virq, $timer
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        mov     port, %r12d
        xor     %ebx, %ebx                      # rbx: how many timers were set
1:      imul    $STEP, %rbx, %rax
        add     $1000, %rax
        mov     %rax, %rbp
        call    system_time
        add     %rbp, %rax
        hypercall set_timer_op, %rax
        inc     %rbx
        mov     $PATIENCE, %r13
2:      lock bts %r12, shared_info + shared_info_evtchn_mask
        nop
        nop
        test    $1, %bl
        jz      3f
        call    unmask_by_hypercall
        jmp     4f
3:      call    unmask_ourselves
4:      cmp     %rbx, events
        je      5f
        dec     %r13
        jnz     2b
        incq    in_vain
        movq    %rbx, events
5:      cmp     $ROUNDS, %rbx
        jb      1b
        print   "timers set: "
        print_dec %rbx
        println
        print   "events: "
        mov     events, %rax
        sub     in_vain, %rax
        print_dec %rax
        println
        print   "waited for in vain: "
        print_dec in_vain
        println
        ret

        .globl  unmask_by_hypercall, unmask_ourselves
unmask_by_hypercall:
        hypercall event_channel_op, $EVTCHNOP_unmask, $port
        ret

unmask_ourselves:
        lock btr %r12, shared_info + shared_info_evtchn_mask
        bt      %r12, shared_info + shared_info_evtchn_pending
        jnc     1f
        mov     %r12, %rax                      # the selector bit of its word, then the flag: the order of Xen itself
        shr     $6, %rax
        lock bts %rax, shared_info + vcpu_info_evtchn_pending_sel
        movb    $1, shared_info + vcpu_info_evtchn_upcall_pending
        hypercall xen_version, $XENVER_version
1:      ret

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
in_vain:
        .quad   0
event_callback:                                 # struct callback_register
        .word   CALLBACKTYPE_event, 0
        .long   0
        .quad   event
timer:  .long   VIRQ_TIMER, 0                   # struct evtchn_bind_virq: which, vcpu, port
port:   .long   0
