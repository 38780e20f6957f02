# broken-hypercall-page: hypercalls through a page that nobody has filled.
#
# A kernel may make hypercalls by calling into a page of its own, 32 bytes for each number, which Xen fills with the right
# instructions if the note XEN_ELFNOTE_HYPERCALL_PAGE says where it is. This guest has the page but not the note, so it
# calls into zeros. Two zero bytes are `add %al, (%rax)`: what happens depends on rax.
#
# Title: A hypercall page without its ELF note
# Exit: 6
# Output:
#   Calling xen_version through the hypercall page.

        .include "guest.inc"
        guest   "broken-hypercall-page"
        .globl  hypercall_page

main:
        println "Calling xen_version through the hypercall page."
        call    drain_console
        xor     %eax, %eax
        mov     $XENVER_version, %edi
        call    hypercall_page + 32 * __HYPERVISOR_xen_version
        println "Not reached."
        ret

        .bss
        .balign PAGE_SIZE
hypercall_page:
        .skip   PAGE_SIZE
