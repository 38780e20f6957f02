# broken-stack: an exception when there is no stack to report it on.
#
# Xen pushes an exception's frame on the guest's stack: at the current rsp if the guest's kernel was interrupted. Here
# rsp points at nothing when the guest executes ud2. A CPU would try a double fault; a PV guest has none, so Xen
# destroys the domain.
#
# Title: An exception while the kernel's stack is unmapped
# Exit: 6
# Output:
#   ud2, with the stack at 0xdead0000.

        .include "guest.inc"
        guest   "broken-stack"

main:
        hypercall set_trap_table, $traps
        mov     $0xdead0000, %ebx
        print   "ud2, with the stack at "
        print_hex %rbx
        println "."
        call    drain_console
        mov     %rbx, %rsp
        ud2

        entry   undefined, on_undefined
on_undefined:
        println "Not reached."
        ret

        .data
        .balign 8
traps:  trap    6, 0, undefined
        trap    0, 0, 0
