# console-echo: reads the console and writes back what it reads.
#
# The console page holds two rings. The guest reads input from in_cons up to in_prod and tells the daemon in domain 0
# that there is space again. While there is none it sleeps in SCHEDOP_poll: until the console's event channel is pending
# or a time has passed, with no upcall and no handler. A port that is still pending would wake it at once, so the guest
# clears the pending bit first and looks at the ring once more.
#
# Try `hv run console-echo` at a terminal, or with a pipe. A daemon may also send an event when it has read our output:
# therefore the deadline is a point of time, and only input moves it.
#
# Title: Echoes console input until five seconds pass without any
# Exit: 0
# Output:
#   Type something; five seconds of silence end this.
#   Nothing to read: good-bye.

        .include "guest.inc"
        guest   "console-echo"
        use_shared_info

        .set    PATIENCE, 5000000000            # ns

main:
        call    map_shared_info
        println "Type something; five seconds of silence end this."
        mov     start_info, %rax
        mov     start_info_console_domU_evtchn(%rax), %r12d
        mov     %r12d, port

new_deadline:
        call    system_time
        mov     $PATIENCE, %rdx
        add     %rdx, %rax
        mov     %rax, poll + sched_poll_timeout

wait:
        lock btr %r12, shared_info + shared_info_evtchn_pending
        call    echo_input
        test    %eax, %eax
        jnz     new_deadline
        call    system_time
        cmp     poll + sched_poll_timeout, %rax
        jae     1f
        hypercall sched_op, $SCHEDOP_poll, $poll
        jmp     wait
1:      println "Nothing to read: good-bye."
        ret

# Print what is in the input ring; %eax is how many bytes it was.
echo_input:
        push    %rbx
        push    %rbp
        push    %r13
        mov     console, %rbx
        mov     xencons_interface_in_cons(%rbx), %ebp
        xor     %r13d, %r13d
1:      cmp     xencons_interface_in_prod(%rbx), %ebp
        je      3f
        mov     %ebp, %eax
        and     $CONSOLE_IN_SIZE - 1, %eax
        movzbl  xencons_interface_in(%rbx, %rax), %eax
        inc     %ebp
        inc     %r13d
        cmp     $'\r', %al                      # a terminal's Enter
        jne     2f
        mov     $'\r' | '\n' << 8, %eax
2:      mov     %eax, text
        mov     $text, %rdi
        call    print_string
        jmp     1b
3:      test    %r13d, %r13d
        jz      4f
        mov     %ebp, xencons_interface_in_cons(%rbx)
        hypercall event_channel_op, $EVTCHNOP_send, $port       # there is space again
4:      mov     %r13d, %eax
        pop     %r13
        pop     %rbp
        pop     %rbx
        ret

        .data
        .balign 8
poll:                                           # struct sched_poll: ports, how many, timeout
        .quad   port
        .long   1, 0
        .quad   0
port:   .long   0
text:   .long   0
