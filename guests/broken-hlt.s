# broken-hlt: waiting for an interrupt as on bare hardware.
#
# A PV kernel runs in ring 3. Xen emulates some privileged instructions for it, but not hlt: that is a general protection
# fault, here without a handler. A guest that has nothing to do asks Xen to block it (SCHEDOP_block). See `emulated` for the
# instructions that do work.
#
# Title: The privileged instruction hlt
# Exit: 6
# Output:
#   hlt.

        .include "guest.inc"
        guest   "broken-hlt"

main:
        println "hlt."
        call    drain_console
        hlt
        println "Not reached."
        ret
