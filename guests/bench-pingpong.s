# bench-pingpong: two domains play with one event channel, each by upcall, both asleep in between.
#
# A round is there and back: two sends, two upcalls, two returns from them, two domains that wake and sleep again, and two
# switches between domains. The command line may give the number of rounds. With `--clock host` the nanoseconds are the
# host's; those of the virtual clock below are exact, and say nothing about speed.
#
# Title: Benchmark: an event goes back and forth between two domains
# Exit: 0
# Domains: 2
# Output:
#   BEGIN interdomain_pingpong n=1000
#   BENCH interdomain_pingpong n=1000 ns=676056 chk=1000

        .include "guest.inc"
        .include "store.inc"
        .include "partner.inc"
        guest   "bench-pingpong"
        use_shared_info
        use_store
        use_partner

main:
        call    map_shared_info
        call    find_partner
        jz      1f
        call    find_store
        mov     options, %rsi
        call    next_number
        test    %eax, %eax
        jz      2f
        mov     %rax, rounds
2:      hypercall set_callbacks, $on_ball, $0, $0
        cmpl    $1, place
        je      first
        call    bind_bell
        call    unmask_bell
        call    ring_bell                       # ready
        jmp     play
1:      ret

first:
        mov     rounds, %rax
        mov     %rax, last
        call    offer_bell
        call    wait_bell
        print   "BEGIN "
        call    print_row
        println
        call    unmask_bell
        call    system_time
        mov     %rax, %r14
        call    ring_bell                       # the first stroke
        call    play
        call    system_time
        sub     %r14, %rax
        mov     %rax, %r14
        print   "BENCH "
        call    print_row
        print   " ns="
        print_dec %r14
        print   " chk="
        print_dec balls
        println
        ret

print_row:
        print   "interdomain_pingpong n="
        print_dec rounds
        ret

unmask_bell:
        mov     bell_port, %eax
        lock btr %rax, shared_info + shared_info_evtchn_mask
        ret

# Until the ball has come `rounds` times.
play:   movb    $1, shared_info + vcpu_info_evtchn_upcall_mask
        mov     rounds, %rax
        cmp     %rax, balls
        jae     1f
        mov     $SCHEDOP_block, %edi
        mov     $__HYPERVISOR_sched_op, %eax
        syscall
        jmp     play
1:      ret

# The upcall: the ball goes back, but for the last one of the first domain.
on_ball:
        pop     %rcx
        pop     %r11
        push    %rax
        push    %rdi
        push    %rsi
        push    %rcx
        push    %r11
        movb    $0, shared_info + vcpu_info_evtchn_upcall_pending
        movq    $0, shared_info + vcpu_info_evtchn_pending_sel
        mov     bell_port, %eax
        lock btr %rax, shared_info + shared_info_evtchn_pending
        jnc     1f
        incq    balls
        mov     last, %rax
        cmp     %rax, balls
        jae     1f
        mov     $EVTCHNOP_send, %edi
        mov     $bell_port, %rsi
        mov     $__HYPERVISOR_event_channel_op, %eax
        syscall
1:      pop     %r11
        pop     %rcx
        pop     %rsi
        pop     %rdi
        pop     %rax
        hypervisor_iret

        .globl  on_ball
        .data
        .balign 8
rounds: .quad   1000
balls:  .quad   0
last:   .quad   -1                              # the ball that does not go back; the second domain returns all
