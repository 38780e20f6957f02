# neighbour: a hostile domain beside a peaceful one, and what becomes of its attempts.
#
# The first domain grants one page read-only, keeps a secret in another, and offers its channel to nobody here. The second
# one wants more: other grants, other pages, more rights, the channel, and keys in XenStore. Xen answers each attempt with
# an error: a negative status of a grant operation, a negative errno, or the name of XenStore's error. In the end the first
# domain looks whether everything of its own is as it was.
#
# Title: A hostile neighbour: what one domain can not do to another
# Exit: 0
# Domains: 2
# Output:
#   mapping a read-only grant for writing: -1
#   mapping another domain's grant: -1
#   mapping an empty entry: -1
#   mapping behind the table: -3
#   copying from another domain's grant: -1
#   copying from a frame of the neighbour's: -8
#   copying from it as if it were one's own: -9
#   mapping that frame by a page-table entry: -16
#   granting it to oneself: -9
#   mapping what is granted, to read: 0
#   making that entry writable: -16
#   unmapping it: 0
#   unmapping it twice: -4
#   binding to a port for another: -22
#   binding to the neighbour's store: -22
#   reading what domain 0 has: EACCES
#   writing there: EACCES
#   writing into the neighbour's directory: EACCES
#   the peaceful domain still has its secret: yes
#   its grants are not in use: yes

        .include "guest.inc"
        .include "grants.inc"
        .include "store.inc"
        .include "partner.inc"
        guest   "neighbour"
        use_shared_info
        use_grants
        use_store
        use_partner

        .set    GRANTED, GNTTAB_NR_RESERVED_ENTRIES
        .set    SECRET, 0x5ec2e7

# try WHAT, STATUS: print the outcome of an operation, and forget it.
        .macro  result what, status:vararg
        print   "\what: "
        print_status \status
        println
        .endm

        .macro  errno what
        push    %rax
        print   "\what: "
        pop     %rax
        print_dec %rax
        println
        .endm

main:
        call    map_shared_info
        call    find_partner
        jz      1f
        call    find_store
        call    map_grant_table
        cmpl    $1, place
        je      peaceful
        jmp     hostile
1:      ret

peaceful:
        movq    $SECRET, secret
        mov     $GRANTED, %edi
        mov     $page, %rsi
        mov     partner, %edx
        mov     $GTF_permit_access | GTF_readonly, %ecx
        call    grant_page
        mov     $GRANTED + 1, %edi
        mov     $secret, %rsi
        xor     %edx, %edx                      # for domain 0 alone
        mov     $GTF_permit_access, %ecx
        call    grant_page
        mov     $secret, %rdi
        call    virt_to_mfn
        offer   frame, %eax
        call    own_channel                     # a port for ourselves
        offer   private, self_unbound + evtchn_alloc_unbound_port
        call    offer_bell
        call    wait_bell
        print   "the peaceful domain still has its secret: "
        mov     $SECRET, %eax
        cmp     %rax, secret
        print_if e
        print   "its grants are not in use: "
        testw   $GTF_reading | GTF_writing, grant_table + GRANTED * sizeof_grant_entry_v1
        print_if z
        ret

own_channel:
        hypercall event_channel_op, $EVTCHNOP_alloc_unbound, $self_unbound
        ret

hostile:
        seek    frame
        mov     %eax, frame
        seek    private
        mov     %eax, bind + evtchn_bind_interdomain_remote_port
        call    bind_bell
        mov     partner, %eax
        mov     %ax, map + gnttab_map_grant_ref_dom
        mov     %ax, copy + gnttab_copy_source_domid
        mov     %ax, bind + evtchn_bind_interdomain_remote_dom

        movl    $GRANTED, map + gnttab_map_grant_ref_ref
        grants  map_grant_ref, map
        result  "mapping a read-only grant for writing", map + gnttab_map_grant_ref_status
        movl    $GRANTED + 1, map + gnttab_map_grant_ref_ref
        grants  map_grant_ref, map
        result  "mapping another domain's grant", map + gnttab_map_grant_ref_status
        movl    $GRANTED + 2, map + gnttab_map_grant_ref_ref
        grants  map_grant_ref, map
        result  "mapping an empty entry", map + gnttab_map_grant_ref_status
        movl    $100000, map + gnttab_map_grant_ref_ref
        grants  map_grant_ref, map
        result  "mapping behind the table", map + gnttab_map_grant_ref_status

        mov     $buffer, %rdi
        call    virt_to_mfn
        mov     %rax, copy + gnttab_copy_dest_u_gmfn
        grants  copy, copy
        result  "copying from another domain's grant", copy + gnttab_copy_status
        mov     frame, %eax
        mov     %rax, copy + gnttab_copy_source_u_gmfn
        movw    $0, copy + gnttab_copy_flags
        grants  copy, copy
        result  "copying from a frame of the neighbour's", copy + gnttab_copy_status
        movw    $DOMID_SELF, copy + gnttab_copy_source_domid
        grants  copy, copy
        result  "copying from it as if it were one's own", copy + gnttab_copy_status

        mov     frame, %esi
        shl     $12, %rsi
        or      $KERNEL_PAGE, %rsi
        hypercall update_va_mapping, $window, %rsi, $UVMF_INVLPG
        errno   "mapping that frame by a page-table entry"
        mov     $GRANTED, %edi                  # granting what is not one's own
        mov     frame, %eax
        mov     %eax, grant_table + GRANTED * sizeof_grant_entry_v1 + grant_entry_v1_frame
        mov     own, %eax
        mov     %ax, grant_table + GRANTED * sizeof_grant_entry_v1 + grant_entry_v1_domid
        mov     %ax, map + gnttab_map_grant_ref_dom
        movw    $GTF_permit_access, grant_table + GRANTED * sizeof_grant_entry_v1
        movl    $GRANTED, map + gnttab_map_grant_ref_ref
        grants  map_grant_ref, map
        result  "granting it to oneself", map + gnttab_map_grant_ref_status

        movl    $GRANTED, map + gnttab_map_grant_ref_ref
        mov     partner, %eax
        mov     %ax, map + gnttab_map_grant_ref_dom
        movl    $GNTMAP_host_map | GNTMAP_readonly, map + gnttab_map_grant_ref_flags
        grants  map_grant_ref, map
        result  "mapping what is granted, to read", map + gnttab_map_grant_ref_status
        mov     $window, %rdi
        call    entry_of
        mov     %rax, update
        mov     map + gnttab_map_grant_ref_dev_bus_addr, %rax
        or      $KERNEL_PAGE, %rax
        mov     %rax, update + 8
        hypercall mmu_update, $update, $1, $0, $DOMID_SELF
        errno   "making that entry writable"
        mov     map + gnttab_map_grant_ref_handle, %eax
        mov     %eax, unmap + gnttab_unmap_grant_ref_handle
        grants  unmap_grant_ref, unmap
        result  "unmapping it", unmap + gnttab_unmap_grant_ref_status
        grants  unmap_grant_ref, unmap
        result  "unmapping it twice", unmap + gnttab_unmap_grant_ref_status

        hypercall event_channel_op, $EVTCHNOP_bind_interdomain, $bind
        errno   "binding to a port for another"
        movl    $1, bind + evtchn_bind_interdomain_remote_port
        hypercall event_channel_op, $EVTCHNOP_bind_interdomain, $bind
        errno   "binding to the neighbour's store"
        ask     XS_READ, "/local/domain/0/nothing\0", "reading what domain 0 has"
        ask     XS_WRITE, "/local/domain/0/mine\0yes", "writing there"
        mov     $payload, %rdi
        mov     $domains_text, %rsi
        call    put_text
        mov     partner, %ebp
        call    put_decimal
        mov     $stolen, %rsi
        call    put_text
        movb    $0, (%rdi)
        inc     %rdi
        movb    $'1', (%rdi)
        inc     %rdi
        mov     $XS_WRITE, %eax
        call    ask_about
        print   "writing into the neighbour's directory: "
        mov     $message + sizeof_header, %rdi
        call    print_string
        println
        call    ring_bell
        ret

# The machine address of the L1 entry that maps %rdi: the builder's page tables are linear from the third on, 512 entries a
# page, and `window` lies in the first 2 MiB.
entry_of:
        push    %rdi
        mov     start_info, %rax
        mov     start_info_pt_base(%rax), %rdi
        add     $3 * PAGE_SIZE, %rdi            # L4, L3, L2, and the first L1
        call    virt_to_mfn
        shl     $12, %rax
        pop     %rdi
        shr     $12, %rdi
        and     $511, %edi
        lea     (%rax, %rdi, 8), %rax
        ret

        .data
        .balign 8
        map_op  map, window, 0
        unmap_op unmap, window
copy:                                           # struct gnttab_copy
        .quad   GRANTED + 1
        .word   0, 0
        .balign 8
        .quad   0
        .word   DOMID_SELF, 0
        .balign 8
        .word   64, GNTCOPY_source_gref, 0
        .balign 8
update: .quad   0, 0                            # struct mmu_update
bind:                                           # struct evtchn_bind_interdomain
        .word   0, 0
        .long   0, 0
frame:  .long   0
stolen: .asciz  "/data/mine"

        .balign PAGE_SIZE
page:   .asciz  "you may read this"
        .balign PAGE_SIZE

        .bss
        .balign PAGE_SIZE
secret: .skip   PAGE_SIZE
window: .skip   PAGE_SIZE
buffer: .skip   PAGE_SIZE
