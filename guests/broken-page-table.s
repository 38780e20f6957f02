# broken-page-table: writing to a page table as on bare hardware.
#
# The CPU uses a PV guest's page tables as they are, so Xen must see every change: it lets the guest map them read-only
# and nothing else. This guest stores into its top-level table, whose address is in start_info. The fault is an ordinary
# page fault with error code 0x3: the page is present, the write is refused. See `memory` for how it is done.
#
# Title: A store into its own top-level page table
# Exit: 6
# Output:
#   Clearing entry 1 of the L4 table.

        .include "guest.inc"
        guest   "broken-page-table"

main:
        println "Clearing entry 1 of the L4 table."
        call    drain_console
        mov     start_info, %rax
        mov     start_info_pt_base(%rax), %rax
        movq    $0, 8(%rax)
        println "Not reached."
        ret
