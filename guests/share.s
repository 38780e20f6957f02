# share: two domains share a page, and ring a bell when it has changed.
#
# A domain decides which of its pages others may use: it writes an entry into its grant table, with the other's number
# and the page's frame, and tells the other the entry's index, its reference. The other maps that reference, and both have
# the same memory. While it is mapped, Xen says so in the entry, and the one who granted it must not take it back; it can
# not make Xen forget the mapping either. The bell is an event channel: one allocates a port for the other, the other
# binds to it. Numbers go from one to the other by XenStore. In the end a page is only copied: nobody maps anything.
#
# Title: Two domains share a page, ring a bell, revoke a grant, and copy a page
# Exit: 0
# Domains: 2
# Output:
#   1: granting a page
#   2: mapped: 0, and the page says: Hello, whoever maps this
#   1: the bell rings, and the page says: Hello, granter
#   1: the grant is in use: it can not be revoked
#   2: unmapped: 0
#   1: the grant is revoked
#   2: mapping it once more: -1
#   2: copied: 0, and the page says: a copy is enough
#   1: good-bye

        .include "guest.inc"
        .include "grants.inc"
        .include "store.inc"
        .include "partner.inc"
        guest   "share"
        use_shared_info
        use_grants
        use_store
        use_partner

        .set    SHARED, GNTTAB_NR_RESERVED_ENTRIES      # the first reference that is the guest's to use
        .set    COPIED, SHARED + 1

main:
        call    map_shared_info
        call    find_partner
        jz      1f
        call    find_store
        call    map_grant_table
        cmpl    $1, place
        je      first
        jmp     second
1:      ret

# The first one has the pages.
first:
        println "1: granting a page"
        mov     $SHARED, %edi
        mov     $page, %rsi
        mov     partner, %edx
        mov     $GTF_permit_access, %ecx
        call    grant_page
        offer   grant, $SHARED
        call    offer_bell
        call    wait_bell
        print   "1: the bell rings, and the page says: "
        mov     $page, %rdi
        call    print_string
        println
        call    revoke
        call    ring_bell
        call    wait_bell
        call    revoke
        call    ring_bell
        call    wait_bell
        mov     $COPIED, %edi
        mov     $other_page, %rsi
        mov     partner, %edx
        mov     $GTF_permit_access | GTF_readonly, %ecx
        call    grant_page
        call    ring_bell
        call    wait_bell
        println "1: good-bye"
        ret

# Take the grant back, if it is not in use.
revoke:
        mov     grant_table + SHARED * sizeof_grant_entry_v1 + grant_entry_v1_flags, %cx
        test    $GTF_reading | GTF_writing, %cx
        jnz     1f
        mov     %cx, %ax
        xor     %edx, %edx
        lock cmpxchg %dx, grant_table + SHARED * sizeof_grant_entry_v1 + grant_entry_v1_flags
        jne     revoke
        println "1: the grant is revoked"
        ret
1:      println "1: the grant is in use: it can not be revoked"
        ret

# The second one maps what it was granted.
second:
        seek    grant
        mov     %eax, map + gnttab_map_grant_ref_ref
        mov     partner, %eax
        mov     %ax, map + gnttab_map_grant_ref_dom
        mov     %ax, copy + gnttab_copy_source_domid
        call    bind_bell
        grants  map_grant_ref, map
        mov     map + gnttab_map_grant_ref_handle, %eax
        mov     %eax, unmap + gnttab_unmap_grant_ref_handle
        print   "2: mapped: "
        print_status map + gnttab_map_grant_ref_status
        print   ", and the page says: "
        mov     $window, %rdi
        call    print_string
        println
        mov     $answer, %rsi
        mov     $window, %rdi
        mov     $answer_end - answer, %ecx
        rep movsb
        call    ring_bell
        call    wait_bell
        grants  unmap_grant_ref, unmap
        print   "2: unmapped: "
        print_status unmap + gnttab_unmap_grant_ref_status
        println
        call    ring_bell
        call    wait_bell
        grants  map_grant_ref, map
        print   "2: mapping it once more: "
        print_status map + gnttab_map_grant_ref_status
        println
        call    ring_bell
        call    wait_bell
        mov     $buffer, %rdi
        call    virt_to_mfn
        mov     %rax, copy + gnttab_copy_dest_u_gmfn
        grants  copy, copy
        print   "2: copied: "
        print_status copy + gnttab_copy_status
        print   ", and the page says: "
        mov     $buffer, %rdi
        call    print_string
        println
        call    ring_bell
        ret

        .data
        .balign 8
        map_op  map, window, 0
        unmap_op unmap, window
copy:                                           # struct gnttab_copy: from, to, how much
        .quad   COPIED
        .word   0, 0
        .balign 8
        .quad   0
        .word   DOMID_SELF, 0
        .balign 8
        .word   64, GNTCOPY_source_gref, 0
        .balign 8
answer: .asciz  "Hello, granter"
answer_end:

        .balign PAGE_SIZE
page:   .asciz  "Hello, whoever maps this"
        .balign PAGE_SIZE
other_page:
        .asciz  "a copy is enough"
        .balign PAGE_SIZE

        .bss
        .balign PAGE_SIZE
window: .skip   PAGE_SIZE
buffer: .skip   PAGE_SIZE
