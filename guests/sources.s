# sources: four kinds of event, one callback.
#
# Whatever happens to a PV guest reaches it as an event channel: its timer (a virtual interrupt, VIRQ), a device's
# interrupt line (a physical one, PIRQ), a signal from another vCPU or itself (IPI), a signal from the other end of an
# interdomain channel (here both ends are its own). Each is bound to a port; the ports share the one event callback,
# which finds out which it was.
#
# The interrupt line is level-triggered: it stays up until the device has been served. So Xen keeps quiet after one event
# until the guest says that it is done (PHYSDEVOP_eoi), and asks again if the line is still up then.
#
# Waiting is a race with the event: look, find nothing, and the event comes just before the vCPU sleeps. So events are
# masked before the look, and SCHEDOP_block unmasks them and sleeps in one step: see `wait_for`.
#
# Title: Timer, interrupt line, IPI and loopback channel arrive at one callback
# Exit: 0
# PIRQs: 9:level,every=1ms
# Output:
#   bound: VIRQ 0, PIRQ 0, IPI 0, loopback 0
#   PIRQ 9 wants an EOI: yes
#   event: loopback
#   sent the IPI
#   event: IPI
#   sent on the far end
#   event: loopback
#   set the timer
#   event: VIRQ_TIMER
#   waiting for the line, twice
#   event: PIRQ
#   event: PIRQ
#   a PIRQ cannot be sent: -22

        .include "guest.inc"
        guest   "sources"
        use_shared_info
        use_events on_event

        .macro  bind operation, argument, text
        hypercall event_channel_op, $EVTCHNOP_\operation, $\argument
        print   "\text"
        print_dec %rax
        .endm

        .macro  unmask port
        hypercall event_channel_op, $EVTCHNOP_unmask, $\port
        .endm

main:
        call    map_shared_info
        hypercall callback_op, $CALLBACKOP_register, $event_callback
        hypercall vcpu_op, $VCPUOP_stop_periodic_timer, $0      # Xen's vCPUs start with one of 10 ms
        bind    bind_virq, timer, "bound: VIRQ "
        bind    bind_pirq, line, ", PIRQ "
        bind    bind_ipi, ipi, ", IPI "
        hypercall event_channel_op, $EVTCHNOP_alloc_unbound, $unbound
        mov     far, %eax
        mov     %eax, loopback + evtchn_bind_interdomain_remote_port
        bind    bind_interdomain, loopback, ", loopback "
        println
        hypercall physdev_op, $PHYSDEVOP_irq_status_query, $query
        print   "PIRQ 9 wants an EOI: "
        testb   $XENIRQSTAT_needs_eoi, query + physdev_irq_status_query_flags
        print_if nz

        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        unmask  loopback_port                   # binding it has made it pending
        mov     $1, %edi
        call    wait_for
        println "sent the IPI"
        unmask  ipi_port
        hypercall event_channel_op, $EVTCHNOP_send, $ipi_port
        mov     $2, %edi
        call    wait_for
        println "sent on the far end"
        hypercall event_channel_op, $EVTCHNOP_send, $far
        mov     $3, %edi
        call    wait_for
        println "set the timer"
        unmask  timer_port
        call    system_time
        add     $100000, %rax
        hypercall set_timer_op, %rax
        mov     $4, %edi
        call    wait_for
        println "waiting for the line, twice"
        unmask  line_port
        mov     $6, %edi
        call    wait_for
        print   "a PIRQ cannot be sent: "
        hypercall event_channel_op, $EVTCHNOP_send, $line_port
        print_dec %rax
        println
        ret

# Sleep until %rdi events have come.
        .globl  wait_for
wait_for:
        push_all
        mov     %rdi, %rbx
1:      movb    $1, shared_info + vcpu_info_evtchn_upcall_mask
        cmp     %rbx, events
        jae     2f
        hypercall sched_op, $SCHEDOP_block      # unmasks
        jmp     1b
2:      movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        hypercall xen_version, $XENVER_version  # what came while they were masked
        pop_all
        ret

        entry   event, on_upcall
on_upcall:
        call    scan_events
        ret

on_event:                                       # rdi: port
        push_all
        incq    events
        mov     $kinds, %rbx
1:      mov     (%rbx), %rax                    # -> port
        cmp     (%rax), %edi
        je      2f
        add     $16, %rbx
        jmp     1b
2:      print   "event: "
        mov     8(%rbx), %rdi
        call    print_string
        println
        cmp     $line_port, %rax
        jne     3f
        hypercall physdev_op, $PHYSDEVOP_eoi, $eoi
3:      pop_all
        ret

        .data
        .balign 8
events: .quad   0
kinds:  .quad   timer_port, timer_name, line_port, line_name, ipi_port, ipi_name, loopback_port, loopback_name
timer_name:
        .asciz  "VIRQ_TIMER"
line_name:
        .asciz  "PIRQ"
ipi_name:
        .asciz  "IPI"
loopback_name:
        .asciz  "loopback"
        .balign 8
event_callback:                                 # struct callback_register
        .word   CALLBACKTYPE_event, 0
        .long   0
        .quad   event
timer:  .long   VIRQ_TIMER, 0                   # struct evtchn_bind_virq: which, vcpu, port
timer_port:
        .long   0
line:   .long   9, 0                            # struct evtchn_bind_pirq: which, flags, port
line_port:
        .long   0
ipi:    .long   0                               # struct evtchn_bind_ipi: vcpu, port
ipi_port:
        .long   0
unbound:
        .word   DOMID_SELF, DOMID_SELF          # struct evtchn_alloc_unbound: for whom, by whom, port
far:    .long   0
loopback:
        .word   DOMID_SELF, 0                   # struct evtchn_bind_interdomain: whose, which port, our new port
        .long   0
loopback_port:
        .long   0
query:  .long   9, 0                            # struct physdev_irq_status_query: which, flags
eoi:    .long   9                               # struct physdev_eoi
