# broken-handler: a page-fault handler that faults itself.
#
# The handler reads the address again that caused the fault, so it is entered again before its first instruction is
# done, and each time Xen pushes a new frame at the current rsp: there is no limit and no double fault, only the end of
# the stack. Here the page below the stack is not mapped, as it should be in any kernel, so nothing else is overwritten;
# when a frame does not fit any more, Xen destroys the domain. The reason that it gives names the stack. The mistake is in
# the handler: look at the list of the last exceptions in the report.
#
# Title: A page-fault handler that faults itself, until the stack ends
# Exit: 6
# Output:
#   Page below the stack unmapped: 0
#   Reading from 0xdead0000.

        .include "guest.inc"
        guest   "broken-handler"
        .globl  page_fault

main:
        hypercall set_trap_table, $traps
        hypercall update_va_mapping, $guard, $0, $UVMF_INVLPG
        print   "Page below the stack unmapped: "
        print_dec %rax
        println
        println "Reading from 0xdead0000."
        call    drain_console
        mov     $small_stack, %rsp
        mov     $0xdead0000, %ebx
        mov     (%rbx), %rax
page_fault:
        mov     (%rbx), %rax
        ud2

        .data
        .balign 8
traps:  trap    14, 0, page_fault
        trap    0, 0, 0

        .bss
        .balign PAGE_SIZE
guard:  .skip   2 * PAGE_SIZE
small_stack:
