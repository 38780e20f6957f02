# preempt: an event in the middle of a loop, at the same instruction every time.
#
# The guest arms a timer for 100 us from now and counts as fast as it can; the upcall interrupts it between two
# instructions and goes on elsewhere by changing rip in its frame. On hardware the count would differ from run to run.
# hv's virtual clock is driven by the bytes of guest code that were executed, four to the nanosecond, and an event comes
# at the first instruction boundary behind its deadline: the counts below are exact, and belong to the guest as much as
# its text does.
#
# 100 us are 400,000 bytes, the loop has 5: 80,000 rounds, less what the hypercall and the way to the loop take. The
# last line's loop has 3 instructions in 8 bytes. (With `--clock host` the counts are the host's, and random.)
#
# Title: A loop interrupted by a timer after an exact number of rounds
# Exit: 0
# Output:
#   two_instructions: 79902 rounds, interrupted 3 bytes into the loop
#   two_instructions: 79902 rounds, interrupted 3 bytes into the loop
#   three_instructions: 49939 rounds, interrupted 6 bytes into the loop

        .include "guest.inc"
        guest   "preempt"
        use_shared_info
        use_events on_event

        .set    SLICE, 100000                   # ns

# Run the endless loop at LOOP, which counts in %rbx, until the timer; say how far it came, and where it was.
        .macro  interrupt loop
        movq    $.Lend\@, resume
        call    system_time
        lea     SLICE(%rax), %r12
        hypercall set_timer_op, %r12
        xor     %ebx, %ebx
        jmp     \loop
.Lend\@:
        print   "\loop: "
        print_dec %rbx
        print   " rounds, interrupted "
        mov     interrupted, %rax
        sub     $\loop, %rax
        print_dec %rax
        println " bytes into the loop"
        .endm

main:
        call    map_shared_info
        hypercall callback_op, $CALLBACKOP_register, $event_callback
        hypercall event_channel_op, $EVTCHNOP_bind_virq, $timer
        hypercall event_channel_op, $EVTCHNOP_unmask, $timer + evtchn_bind_virq_port
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        interrupt two_instructions
        interrupt two_instructions
        interrupt three_instructions
        ret

two_instructions:                               # 5 bytes
        inc     %rbx
        jmp     two_instructions

three_instructions:                             # 8 bytes
        inc     %rbx
        xor     %rbx, %rax
        jmp     three_instructions

        entry   event, on_upcall
on_upcall:
        mov     frame_rip(%rdi), %rax
        mov     %rax, interrupted
        mov     resume, %rax
        mov     %rax, frame_rip(%rdi)
        call    scan_events
        ret

on_event:
        ret

        .data
        .balign 8
event_callback:                                 # struct callback_register
        .word   CALLBACKTYPE_event, 0
        .long   0
        .quad   event
timer:  .long   VIRQ_TIMER, 0, 0                # struct evtchn_bind_virq

        .bss
        .balign 8
interrupted:
        .skip   8
resume: .skip   8
