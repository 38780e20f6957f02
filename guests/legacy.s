# legacy: a guest as they were for Xen 3: no ELF notes, and the hypercalls of that time.
#
# What its builder must know stands in one string, in a section named __xen_guest. Addresses in the file are virtual
# there unless ELF_PADDR_OFFSET says otherwise, and HYPERCALL_PAGE is the number of a page: the first one here.
#
# Old numbers still work. set_callbacks (4) is what callback_op came to replace; sched_op_compat (6) takes its reason
# for a shutdown as an argument; event_channel_op_compat (16) and physdev_op_compat (19) take one structure with the
# operation in it. GNU Mach makes such calls to this day.
#
# Title: A guest of Xen 3's time: __xen_guest, set_callbacks, the compat hypercalls
# Exit: 0
# Output:
#   Hello from the page behind the hypercall page.
#   set_callbacks: 0
#   bind_ipi: 0
#   send: 0
#   events by the callback: 1
#   block and timer: 0
#   timer events: 1
#   close: 0
#   send to a closed port: -22
#   unknown operation: -38
#   physdev_op: -38
#   yield: 0

        .pushsection __xen_guest, ""
        .asciz  "GUEST_OS=hv,GUEST_VER=1,XEN_VER=xen-3.0,VIRT_BASE=0xffffffff80000000,ELF_PADDR_OFFSET=0x0,HYPERCALL_PAGE=0x0,LOADER=generic"
        .popsection

        .text
hypercall_page:
        .skip   4096

        .include "guest.inc"
        startup
        use_shared_info
        use_events on_event

# compat NAME, a1, a2: by way of the hypercall page; the result is in %rax.
        .macro  compat name, a1, a2
        .ifnb   \a1
        mov     \a1, %rdi
        .endif
        .ifnb   \a2
        mov     \a2, %rsi
        .endif
        call    hypercall_page + 32 * __HYPERVISOR_\name
        .endm

        .macro  report text
        print   "\text: "
        print_dec %rax
        println
        .endm

main:
        println "Hello from the page behind the hypercall page."
        call    map_shared_info
        mov     $failsafe, %rsi
        xor     %edx, %edx
        compat  set_callbacks, $event_callback
        report  "set_callbacks"

        compat  event_channel_op_compat, $bind_ipi
        report  "bind_ipi"
        mov     bind_ipi + evtchn_op_u_bind_ipi_port, %eax
        mov     %eax, ipi_port
        mov     %eax, send + evtchn_op_u_send_port
        mov     %eax, close + evtchn_op_u_close_port
        hypercall event_channel_op, $EVTCHNOP_unmask, $ipi_port
        call    unmask_upcalls
        compat  event_channel_op_compat, $send
        report  "send"
        mov     ipis, %rax
        report  "events by the callback"

        compat  event_channel_op_compat, $bind_virq
        mov     bind_virq + evtchn_op_u_bind_virq_port, %eax
        mov     %eax, timer_port
        hypercall event_channel_op, $EVTCHNOP_unmask, $timer_port
        hypercall vcpu_op, $VCPUOP_stop_periodic_timer, $0
        movq    $0, timers
        call    system_time
        add     $1000000, %rax
        hypercall set_timer_op, %rax
1:      compat  sched_op_compat, $SCHEDOP_block
        cmpq    $0, timers
        je      1b
        report  "block and timer"
        mov     timers, %rax
        report  "timer events"

        compat  event_channel_op_compat, $close
        report  "close"
        compat  event_channel_op_compat, $send
        report  "send to a closed port"
        movl    $99, send + evtchn_op_cmd
        compat  event_channel_op_compat, $send
        report  "unknown operation"
        movl    $99, physdev
        compat  physdev_op_compat, $physdev
        report  "physdev_op"
        compat  sched_op_compat, $SCHEDOP_yield
        report  "yield"
        call    drain_console
        compat  sched_op_compat, $SCHEDOP_shutdown, $SHUTDOWN_poweroff
        ret

unmask_upcalls:

        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        cmpb    $0, shared_info + vcpu_info_evtchn_upcall_pending
        je      1f
        hypercall xen_version, $0               # any hypercall delivers what came while events were masked
1:      ret

        entry   event_callback, on_upcall
on_upcall:
        call    scan_events
        ret

failsafe:
        ud2

on_event:                                       # rdi: port
        cmp     ipi_port, %edi
        jne     1f
        incq    ipis
        ret
1:      cmp     timer_port, %edi
        jne     2f
        incq    timers
2:      ret

        .data
        .balign 8
bind_ipi:
        .long   EVTCHNOP_bind_ipi, 0, 0, 0, 0, 0, 0
bind_virq:
        .long   EVTCHNOP_bind_virq, VIRQ_TIMER, 0, 0, 0, 0, 0
send:   .long   EVTCHNOP_send, 0, 0, 0, 0, 0, 0
close:  .long   EVTCHNOP_close, 0, 0, 0, 0, 0, 0
physdev:
        .skip   32
ipi_port:
        .long   0
timer_port:
        .long   0
ipis:   .quad   0
timers: .quad   0
