# smp: a second vCPU, brought up by the first (with --vcpus 1 it says what is missing).
#
# A PV guest starts with one vCPU. It describes the state in which another one shall start in a vcpu_guest_context
# (registers, stack, page table, callbacks), hands that to VCPUOP_initialise, and VCPUOP_up lets it run. All vCPUs of a
# guest take turns on one CPU here, in a fixed order, so this output is the same every time. The two play ping-pong with
# IPIs: each binds an event channel of its own, waits in SCHEDOP_poll, and sends to the other's.
#
# Title: Two vCPUs: VCPUOP_initialise and VCPUOP_up, then ping-pong by IPIs
# Exit: 0
# vCPUs: 2
# Output:
#   is vCPU 1 up? 0
#   up before initialise: -22
#   initialise: 0
#   up: 0
#   vCPU 0: pong 1
#   vCPU 0: pong 2
#   vCPU 0: pong 3
#   vCPU 0: pong 4
#   vCPU 0: pong 5
#   is vCPU 1 up? not any more
        .include "guest.inc"
        guest   "smp"
        use_shared_info

        .set    ROUNDS, 5

main:
        call    map_shared_info
        print   "is vCPU 1 up? "
        hypercall vcpu_op, $VCPUOP_is_up, $1
        print_dec %rax
        println
        test    %rax, %rax
        js      alone

        hypercall event_channel_op, $EVTCHNOP_bind_ipi, $ipi0
        hypercall event_channel_op, $EVTCHNOP_bind_ipi, $ipi1
        print   "up before initialise: "
        hypercall vcpu_op, $VCPUOP_up, $1
        print_dec %rax
        println
        same_page_table context
        print   "initialise: "
        hypercall vcpu_op, $VCPUOP_initialise, $1, $context
        print_dec %rax
        println
        print   "up: "
        hypercall vcpu_op, $VCPUOP_up, $1
        print_dec %rax
        println
        mov     $ROUNDS, %ebx
1:      hypercall event_channel_op, $EVTCHNOP_send, $ipi1 + evtchn_bind_ipi_port
        mov     $ipi0, %rdi
        call    wait_for
        print   "vCPU 0: pong "
        print_dec replies
        println
        dec     %ebx
        jnz     1b
        print   "is vCPU 1 up? "                # it has gone down by now, or will when it gets the CPU
2:      hypercall sched_op, $SCHEDOP_yield
        hypercall vcpu_op, $VCPUOP_is_up, $1
        test    %rax, %rax
        jnz     2b
        println "not any more"
        ret
alone:  println "this guest needs --vcpus 2"
        ret

# vCPU 1 starts here, on its own stack.
second:
        mov     $ROUNDS, %ebx
1:      mov     $ipi1, %rdi
        call    wait_for
        incq    replies
        hypercall event_channel_op, $EVTCHNOP_send, $ipi0 + evtchn_bind_ipi_port
        dec     %ebx
        jnz     1b
        hypercall vcpu_op, $VCPUOP_down, $1
        ud2

# Sleep until the port of the evtchn_bind_ipi at %rdi is pending, and take the event.
        .globl  wait_for, second
wait_for:
        push_all
        mov     evtchn_bind_ipi_port(%rdi), %ebx
        lea     evtchn_bind_ipi_port(%rdi), %rax
        push    $0                              # struct sched_poll: no timeout
        push    $1
        push    %rax
        mov     %rsp, %r12
1:      lock btr %rbx, shared_info + shared_info_evtchn_pending
        jc      2f
        hypercall sched_op, $SCHEDOP_poll, %r12
        jmp     1b
2:      add     $24, %rsp
        pop_all
        ret

        .data
        .balign 8
ipi0:   .long   0, 0                            # struct evtchn_bind_ipi: vcpu, port
ipi1:   .long   1, 0
replies:
        .quad   0

        .balign 8
context:
        vcpu_context second, second_stack

        .bss
        .balign 16
        .skip   4096
second_stack:
