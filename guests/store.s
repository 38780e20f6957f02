# store: reads and writes XenStore, and does what a toolstack asks for there.
#
# The store's page holds two byte rings: requests go out, replies and watch events come in. A message is a header of four
# words (type, request, transaction, length) and a payload. Paths without a slash in front are below the domain's own
# directory. Most of that belongs to domain 0, which lets the guest read; control/shutdown is the guest's own.
#
# A watch on control/shutdown fires once when it is registered, and again for every change. So does a toolstack ask a
# guest to end: it writes "poweroff" or "reboot", the guest writes an empty string to say that it has seen it, and then
# it goes. Try `hv run store --clock paced --xenstore-socket /tmp/xs`, and in another terminal
# `hv xenstore-write --socket /tmp/xs /local/domain/1/control/shutdown reboot`.
#
# Title: XenStore: read, write, a transaction, a watch on control/shutdown
# Exit: 0
# Output:
#   name: store
#   writing data/greeting: OK
#   data/greeting: hello
#   writing name: EACCES
#   a write in a transaction: OK
#   read outside of it: ENOENT
#   its end: OK
#   read again: seen by all
#   watching control/shutdown: OK
#   changed: control/shutdown
#   Nobody asks for a shutdown in five seconds: good-bye.

        .include "guest.inc"
        guest   "store"
        use_shared_info

        .set    PATIENCE, 5000000000            # ns
        .set    sizeof_header, sizeof_xsd_sockmsg

# Ask TYPE of the payload TEXT, and print the reply with LABEL in front.
        .macro  ask type, text, label
        .pushsection .rodata
.Lpayload\@:
        .ascii  "\text"
.Lpayload_end\@:
        .popsection
        mov     $\type, %edi
        mov     $.Lpayload\@, %rsi
        mov     $.Lpayload_end\@ - .Lpayload\@, %edx
        call    request
        print   "\label: "
        mov     $message + sizeof_header, %rdi
        call    print_string
        println
        .endm

main:
        call    map_shared_info
        mov     start_info, %rdx
        mov     start_info_store_mfn(%rdx), %rdi
        call    mfn_to_virt
        mov     %rax, ring
        mov     start_info_store_evtchn(%rdx), %eax
        mov     %eax, port

        ask     XS_READ, "name\0", "name"
        ask     XS_WRITE, "data/greeting\0hello", "writing data/greeting"
        ask     XS_READ, "data/greeting\0", "data/greeting"
        ask     XS_WRITE, "name\0other", "writing name"

        mov     $XS_TRANSACTION_START, %edi
        mov     $nothing, %rsi
        mov     $1, %edx
        call    request
        mov     $message + sizeof_header, %rdi
        call    number
        mov     %eax, %ebp
        mov     %ebp, transaction
        ask     XS_WRITE, "data/answer\0seen by all", "a write in a transaction"
        movl    $0, transaction
        ask     XS_READ, "data/answer\0", "read outside of it"
        mov     %ebp, transaction
        ask     XS_TRANSACTION_END, "T\0", "its end"
        movl    $0, transaction
        ask     XS_READ, "data/answer\0", "read again"

        ask     XS_WATCH, "control/shutdown\0token\0", "watching control/shutdown"
        call    system_time
        mov     $PATIENCE, %rdx
        add     %rdx, %rax
        mov     %rax, deadline

next_event:
        mov     deadline, %rax
        mov     %rax, poll + sched_poll_timeout
        call    receive                         # only events come unasked
        test    %eax, %eax
        jz      over
        print   "changed: "
        mov     $message + sizeof_header, %rdi
        call    print_string
        println
        mov     $XS_READ, %edi
        mov     $key, %rsi
        mov     $key_end - key, %edx
        call    request
        mov     message + sizeof_header, %ebx   # the value's first four letters
        test    %bl, %bl
        jz      next_event
        ask     XS_WRITE, "control/shutdown\0", "seen"
        cmp     reboot, %ebx
        jne     1f
        println "Asked to reboot."
        call    drain_console
        shut_down SHUTDOWN_reboot
1:      println "Asked to end."
        ret

over:   println "Nobody asks for a shutdown in five seconds: good-bye."
        ret

# Send a request of type %edi with %edx bytes at %rsi, and receive its reply. An event that comes before it is our own
# doing, and no news.
request:
        push    %rsi
        push    %rdx
        mov     %edi, header + xsd_sockmsg_type
        mov     transaction, %eax
        mov     %eax, header + xsd_sockmsg_tx_id
        mov     %edx, header + xsd_sockmsg_len
        mov     $header, %rsi
        mov     $sizeof_header, %edx
        call    put
        pop     %rdx
        pop     %rsi
        call    put
        hypercall event_channel_op, $EVTCHNOP_send, $port
        movq    $0, poll + sched_poll_timeout   # for ever
1:      call    receive
        cmpl    $XS_WATCH_EVENT, message + xsd_sockmsg_type
        je      1b
        ret

# Put %edx bytes at %rsi into the ring. It is empty whenever this guest asks something, and no request is as long as it.
put:    mov     ring, %rcx
        mov     xenstore_domain_interface_req_prod(%rcx), %edi
1:      test    %edx, %edx
        jz      2f
        mov     %edi, %eax
        and     $XENSTORE_RING_SIZE - 1, %eax
        mov     (%rsi), %r8b
        mov     %r8b, xenstore_domain_interface_req(%rcx, %rax)
        inc     %rsi
        inc     %edi
        dec     %edx
        jmp     1b
2:      mov     %edi, xenstore_domain_interface_req_prod(%rcx)
        ret

# Receive a message, its text with a NUL behind it; %eax is 0 where the time of `poll` was over before.
receive:
        mov     $message, %rdi
        mov     $sizeof_header, %edx
        call    take
        test    %eax, %eax
        jz      1f
        mov     message + xsd_sockmsg_len, %edx
        call    take
        movb    $0, (%rdi)
        mov     $1, %eax
1:      ret

# Take %edx bytes from the ring to %rdi; %eax is 0 where the time of `poll` was over before.
take:   test    %edx, %edx
        jz      3f
        mov     port, %ecx                      # look, after the pending bit is clear: what comes later sets it again
        lock btr %rcx, shared_info + shared_info_evtchn_pending
        mov     ring, %r9
        mov     xenstore_domain_interface_rsp_cons(%r9), %eax
        cmp     xenstore_domain_interface_rsp_prod(%r9), %eax
        je      2f
        inc     %eax
        mov     %eax, xenstore_domain_interface_rsp_cons(%r9)
        dec     %eax
        and     $XENSTORE_RING_SIZE - 1, %eax
        mov     xenstore_domain_interface_rsp(%r9, %rax), %al
        mov     %al, (%rdi)
        inc     %rdi
        dec     %edx
        jmp     take
2:      push    %rdi
        push    %rdx
        mov     poll + sched_poll_timeout, %rdx
        test    %rdx, %rdx
        jz      1f
        call    system_time
        cmp     %rdx, %rax
        jae     4f
1:      hypercall sched_op, $SCHEDOP_poll, $poll
        pop     %rdx
        pop     %rdi
        jmp     take
3:      mov     $1, %eax
        ret
4:      pop     %rdx
        pop     %rdi
        xor     %eax, %eax
        ret

# The decimal number at %rdi.
number: xor     %eax, %eax
1:      movzbl  (%rdi), %ecx
        sub     $'0', %ecx
        cmp     $9, %ecx
        ja      2f
        imul    $10, %eax, %eax
        add     %ecx, %eax
        inc     %rdi
        jmp     1b
2:      ret

        .data
        .balign 8
poll:                                           # struct sched_poll: ports, how many, timeout
        .quad   port
        .long   1, 0
        .quad   0
ring:   .quad   0                               # -> struct xenstore_domain_interface
deadline:
        .quad   0
port:   .long   0
transaction:
        .long   0
header: .skip   sizeof_header                   # struct xsd_sockmsg
nothing:
        .byte   0
key:    .asciz  "control/shutdown"
key_end:
reboot: .ascii  "rebo"

        .bss
message:
        .skip   sizeof_header + XENSTORE_PAYLOAD_MAX + 1
