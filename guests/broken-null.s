# broken-null: a call through a null pointer.
#
# The page at address 0 is not mapped, so the fetch of the first instruction there faults. The report has no code to show
# at rip; the return address that the call has pushed says where it came from.
#
# Title: A call through a null pointer
# Exit: 6
# Output:
#   Calling address 0.

        .include "guest.inc"
        guest   "broken-null"

main:
        println "Calling address 0."
        call    drain_console
        xor     %eax, %eax
        call    *%rax
        println "Not reached."
        ret
