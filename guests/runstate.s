# runstate: where a vCPU's time went.
#
# Xen keeps for each vCPU how long it was running, runnable (it wanted the CPU, and another one had it: "steal time"),
# blocked (it slept) and offline. VCPUOP_get_runstate_info tells; the four times add up to the time since the vCPU was
# made. VCPUOP_register_runstate_memory_area names a place that Xen writes whenever the vCPU gets or loses the CPU, so
# that a kernel need not ask: there it always finds itself running, since the moment in state_entry_time.
#
# Here vCPU 0 sleeps, and its blocked time grows. Then vCPU 1 computes for two milliseconds while vCPU 0 spins: they take
# turns of one millisecond, and each is runnable while the other has the CPU.
#
# Title: Run states: where a vCPU's time went, and the area that says so
# Exit: 0
# vCPUs: 2
# Output:
#   vCPU 0 is running: yes
#   vCPU 1 is offline: yes
#   the times of vCPU 0 add up to its age: yes
#   slept 5 ms; blocked for 5 ms
#   the area follows by itself: yes
#   in the area vCPU 0 is running: yes
#   its entry time is not before it woke: yes
#   vCPU 1 computed for 2 ms
#   vCPU 0 waited for the CPU for 2 ms
#   vCPU 1 is offline again: yes
#   the times of vCPU 1 add up to its age: yes

        .include "guest.inc"
        guest   "runstate"
        use_shared_info

        .set    ROUNDS, 2 * 4000000 / 160       # 2 ms, and 160 bytes in the loop below

# get VCPU: ask for its run state, into `info`.
        .macro  get vcpu
        hypercall vcpu_op, $VCPUOP_get_runstate_info, $\vcpu, $info
        .endm

# print_ms: %rax in ns, rounded.
        .macro  print_ms
        add     $500000, %rax
        xor     %edx, %edx
        mov     $1000000, %ecx
        div     %rcx
        print_dec %rax
        println " ms"
        .endm

main:
        call    map_shared_info
        get     1
        test    %rax, %rax
        js      alone
        mov     info + vcpu_runstate_info_state_entry_time, %rax
        mov     %rax, made                      # it has been offline since then
        mov     info + vcpu_runstate_info_state, %ebx
        get     0
        print   "vCPU 0 is running: "
        cmpl    $RUNSTATE_running, info + vcpu_runstate_info_state
        print_if e
        print   "vCPU 1 is offline: "
        cmp     $RUNSTATE_offline, %ebx
        print_if e
        print   "the times of vCPU 0 add up to its age: "
        get     0
        call    check_sum

        hypercall vcpu_op, $VCPUOP_register_runstate_memory_area, $0, $register
        get     0
        mov     info + vcpu_runstate_info_time + RUNSTATE_blocked * 8, %rbx
        call    system_time
        add     $5000000, %rax
        mov     %rax, poll + sched_poll_timeout
        hypercall sched_op, $SCHEDOP_poll, $poll
        get     0
        print   "slept 5 ms; blocked for "
        mov     info + vcpu_runstate_info_time + RUNSTATE_blocked * 8, %rax
        sub     %rbx, %rax
        print_ms
        print   "the area follows by itself: "
        mov     area + vcpu_runstate_info_time + RUNSTATE_blocked * 8, %rax
        cmp     info + vcpu_runstate_info_time + RUNSTATE_blocked * 8, %rax
        print_if e
        print   "in the area vCPU 0 is running: "
        cmpl    $RUNSTATE_running, area + vcpu_runstate_info_state
        print_if e
        print   "its entry time is not before it woke: "
        mov     area + vcpu_runstate_info_state_entry_time, %rax
        cmp     poll + sched_poll_timeout, %rax
        print_if ae

        same_page_table context
        hypercall vcpu_op, $VCPUOP_initialise, $1, $context
        get     0
        mov     info + vcpu_runstate_info_time + RUNSTATE_runnable * 8, %rbx
        hypercall vcpu_op, $VCPUOP_up, $1
1:      mov     $1, %ecx                        # spin, until vCPU 1 has gone down
        call    compute
        hypercall vcpu_op, $VCPUOP_is_up, $1
        test    %rax, %rax
        jnz     1b
        get     1
        print   "vCPU 1 computed for "
        mov     info + vcpu_runstate_info_time + RUNSTATE_running * 8, %rax
        print_ms
        print   "vCPU 0 waited for the CPU for "
        mov     area + vcpu_runstate_info_time + RUNSTATE_runnable * 8, %rax
        sub     %rbx, %rax
        print_ms
        get     1
        print   "vCPU 1 is offline again: "
        cmpl    $RUNSTATE_offline, info + vcpu_runstate_info_state
        print_if e
        print   "the times of vCPU 1 add up to its age: "
        get     1
        call    check_sum
        ret
alone:  println "this guest needs --vcpus 2"
        ret

        .globl  check_sum, compute, second
# Whether the times in `info`, and the moment when that was asked, agree: within 1 ms, as some has passed since then.
check_sum:
        call    system_time
        sub     made, %rax
        .irp    state, 0, 1, 2, 3
        sub     info + vcpu_runstate_info_time + \state * 8, %rax
        .endr
        add     $1000000, %rax
        cmp     $2000000, %rax
        print_if b
        ret

compute:                                        # %ecx rounds of 160 bytes
1:      .rept   10
        .byte   0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0   # a nop of 15 bytes
        .endr
        xchg    %ax, %ax
        dec     %ecx
        jnz     1b
        ret

second: mov     $ROUNDS, %ecx                   # vCPU 1
        call    compute
        hypercall vcpu_op, $VCPUOP_down, $1
        ud2

        .data
        .balign 8
made:   .quad   0
register:                                       # struct vcpu_register_runstate_memory_area
        .quad   area
poll:   .quad   0                               # struct sched_poll: no ports, only the timeout
        .long   0, 0
        .quad   0
context:
        vcpu_context second, second_stack

        .bss
        .balign 8
info:   .skip   sizeof_vcpu_runstate_info
area:   .skip   sizeof_vcpu_runstate_info
        .balign 16
        .skip   1024
second_stack:
