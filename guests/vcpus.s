# vcpus: as many vCPUs as there are, passing a token around in a ring.
#
# vCPU 0 asks which others exist (VCPUOP_is_up says -ENOENT behind the last), gives each an IPI port and a stack, and
# brings them up. Each waits in SCHEDOP_poll for its port, adds its number to the token, sends to the next one's port,
# and goes down. So all of them run, one after the other, and at the end vCPU 0 has the sum and is alone again.
#
# shared_info has room for the vcpu_info of 32 vCPUs only. Those behind must be given a place in the guest's own memory
# (VCPUOP_register_vcpu_info, which vCPU 0 may call for them while they are down) before VCPUOP_initialise.
#
# Title: 64 vCPUs pass a token around by IPIs
# Exit: 0
# vCPUs: 64
# Output:
#   vCPUs: 64
#   initialise vCPU 32 without a vcpu_info: -22
#   brought up, errors: 0
#   up: 64
#   the token came back with 2016
#   all others are down

        .include "guest.inc"
        guest   "vcpus"
        use_shared_info

        .set    MOST, 64
        .set    STACK, 256

main:
        call    map_shared_info
        same_page_table context
        mov     $infos, %rdi
        call    virt_to_mfn
        mov     %rax, register + vcpu_register_vcpu_info_mfn

        xor     %ebx, %ebx
1:      hypercall vcpu_op, $VCPUOP_is_up, %rbx
        test    %rax, %rax
        js      2f
        mov     %ebx, bind + evtchn_bind_ipi_vcpu
        hypercall event_channel_op, $EVTCHNOP_bind_ipi, $bind
        mov     bind + evtchn_bind_ipi_port, %eax
        mov     %eax, ports(, %rbx, 4)
        inc     %ebx
        jmp     1b
2:      mov     %rbx, count
        print   "vCPUs: "
        print_dec %rbx
        println
        cmp     $2, %ebx
        jb      alone

        mov     $1, %ebx
1:      call    bring_up
        inc     %ebx
        cmp     count, %rbx
        jb      1b
        print   "brought up, errors: "
        print_dec errors
        println
        call    count_up
        print   "up: "
        print_dec %rax
        println

        hypercall event_channel_op, $EVTCHNOP_send, $ports + 4
        xor     %ebx, %ebx
        call    wait_for
        print   "the token came back with "
        print_dec token
        println
1:      hypercall sched_op, $SCHEDOP_yield      # they go down when they get the CPU the next time
        call    count_up
        cmp     $1, %eax
        jne     1b
        println "all others are down"
        ret
alone:  println "this guest needs more of them: --vcpus 64"
        ret

        .globl  bring_up, count_up, wait_for, other
bring_up:                                       # vCPU %ebx
        cmp     $XEN_LEGACY_MAX_VCPUS, %ebx
        jb      1f
        ja      2f
        print   "initialise vCPU 32 without a vcpu_info: "
        hypercall vcpu_op, $VCPUOP_initialise, %rbx, $context
        print_dec %rax
        println
2:      hypercall vcpu_op, $VCPUOP_register_vcpu_info, %rbx, $register
        or      %rax, errors
        addl    $sizeof_vcpu_info, register + vcpu_register_vcpu_info_offset
1:      mov     %rbx, context + vcpu_guest_context_user_regs + cpu_user_regs_rbx
        addq    $STACK, context + vcpu_guest_context_user_regs + cpu_user_regs_rsp
        hypercall vcpu_op, $VCPUOP_initialise, %rbx, $context
        or      %rax, errors
        hypercall vcpu_op, $VCPUOP_up, %rbx
        or      %rax, errors
        ret

count_up:                                       # -> %rax
        push    %rbx
        push    %r12
        xor     %ebx, %ebx
        xor     %r12d, %r12d
1:      hypercall vcpu_op, $VCPUOP_is_up, %rbx
        add     %rax, %r12
        inc     %ebx
        cmp     count, %rbx
        jb      1b
        mov     %r12, %rax
        pop     %r12
        pop     %rbx
        ret

# Where all others start, with their number in %rbx and a stack.
other:
        call    wait_for
        add     %rbx, token
        lea     1(%rbx), %rax                   # the last one's next is vCPU 0
        xor     %ecx, %ecx
        cmp     count, %rax
        cmove   %rcx, %rax
        lea     ports(, %rax, 4), %rax
        hypercall event_channel_op, $EVTCHNOP_send, %rax
        hypercall vcpu_op, $VCPUOP_down, %rbx
        ud2

wait_for:                                       # sleep until the port of vCPU %ebx is pending, and take the event
        lea     ports(, %rbx, 4), %rax
        mov     (%rax), %ebp
        push    $0                              # struct sched_poll: no timeout
        push    $1
        push    %rax
        mov     %rsp, %r12
1:      lock btr %rbp, shared_info + shared_info_evtchn_pending
        jc      2f
        hypercall sched_op, $SCHEDOP_poll, %r12
        jmp     1b
2:      add     $24, %rsp
        ret

        .data
        .balign 8
count:  .quad   0
errors: .quad   0
token:  .quad   0
bind:   .long   0, 0                            # struct evtchn_bind_ipi
register:                                       # struct vcpu_register_vcpu_info
        .quad   0
        .long   0, 0
context:
        vcpu_context other, stacks

        .bss
        .balign PAGE_SIZE
infos:  .skip   PAGE_SIZE                       # struct vcpu_info of those behind the 32nd
ports:  .skip   4 * MOST
        .balign 16
stacks: .skip   STACK * MOST
