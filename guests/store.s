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
        .include "store.inc"
        guest   "store"
        use_shared_info
        use_store

        .set    PATIENCE, 5000000000            # ns

main:
        call    map_shared_info
        call    find_store

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
        mov     %ebp, store_transaction
        ask     XS_WRITE, "data/answer\0seen by all", "a write in a transaction"
        movl    $0, store_transaction
        ask     XS_READ, "data/answer\0", "read outside of it"
        mov     %ebp, store_transaction
        ask     XS_TRANSACTION_END, "T\0", "its end"
        movl    $0, store_transaction
        ask     XS_READ, "data/answer\0", "read again"

        ask     XS_WATCH, "control/shutdown\0token\0", "watching control/shutdown"
        call    system_time
        mov     $PATIENCE, %rdx
        add     %rdx, %rax
        mov     %rax, deadline

next_event:
        mov     deadline, %rax
        mov     %rax, store_poll + sched_poll_timeout
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

        .data
        .balign 8
deadline:
        .quad   0
nothing:
        .byte   0
key:    .asciz  "control/shutdown"
key_end:
reboot: .ascii  "rebo"
