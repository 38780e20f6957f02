# pingpong: two vCPUs play with IPIs, by upcall; neither ever looks whether it is its turn.
#
# Each vCPU has an IPI port (EVTCHNOP_bind_ipi), an event callback, and a vcpu_info of its own, in which its selector and
# its upcall flag are; the pending bits are for all. Both sleep in SCHEDOP_block. The handler of one counts and sends to
# the other's port; that wakes the other, whose handler does the same. In `smp` they poll instead.
#
# Title: Two vCPUs asleep, and an IPI going back and forth between their handlers
# Exit: 0
# vCPUs: 2
# Output:
#   vCPU 0 has had the ball 1000 times, vCPU 1 has had it 1000 times
#   upcalls of vCPU 0: 1000, of vCPU 1: 1000

        .include "guest.inc"
        guest   "pingpong"
        use_shared_info

        .set    ROUNDS, 1000
        .set    SECOND_INFO, shared_info + sizeof_vcpu_info     # vCPU 1's

main:
        call    map_shared_info
        hypercall vcpu_op, $VCPUOP_is_up, $1
        test    %rax, %rax
        js      alone
        hypercall set_callbacks, $event0, $0, $0
        hypercall event_channel_op, $EVTCHNOP_bind_ipi, $ipi0
        hypercall event_channel_op, $EVTCHNOP_bind_ipi, $ipi1
        hypercall event_channel_op, $EVTCHNOP_unmask, $port0
        hypercall event_channel_op, $EVTCHNOP_unmask, $port1
        same_page_table context
        hypercall vcpu_op, $VCPUOP_initialise, $1, $context
        hypercall vcpu_op, $VCPUOP_up, $1
        hypercall event_channel_op, $EVTCHNOP_send, $port1      # the first stroke
1:      movb    $1, shared_info + vcpu_info_evtchn_upcall_mask
        cmpq    $ROUNDS, balls0
        jae     2f
        hypercall sched_op, $SCHEDOP_block      # unmasks
        jmp     1b
2:      print   "vCPU 0 has had the ball "
        print_dec balls0
        print   " times, vCPU 1 has had it "
        print_dec balls1
        println " times"
        print   "upcalls of vCPU 0: "
        print_dec upcalls0
        print   ", of vCPU 1: "
        print_dec upcalls1
        println
        ret
alone:  println "this guest needs --vcpus 2"
        ret

second:                                         # vCPU 1 starts here, on its own stack
        hypercall sched_op, $SCHEDOP_block
        jmp     second

# Take the vCPU's event. An upcall without one is possible.
        .macro  take info, port, balls, upcalls, nothing
        incq    \upcalls
        movb    $0, \info + vcpu_info_evtchn_upcall_pending
        xor     %eax, %eax
        xchg    %rax, \info + vcpu_info_evtchn_pending_sel
        mov     \port, %eax
        lock btr %rax, shared_info + shared_info_evtchn_pending
        jnc     \nothing
        incq    \balls
        .endm

        entry   event0, on_event0
on_event0:
        take    shared_info, port0, balls0, upcalls0, 1f
        cmpq    $ROUNDS, balls0
        jae     1f
        hypercall event_channel_op, $EVTCHNOP_send, $port1
1:      ret

        entry   event1, on_event1
on_event1:
        take    SECOND_INFO, port1, balls1, upcalls1, 1f
        hypercall event_channel_op, $EVTCHNOP_send, $port0
1:      ret

        .globl  second
        .data
        .balign 8
balls0: .quad   0
balls1: .quad   0
upcalls0:
        .quad   0
upcalls1:
        .quad   0
ipi0:   .long   0                               # struct evtchn_bind_ipi: vcpu, port
port0:  .long   0
ipi1:   .long   1
port1:  .long   0

        .balign 8
context:
        vcpu_context second, second_stack, event1

        .bss
        .balign 16
        .skip   4096
second_stack:
