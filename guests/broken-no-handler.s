# broken-no-handler: an exception that the trap table leaves out.
#
# set_trap_table takes a list of the vectors that a guest handles, ended by a row of zeros: what stands behind that row
# is never read. This guest meant to handle the divide error too, whose vector is 0, but put its row behind the end. What
# marks the end is the address 0, not the vector.
#
# Title: A trap table that ends before the row that is needed
# Exit: 6
# Output:
#   int3 is handled.
#   Dividing by zero.

        .include "guest.inc"
        guest   "broken-no-handler"

main:
        hypercall set_trap_table, $traps
        int3
        println "Dividing by zero."
        call    drain_console
        xor     %ecx, %ecx
        div     %ecx
        println "Not reached."
        ret

        entry   breakpoint, on_breakpoint
on_breakpoint:
        println "int3 is handled."
        ret

        entry   divide, on_divide
on_divide:
        println "Not reached."
        ret

        .data
        .balign 8
traps:  trap    3, 3, breakpoint
        trap    0, 0, 0                         # the end: Xen stops at the first row whose address is 0
        trap    0, 0, divide
