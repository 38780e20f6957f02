# crash: what happens to a guest that faults without a handler.
#
# This guest reads an address that nothing maps. The CPU raises a page fault; Xen finds no handler, because the guest
# never called set_trap_table, and destroys the domain: there is no double or triple fault in a PV guest. The exit code
# is 6, and the report on stderr shows the registers, the code at rip and the page walk of the address.
#
# Title: Touches an unmapped address without a page-fault handler
# Exit: 6
# Output:
#   Reading from 0xdead0000, where nothing is.

        .include "guest.inc"
        guest   "crash"

main:
        mov     $0xdead0000, %ebx
        print   "Reading from "
        print_hex %rbx
        println ", where nothing is."
        call    drain_console
        mov     (%rbx), %rax
        println "Not reached."
        ret
