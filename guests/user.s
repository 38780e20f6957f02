# user: a user mode, with its own page table and system calls.
#
# On x86-64 both the guest's kernel and its user code run in ring 3, so page protection cannot keep them apart. Xen
# therefore keeps two top-level page tables for each vCPU and switches between them: iret with RPL 3 in CS goes to user
# mode, and every exception, event and `syscall` from there comes back to the kernel's table and to the stack that
# stack_switch named. The same instruction, `syscall`, is a hypercall in kernel mode and a system call in user mode,
# which enters the guest at its syscall callback.
#
# This guest builds the smallest user address space: one table of each level, a page of code at 4 MiB and a page of
# stack above it. Each page that becomes a page table is made read-only first; NEW_USER_BASEPTR then validates the whole
# tree. The user program below makes system calls (rax: 0 exit, 1 print the number in rdi) and tries two things that it
# may not do: look at their error codes, in which bit 2 (U) says "from user mode".
#
# Title: User mode: a second page table, system calls, faults from ring 3
# Exit: 0
# Output:
#   user page table: 0
#   system call from user mode: 42
#   system call from user mode: 43
#   page fault from user mode: error 0x4, the kernel's address: yes
#   page fault from user mode: error 0x7, its own code: yes
#   system call from user mode: 44
#   user mode ended, events masked 0, its CS 0xe033

        .include "guest.inc"
        guest   "user"
        use_shared_info

        .set    USER_CODE, 0x400000
        .set    USER_STACK, 0x401000
        .set    SYSTEM_CALL_EXIT, 0
        .set    USER_PAGE_RO, _PAGE_PRESENT | _PAGE_USER | _PAGE_ACCESSED
        .set    USER_PAGE, USER_PAGE_RO | _PAGE_RW | _PAGE_DIRTY

# Entry INDEX of the table at TABLE: the frame of PAGE with FLAGS. The table is still an ordinary page.
        .macro  link table, index, page, flags
        mov     $\page, %rdi
        call    virt_to_mfn
        shl     $12, %rax
        or      $\flags, %rax
        mov     %rax, \table + 8 * \index
        .endm

# Take away the kernel's writable mapping of PAGE.
        .macro  make_read_only page
        mov     $\page, %rdi
        call    virt_to_mfn
        shl     $12, %rax
        or      $KERNEL_PAGE_RO, %rax
        hypercall update_va_mapping, $\page, %rax, $UVMF_INVLPG
        .endm

main:
        call    map_shared_info
        hypercall set_trap_table, $traps
        hypercall callback_op, $CALLBACKOP_register, $syscall_callback
        hypercall stack_switch, $FLAT_KERNEL_SS, $stack_top     # `main` never returns, so its stack is free

        link    user_l4, 0, user_l3, PAGE_TABLE
        link    user_l3, 0, user_l2, PAGE_TABLE
        link    user_l2, USER_CODE >> 21, user_l1, PAGE_TABLE
        link    user_l1, 0, user_code, USER_PAGE_RO
        link    user_l1, 1, user_stack, USER_PAGE
        make_read_only user_l4
        make_read_only user_l3
        make_read_only user_l2
        make_read_only user_l1
        mov     $user_l4, %rdi
        call    virt_to_mfn
        mov     %rax, base + mmuext_op_arg1_mfn
        hypercall mmuext_op, $base, $1, $0, $DOMID_SELF
        print   "user page table: "
        print_dec %rax
        println

        push    $FLAT_USER_SS
        push    $USER_STACK + PAGE_SIZE
        push    $EFLAGS_IF
        push    $FLAT_USER_CS
        push    $USER_CODE
        hypervisor_iret

        entry   syscall, on_syscall
on_syscall:
        cmpq    $SYSTEM_CALL_EXIT, frame_rax(%rdi)
        je      1f
        print   "system call from user mode: "
        print_dec frame_rdi(%rdi)
        println
        ret
1:      print   "user mode ended, events masked "
        movzbl  frame_upcall_mask(%rdi), %eax
        print_dec %rax
        print   ", its CS "
        movzwl  frame_cs(%rdi), %eax
        print_hex %rax
        println
        poweroff

        entry   page_fault, on_page_fault, error=1
on_page_fault:
        print   "page fault from user mode: error "
        print_hex frame_error(%rdi)
        mov     shared_info + vcpu_info_arch_cr2, %rax
        cmpq    $0x4, frame_error(%rdi)
        jne     1f
        print   ", the kernel's address: "
        cmp     $main, %rax
        print_if e
        jmp     2f
1:      print   ", its own code: "
        cmp     $USER_CODE, %rax
        print_if e
2:      mov     frame_rdi(%rdi), %rax           # the user program says where to go on
        mov     %rax, frame_rip(%rdi)
        ret

        .data
        .balign 8
traps:  trap    14, 0, page_fault
        trap    0, 0, 0
syscall_callback:                               # struct callback_register
        .word   CALLBACKTYPE_syscall, 0
        .long   0
        .quad   syscall
base:   .long   MMUEXT_NEW_USER_BASEPTR, 0      # struct mmuext_op
        .quad   0, 0

# The user program. It is linked here but runs at USER_CODE, so it reaches its own things relative to rip.
        .balign PAGE_SIZE
user_code:
        mov     $1, %eax
        mov     $42, %edi
        syscall
        push    $43                             # the stack works
        pop     %rdi
        syscall                                 # rax is still 1: the kernel gave back all registers but rcx and r11
        lea     1f(%rip), %rdi
        mov     $main, %rbx
        mov     (%rbx), %rbx                    # the kernel: not in this address space
1:      lea     2f(%rip), %rdi
        movl    $0, user_code(%rip)             # our own code: read-only
2:      mov     $44, %edi
        syscall
        mov     $SYSTEM_CALL_EXIT, %eax
        syscall
        ud2
        .balign PAGE_SIZE

        .bss
        .balign PAGE_SIZE
user_l4:
        .skip   PAGE_SIZE
user_l3:
        .skip   PAGE_SIZE
user_l2:
        .skip   PAGE_SIZE
user_l1:
        .skip   PAGE_SIZE
user_stack:
        .skip   PAGE_SIZE
