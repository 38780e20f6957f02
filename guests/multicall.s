# multicall: several hypercalls for the price of one, through the hypercall page.
#
# A multicall takes an array of calls, makes them one after another, and leaves each result in its entry. An error does
# not end the batch: the entry gets it and the next call follows. Linux puts its page-table changes into batches.
#
# This guest also shows the other way to make a hypercall. It has a note HYPERCALL_PAGE that names a page of its own;
# Xen fills it with code, 32 bytes for each hypercall number, so that a kernel may `call hypercall_page + 32 * number`
# without knowing which instruction enters Xen, and keeps rcx and r11.
#
# Title: A batch of hypercalls, made through the hypercall page
# Exit: 0
# Output:
#   multicall: 0
#   xen_version: 0x40011
#   update_va_mapping: 0
#   page size: 4096
#   mmu_update of nothing: 0
#   a number that is no hypercall: -38
#   a multicall in a multicall: -22
#   a page-table entry of nobody's frame: -22
#   page size again: 4096
#   both pages show one frame: yes
#   rcx and r11 kept: yes

        .include "guest.inc"
        guest   "multicall"
        elf_note XEN_ELFNOTE_HYPERCALL_PAGE, .quad hypercall_page

# The I-th entry's result, with what it is.
        .macro  result i, text, how=print_dec
        print   "\text: "
        \how    calls + \i * sizeof_multicall_entry + multicall_entry_result
        println
        .endm

# struct multicall_entry: the number, space for the result, six arguments.
        .macro  call_entry number, a1=0, a2=0, a3=0, a4=0
        .quad   \number, 0xbad, \a1, \a2, \a3, \a4, 0, 0
        .endm

main:
        mov     $page_a, %rdi
        call    virt_to_mfn
        shl     $12, %rax
        or      $KERNEL_PAGE, %rax
        mov     %rax, calls + 1 * sizeof_multicall_entry + multicall_entry_args + 8

        mov     $0x1111, %ecx
        mov     $0x2222, %r11d
        mov     $calls, %rdi
        mov     $(calls_end - calls) / sizeof_multicall_entry, %esi
        call    hypercall_page + 32 * __HYPERVISOR_multicall
        mov     %rcx, %r12
        mov     %r11, %r13
        print   "multicall: "
        print_dec %rax
        println

        result  0, "xen_version", print_hex
        result  1, "update_va_mapping"
        result  2, "page size"
        result  3, "mmu_update of nothing"
        result  4, "a number that is no hypercall"
        result  5, "a multicall in a multicall"
        result  6, "a page-table entry of nobody's frame"
        result  7, "page size again"

        print   "both pages show one frame: "
        movl    $0x1234, page_a
        cmpl    $0x1234, page_b
        print_if e
        print   "rcx and r11 kept: "
        shl     $16, %r12
        or      %r13, %r12
        cmp     $0x11112222, %r12
        print_if e
        ret

        .data
        .balign 8
calls:  call_entry __HYPERVISOR_xen_version, XENVER_version
        call_entry __HYPERVISOR_update_va_mapping, page_b, 0, UVMF_INVLPG
        call_entry __HYPERVISOR_xen_version, XENVER_pagesize
        call_entry __HYPERVISOR_mmu_update, 0, 0, 0, DOMID_SELF
        call_entry 63
        call_entry __HYPERVISOR_multicall, calls, 1
        call_entry __HYPERVISOR_mmu_update, update, 1, 0, DOMID_SELF
        call_entry __HYPERVISOR_xen_version, XENVER_pagesize
calls_end:
update: .quad   0, 0                            # struct mmu_update: frame 0 is not ours

        .bss
        .balign PAGE_SIZE
        .globl  hypercall_page
hypercall_page:
        .skip   PAGE_SIZE
page_a: .skip   PAGE_SIZE
page_b: .skip   PAGE_SIZE
