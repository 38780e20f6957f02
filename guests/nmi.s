# nmi: interrupts that can not be masked.
#
# A PV guest's NMIs are traps of vector 2 that Xen delivers on the way to the guest, whatever evtchn_upcall_mask says. The
# guest registers a handler (nmi_op, a callback, or a row of set_trap_table); without one an NMI is lost. While the
# handler runs the next one waits, and the end of that is not a flag but a hypercall: iret. A vCPU may send one to
# itself (VCPUOP_send_nmi).
#
# Look at `on_nmi`: it sends the second NMI from inside the first, and counts how deep it is when that comes.
#
# Title: NMIs: nmi_op, VCPUOP_send_nmi, masked until iret
# Exit: 0
# Output:
#   without a handler: send 0, delivered 0
#   an address that is not canonical: -22
#   register: 0
#   with events masked: send 0, delivered 1, one at a time yes
#   the handler was entered with events masked: yes
#   one sent from inside: send 0, delivered 3, one at a time yes
#   two sent from inside are one: send 0, delivered 5, one at a time yes
#   to a vCPU that does not exist: -2
#   with an argument: -22
#   unregister: 0
#   without a handler again: send 0, delivered 5

        .include "guest.inc"
        guest   "nmi"
        use_shared_info

        .macro  delivered
        print   ", delivered "
        print_dec count
        .endm

        .macro  report
        delivered
        print   ", one at a time "
        cmpq    $1, deepest
        print_if e
        .endm

        .macro  send_nmi
        hypercall vcpu_op, $VCPUOP_send_nmi, $0, $0
        .endm

main:   call    map_shared_info
        print   "without a handler: send "
        send_nmi
        print_dec %rax
        delivered
        println

        print   "an address that is not canonical: "
        hypercall nmi_op, $XENNMI_register_callback, $nowhere
        print_dec %rax
        println
        print   "register: "
        hypercall nmi_op, $XENNMI_register_callback, $handler
        print_dec %rax
        println

        print   "with events masked: send "
        movb    $1, shared_info + vcpu_info_evtchn_upcall_mask
        send_nmi
        print_dec %rax
        report
        print   "the handler was entered with events masked: "
        cmpb    $1, masked_inside
        print_if e

        print   "one sent from inside: send "
        movq    $1, more
        movq    $1, times
        send_nmi
        print_dec %rax
        report
        print   "two sent from inside are one: send "
        movq    $1, more
        movq    $2, times
        send_nmi
        print_dec %rax
        report

        print   "to a vCPU that does not exist: "
        hypercall vcpu_op, $VCPUOP_send_nmi, $60, $0
        print_dec %rax
        println
        print   "with an argument: "
        hypercall vcpu_op, $VCPUOP_send_nmi, $0, $main
        print_dec %rax
        println

        print   "unregister: "
        hypercall nmi_op, $XENNMI_unregister_callback
        print_dec %rax
        println
        print   "without a handler again: send "
        send_nmi
        print_dec %rax
        delivered
        println
        ret

# The first of them sends what it was asked to, and goes on for a while: nothing may come before its iret.
on_nmi: incq    count
        incq    depth
        mov     depth, %rax
        cmp     deepest, %rax
        cmova   %rax, %rcx
        cmovbe  deepest, %rcx
        mov     %rcx, deepest
        mov     shared_info + vcpu_info_evtchn_upcall_mask, %al
        mov     %al, masked_inside
        cmpq    $0, more
        je      2f
        movq    $0, more
1:      send_nmi
        decq    times
        jnz     1b
        hypercall sched_op, $SCHEDOP_yield
2:      decq    depth
        ret
        entry   nmi_entry, on_nmi

        .data
        .balign 8
count:  .quad   0
depth:  .quad   0
deepest:
        .quad   0
more:   .quad   0                       # the next one sends others
times:  .quad   0
masked_inside:
        .byte   0
        .balign 8
handler:                                # struct xennmi_callback
        .quad   nmi_entry, 0
nowhere:
        .quad   0x800000000000, 0
