# selfmod: code that changes while it is used.
#
# A PV guest starts with all its pages writable and executable, and hv translates guest code before running it: every
# way of changing code must make the old translation disappear. This guest calls a function `answer` that returns a
# number, and changes the number by a store through the address where the function runs; by a store to the very next
# instruction; through a second, not executable mapping of the same frame (update_va_mapping), as a JIT compiler does;
# by letting Xen write (the result of a hypercall lands in the code); and by exchanging the frame under the address.
#
# `cpuid` before a call is the serialising instruction that the CPU's manual asks for when code was written through
# another address.
#
# Title: Self-modifying code, directly and through an alias
# Exit: 0
# Output:
#   as assembled: 1
#   written where it runs: 2
#   the next instruction: 3
#   written through an alias: 4
#   100 times through the alias: sum 5050
#   written by a hypercall: 6
#   another frame under the address: 7
#   the first frame again: 6

        .include "guest.inc"
        guest   "selfmod"

        .macro  serialise
        push_all
        xor     %eax, %eax
        cpuid
        pop_all
        .endm

        .macro  try text
        serialise
        print   "\text: "
        call    answer
        print_dec %rax
        println
        .endm

# The page at ADDRESS shows the frame that PAGE had at the start.
        .macro  map address, page, flags
        mov     $\page, %rdi
        call    virt_to_mfn
        shl     $12, %rax
        movabs  $\flags, %rdx
        or      %rdx, %rax
        hypercall update_va_mapping, $\address, %rax, $UVMF_INVLPG
        .endm

main:
        try     "as assembled"

        movl    $2, answer_value
        try     "written where it runs"

        print   "the next instruction: "
        call    patch_ahead
        print_dec %rax
        println

        map     alias, code, KERNEL_PAGE | _PAGE_NX
        movl    $4, alias + (answer_value - code)
        try     "written through an alias"

        xor     %ebx, %ebx
        mov     $100, %ebp
1:      mov     %ebp, alias + (answer_value - code)
        serialise
        call    answer
        add     %rax, %rbx
        dec     %ebp
        jnz     1b
        print   "100 times through the alias: sum "
        print_dec %rbx
        println

        # mmu_update counts what it has done in a word of ours: six updates of nothing in particular.
        mov     $scratch, %rdi
        call    virt_to_mfn
        shl     $12, %rax
        mov     $updates, %rdi
        mov     $6, %ecx
2:      mov     %rax, mmu_update_ptr(%rdi)      # a frame that is no page table: an ordinary write
        add     $sizeof_mmu_update, %rdi
        loop    2b
        hypercall mmu_update, $updates, $6, $answer_value, $DOMID_SELF
        try     "written by a hypercall"

        movl    $7, other_code + (answer_value - code)
        map     code, other_code, KERNEL_PAGE
        try     "another frame under the address"
        map     code, code, KERNEL_PAGE
        try     "the first frame again"
        ret

        .data
        .balign PAGE_SIZE
        .globl  answer, patch_ahead
code:
answer: mov     $1, %eax
        .set    answer_value, . - 4             # the immediate operand
        ret
patch_ahead:                                    # one block of straight-line code
        movl    $3, 1f + 1
1:      mov     $1, %eax
        ret

        .balign PAGE_SIZE
other_code:                                     # the same function, in a frame of its own
        mov     $1, %eax
        ret

        .bss
        .balign PAGE_SIZE
alias:  .skip   PAGE_SIZE
scratch:
        .skip   PAGE_SIZE
updates:
        .skip   6 * sizeof_mmu_update
