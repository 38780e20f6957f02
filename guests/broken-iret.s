# broken-iret: returning to a user mode that does not exist.
#
# A PV64 guest has two page tables, one for its kernel and one for user mode (MMUEXT_NEW_USER_BASEPTR). The iret
# hypercall looks at the RPL of the CS in its frame: 3 means user mode. This guest asks for that without ever having set
# a user page table; there is nothing Xen could run, so it destroys the domain. See `user` for how it is done.
#
# Title: An iret to user mode without a user page table
# Exit: 6
# Output:
#   To user mode, without a user page table.

        .include "guest.inc"
        guest   "broken-iret"

main:
        println "To user mode, without a user page table."
        call    drain_console
        push    $FLAT_USER_SS
        push    $0                              # rsp
        push    $EFLAGS_IF
        push    $FLAT_USER_CS                   # RPL 3
        push    $main                           # rip
        hypervisor_iret
