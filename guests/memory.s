# memory: a PV guest's own page tables, and why Xen can let it have them.
#
# A PV guest's page tables hold machine frame numbers and are used by the CPU as they are. The guest knows which machine
# frames it has (the p2m list) and can read every entry, but its page tables are mapped read-only: changes go through
# update_va_mapping (the entry for an address) or mmu_update (an entry at a machine address), and Xen checks each. The
# rule is that a frame has one type at a time: it is either mapped writable somewhere, or a page table, never both. So
# no guest can write an entry that Xen has not seen.
#
# Look at `l1_entry` for a page walk in software, at the page fault that the handler repairs and resumes, and at the end
# for a frame that changes its type: as long as it is mapped writable it cannot be pinned as a page table, and as long
# as it is pinned it cannot be mapped writable. (-16 is EBUSY, -22 is EINVAL, -1 is EPERM.)
#
# Title: Page tables: update_va_mapping, mmu_update, and what Xen refuses
# Exit: 0
# Output:
#   p2m and m2p agree on every page: yes
#   b now shows the frame of a: 0x1111
#   the walk to a ends in its frame: yes
#   a read-only by mmu_update: 0
#   write to a: fault, error 0x3, address of a: yes
#   a holds what was written: 0x2222
#   a frame that does not exist: -1
#   our own page table, writable: -16
#   our own page table, read-only: 0
#   pin c as a page table while it is writable: -22
#   c read-only: 0
#   pin it now: 0
#   c writable again: -16
#   unpin it: 0
#   c writable now: 0

        .include "guest.inc"
        guest   "memory"
        use_shared_info

# Print TEXT, and the result of the hypercall that stood before it.
        .macro  result text
        print   "\text: "
        print_dec %rax
        println
        .endm

# update_va_mapping: the page at ADDRESS shows frame %rax with FLAGS.
        .macro  map address, flags
        shl     $12, %rax
        or      $\flags, %rax
        hypercall update_va_mapping, $\address, %rax, $UVMF_INVLPG
        .endm

        .macro  frame_of address
        mov     $\address, %rdi
        call    virt_to_mfn
        .endm

main:
        call    map_shared_info
        hypercall set_trap_table, $traps

        # Every frame that the p2m list names is known to Xen by our number for it.
        print   "p2m and m2p agree on every page: "
        mov     start_info, %rbx
        mov     start_info_mfn_list(%rbx), %rsi
        movabs  $MACH2PHYS_VIRT_START, %rdx
        xor     %ecx, %ecx
1:      mov     (%rsi, %rcx, 8), %rax
        cmp     (%rdx, %rax, 8), %rcx
        jne     2f
        inc     %rcx
        cmp     start_info_nr_pages(%rbx), %rcx
        jb      1b
2:      cmp     start_info_nr_pages(%rbx), %rcx
        print_if e

        # Two addresses, one frame.
        frame_of page_a
        map     page_b, KERNEL_PAGE
        movl    $0x1111, page_a
        print   "b now shows the frame of a: "
        mov     page_b, %eax
        print_hex %rax
        println

        # The entry of page_a, found by walking; then without its write bit, through its machine address.
        mov     $page_a, %rdi
        call    l1_entry
        mov     %rax, %rbx                      # rbx: virtual address of the entry
        mov     (%rbx), %r12                    # r12: the entry
        frame_of page_a
        shl     $12, %rax
        movabs  $PTE_ADDRESS, %rdx
        and     %r12, %rdx
        print   "the walk to a ends in its frame: "
        cmp     %rdx, %rax
        print_if e
        mov     %rbx, %rdi
        call    virt_to_mfn
        shl     $12, %rax
        mov     %ebx, %edx
        and     $PAGE_SIZE - 1, %edx
        or      %rdx, %rax                      # the low bits of an entry's address are 0: MMU_NORMAL_PT_UPDATE
        mov     %rax, update + mmu_update_ptr
        and     $~_PAGE_RW, %r12
        mov     %r12, update + mmu_update_val
        hypercall mmu_update, $update, $1, $0, $DOMID_SELF
        result  "a read-only by mmu_update"
        hypercall mmuext_op, $flush, $1, $0, $DOMID_SELF        # mmu_update does not flush the TLB

        # The handler makes it writable again, and the instruction succeeds.
        print   "write to a: "
        movl    $0x2222, page_a
        print   "a holds what was written: "
        mov     page_a, %eax
        print_hex %rax
        println

        # What Xen refuses, and what it does not.
        movabs  $0x3ffffffff, %rax
        map     page_b, KERNEL_PAGE
        result  "a frame that does not exist"
        mov     %rbx, %rdi
        call    virt_to_mfn                     # the frame of the L1 table
        mov     %rax, %r13
        map     page_b, KERNEL_PAGE
        result  "our own page table, writable"
        mov     %r13, %rax
        map     page_b, KERNEL_PAGE_RO
        result  "our own page table, read-only"

        # A frame of zeros is a good page table: all entries are empty.
        frame_of page_c
        mov     %rax, pin + mmuext_op_arg1_mfn
        mov     %rax, unpin + mmuext_op_arg1_mfn
        mov     %rax, %r13
        hypercall mmuext_op, $pin, $1, $0, $DOMID_SELF
        result  "pin c as a page table while it is writable"
        mov     %r13, %rax
        map     page_c, KERNEL_PAGE_RO
        result  "c read-only"
        hypercall mmuext_op, $pin, $1, $0, $DOMID_SELF
        result  "pin it now"
        mov     %r13, %rax
        map     page_c, KERNEL_PAGE
        result  "c writable again"
        hypercall mmuext_op, $unpin, $1, $0, $DOMID_SELF
        result  "unpin it"
        mov     %r13, %rax
        map     page_c, KERNEL_PAGE
        result  "c writable now"
        ret

# Where the L1 entry of address %rdi can be read: nine bits of the address choose the entry on each of four levels, and
# an entry holds the machine frame of the next table, whose virtual address mfn_to_virt knows.
l1_entry:
        push    %rcx
        push    %rdx
        push    %rdi
        mov     %rdi, %rdx
        mov     start_info, %rax
        mov     start_info_pt_base(%rax), %rax
        mov     $39, %ecx                       # the L4 index begins at bit 39
1:      mov     %rdx, %rdi
        shr     %cl, %rdi
        and     $511, %edi
        lea     (%rax, %rdi, 8), %rax
        cmp     $12, %ecx
        je      2f
        sub     $9, %ecx
        movabs  $PTE_ADDRESS, %rdi
        and     (%rax), %rdi
        shr     $12, %rdi
        call    mfn_to_virt
        jmp     1b
2:      pop     %rdi
        pop     %rdx
        pop     %rcx
        ret

        entry   page_fault, on_page_fault, error=1
on_page_fault:
        print   "fault, error "
        print_hex frame_error(%rdi)
        print   ", address of a: "
        cmpq    $page_a, shared_info + vcpu_info_arch_cr2
        print_if e
        frame_of page_a
        map     page_a, KERNEL_PAGE
        ret

        .data
        .balign 8
traps:  trap    14, 0, page_fault
        trap    0, 0, 0
flush:  .long   MMUEXT_INVLPG_LOCAL, 0          # struct mmuext_op: cmd, arg1, arg2
        .quad   page_a, 0
pin:    .long   MMUEXT_PIN_L1_TABLE, 0
        .quad   0, 0
unpin:  .long   MMUEXT_UNPIN_TABLE, 0
        .quad   0, 0

        .bss
        .balign 8
update: .skip   sizeof_mmu_update
        .balign PAGE_SIZE
page_a: .skip   PAGE_SIZE
page_b: .skip   PAGE_SIZE
page_c: .skip   PAGE_SIZE
