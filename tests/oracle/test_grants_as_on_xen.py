"""Grants of a domain to itself: one guest, the same lines from hv and from real Xen.

What needs a second domain can not be asked of Xen here; a domain that maps its own grants goes through the same code.
"""

from __future__ import annotations

from guest_kit import assemble

import hv
from hv.testing import xen_in_qemu

ASKING = """
        .include "grants.inc"
        use_shared_info
        use_grants
        .set    FIRST, GNTTAB_NR_RESERVED_ENTRIES

        .macro  status what, where:vararg
        print   "\\what: "
        print_status \\where
        println
        .endm

        .macro  answer what
        push    %rax
        print   "\\what: "
        pop     %rax
        print_dec %rax
        println
        .endm

# map TEXT, REF, FLAGS, [ADDRESS]: its status, and what is noted in the entry then.
        .macro  try_map what, ref, flags, address=window
        mov     $\\address, %rax
        mov     %rax, map + gnttab_map_grant_ref_host_addr
        movl    $\\ref, map + gnttab_map_grant_ref_ref
        movl    $\\flags, map + gnttab_map_grant_ref_flags
        grants  map_grant_ref, map
        status  "map, \\what", map + gnttab_map_grant_ref_status
        .endm

        .macro  try_unmap what, address=window, bus=0
        mov     $\\address, %rax
        mov     %rax, unmap + gnttab_unmap_grant_ref_host_addr
        movq    $\\bus, unmap + gnttab_unmap_grant_ref_dev_bus_addr
        mov     map + gnttab_map_grant_ref_handle, %eax
        mov     %eax, unmap + gnttab_unmap_grant_ref_handle
        grants  unmap_grant_ref, unmap
        status  "unmap, \\what", unmap + gnttab_unmap_grant_ref_status
        .endm

        .macro  noted ref
        print   "  noted: "
        movzwl  grant_table + (\\ref) * 8, %eax
        print_hex %rax
        println
        .endm

        .macro  try_copy what, ref, offset=0, length=64, to=0
        movq    $\\ref, copy
        movw    $\\offset, copy + gnttab_copy_source_offset
        movw    $\\to, copy + gnttab_copy_dest_offset
        movw    $\\length, copy + gnttab_copy_len
        grants  copy, copy
        status  "copy, \\what", copy + gnttab_copy_status
        .endm

        .macro  write_grant ref, page, flags
        mov     $\\ref, %edi
        mov     $\\page, %rsi
        mov     own, %edx
        mov     $\\flags, %ecx
        call    grant_page
        .endm

        .macro  call_grants what, command, argument, count=1
        hypercall grant_table_op, $\\command, $\\argument, $\\count
        answer  "\\what"
        .endm

main:   call    map_shared_info
        call    map_grant_table
        call    own_domid
        mov     %eax, own
        mov     %ax, map + gnttab_map_grant_ref_dom
        mov     %ax, copy + gnttab_copy_source_domid
        mov     $target, %rdi
        call    virt_to_mfn
        mov     %rax, copy + gnttab_copy_dest_u_gmfn

        write_grant FIRST, page, GTF_permit_access
        write_grant FIRST + 1, page, GTF_permit_access | GTF_readonly
        write_grant FIRST + 2, page, GTF_accept_transfer
        write_grant FIRST + 3, page, GTF_permit_access | GTF_sub_page
        write_grant FIRST + 4, page, GTF_permit_access
        movw    $1234, grant_table + (FIRST + 4) * 8 + grant_entry_v1_domid
        write_grant FIRST + 5, page, GTF_permit_access
        movl    $0xfffffff, grant_table + (FIRST + 5) * 8 + grant_entry_v1_frame
        write_grant FIRST + 6, page, 0
        write_grant FIRST + 7, grant_table, GTF_permit_access   # not ours to know where it is
        mov     grant_table_mfn, %eax
        mov     %eax, grant_table + (FIRST + 7) * 8 + grant_entry_v1_frame

# mapping
        try_map "for nothing", FIRST, 0
        try_map "for writing", FIRST, GNTMAP_host_map
        noted   FIRST
        print   "  entry: "
        call    entry_of_window
        print_hex %rax
        println
        print   "  the same memory: "
        movq    $0x1234, window + 8
        cmpq    $0x1234, page + 8
        print_if e
        try_unmap "at another address", other_window
        try_unmap "at nothing that exists", 0x123456789000
        try_unmap "as it was"
        noted   FIRST
        try_unmap "once more"
        try_map "for reading", FIRST, GNTMAP_host_map | GNTMAP_readonly
        noted   FIRST
        print   "  entry: "
        call    entry_of_window
        print_hex %rax
        println
        try_unmap "of that"
        try_map "with software bits", FIRST, GNTMAP_host_map | 7 << 16
        print   "  entry: "
        call    entry_of_window
        print_hex %rax
        println
        try_unmap "of that"
        try_map "for applications", FIRST, GNTMAP_host_map | GNTMAP_application_map
        print   "  entry: "
        call    entry_of_window
        print_hex %rax
        println
        try_unmap "of that"
        try_map "for devices", FIRST, GNTMAP_device_map
        noted   FIRST
        try_unmap "with a wrong bus address", 0, 0x1000
        mov     map + gnttab_map_grant_ref_dev_bus_addr, %rax
        mov     %rax, bus
        movq    $0, unmap + gnttab_unmap_grant_ref_host_addr
        mov     %rax, unmap + gnttab_unmap_grant_ref_dev_bus_addr
        grants  unmap_grant_ref, unmap
        status  "unmap for devices", unmap + gnttab_unmap_grant_ref_status
        noted   FIRST
        try_map "a read-only one for writing", FIRST + 1, GNTMAP_host_map
        noted   FIRST + 1
        try_map "a read-only one", FIRST + 1, GNTMAP_host_map | GNTMAP_readonly
        try_unmap "of that"
        try_map "an offer to accept a page", FIRST + 2, GNTMAP_host_map
        try_map "with the bit for parts", FIRST + 3, GNTMAP_host_map
        try_map "another domain's", FIRST + 4, GNTMAP_host_map
        try_map "a frame that does not exist", FIRST + 5, GNTMAP_host_map
        noted   FIRST + 5
        try_map "an empty one", FIRST + 6, GNTMAP_host_map
        try_map "the table itself", FIRST + 7, GNTMAP_host_map
        try_unmap "of that"
        try_map "behind the table", 100000, GNTMAP_host_map
        try_map "where nothing is", FIRST, GNTMAP_host_map, 0x123456789000
        try_map "at Xen's address", FIRST, GNTMAP_host_map, 0xffff830000000000
        try_map "into what is no page table", FIRST, GNTMAP_host_map | GNTMAP_contains_pte, 8
        noted   FIRST
        movw    $9999, map + gnttab_map_grant_ref_dom
        try_map "of nobody", FIRST, GNTMAP_host_map
        movw    $DOMID_SELF, map + gnttab_map_grant_ref_dom
        try_map "of DOMID_SELF", FIRST, GNTMAP_host_map
        mov     own, %eax
        mov     %ax, map + gnttab_map_grant_ref_dom

# handles: a second mapping of the same grant
        try_map "once", FIRST, GNTMAP_host_map
        mov     map + gnttab_map_grant_ref_handle, %eax
        mov     %eax, replace + gnttab_unmap_and_replace_handle
        try_map "and once more to read", FIRST, GNTMAP_host_map | GNTMAP_readonly, other_window
        noted   FIRST
        try_unmap "the reader at the writer's address", window
        try_unmap "the reader", other_window
        noted   FIRST
        call_grants "replace", GNTTABOP_unmap_and_replace, replace
        status  "  its status", replace + gnttab_unmap_and_replace_status
        print   "  what was elsewhere is here: "
        cmpq    $0x77, window
        print_if e
        noted   FIRST

# copies
        try_copy "whole", FIRST, 0, 4096
        print   "  it is there: "
        cmpq    $0x1234, target + 8
        print_if e
        try_copy "from a read-only one", FIRST + 1
        try_copy "across the end of the source", FIRST, 4090, 7
        try_copy "across the end of the target", FIRST, 0, 7, 4090
        try_copy "up to the end", FIRST, 4090, 6, 4090
        try_copy "nothing", FIRST, 4096, 0, 4096
        try_copy "with the bit for parts", FIRST + 3
        try_copy "an offer to accept a page", FIRST + 2
        try_copy "another domain's", FIRST + 4
        try_copy "a frame that does not exist", FIRST + 5
        try_copy "behind the table", 100000
        movw    $DOMID_SELF, copy + gnttab_copy_source_domid
        try_copy "of DOMID_SELF", FIRST
        movw    $9999, copy + gnttab_copy_source_domid
        try_copy "of nobody", FIRST
        mov     own, %eax
        mov     %ax, copy + gnttab_copy_source_domid
        movw    $0, copy + gnttab_copy_flags
        try_copy "a frame of a named domain", FIRST
        movw    $DOMID_SELF, copy + gnttab_copy_source_domid
        mov     grant_table + FIRST * 8 + grant_entry_v1_frame, %eax
        mov     %rax, copy
        grants  copy, copy
        status  "copy, a frame of its own", copy + gnttab_copy_status
        movw    $GNTCOPY_source_gref | GNTCOPY_dest_gref, copy + gnttab_copy_flags
        movw    $DOMID_SELF, copy + gnttab_copy_dest_domid
        movq    $FIRST + 1, copy + gnttab_copy_dest_u_ref
        try_copy "into a read-only one", FIRST
        movq    $FIRST, copy + gnttab_copy_dest_u_ref
        try_copy "onto itself", FIRST, 0, 64, 32
        noted   FIRST

# the rest
        call_grants "swap with itself", GNTTABOP_swap_grant_ref, swap
        status  "  its status", swap + gnttab_swap_grant_ref_status
        movl    $FIRST + 8, swap + gnttab_swap_grant_ref_ref_b
        call_grants "swap", GNTTABOP_swap_grant_ref, swap
        status  "  its status", swap + gnttab_swap_grant_ref_status
        noted   FIRST
        noted   FIRST + 8
        movl    $100000, swap + gnttab_swap_grant_ref_ref_b
        call_grants "swap behind the table", GNTTABOP_swap_grant_ref, swap
        status  "  its status", swap + gnttab_swap_grant_ref_status
        call_grants "count of 0", GNTTABOP_copy, copy, 0
        call_grants "count of 0 at no address", GNTTABOP_copy, 0x123456789000, 0
        call_grants "count of 1 at no address", GNTTABOP_copy, 0x123456789000, 1
        call_grants "negative count", GNTTABOP_copy, copy, 0x80000000
        call_grants "count of 0 at Xen's address", GNTTABOP_copy, 0xffff830000000000, 0
        call_grants "bits of a continuation", GNTTABOP_copy | 0x1000, copy, 1
        call_grants "no such operation", 99, copy, 1
        call_grants "dump_table", GNTTABOP_dump_table, copy, 1
        call_grants "setup_table of two", GNTTABOP_setup_table, grant_setup, 2
        call_grants "get_version", GNTTABOP_get_version, asked_version, 1
        mov     asked_version + gnttab_get_version_version, %eax
        answer  "  it is"
        .irp    wanted, 3, 0, 1
        movl    $\\wanted, version
        call_grants "set_version \\wanted", GNTTABOP_set_version, version
        mov     version, %eax
        answer  "  it is"
        .endr
        try_map "before a change of version", FIRST + 8, GNTMAP_host_map
        movl    $2, version
        call_grants "set_version 2 while one is in use", GNTTABOP_set_version, version
        try_unmap "of that"
        movl    $2, version
        call_grants "set_version 2", GNTTABOP_set_version, version

# version 2: entries have 16 bytes; their status is elsewhere
        mov     $page, %rdi
        call    virt_to_mfn
        mov     %rax, grant_table + 10 * 16 + grant_entry_v2_sub_page_frame
        movw    $100, grant_table + 10 * 16 + grant_entry_v2_sub_page_page_off
        movw    $50, grant_table + 10 * 16 + grant_entry_v2_sub_page_length
        mov     own, %edx
        mov     %dx, grant_table + 10 * 16 + grant_entry_v2_hdr_domid
        movw    $GTF_permit_access | GTF_sub_page, grant_table + 10 * 16
        mov     %dx, grant_table + 11 * 16 + grant_entry_v2_hdr_domid
        mov     %dx, grant_table + 11 * 16 + grant_entry_v2_transitive_trans_domid
        movl    $10, grant_table + 11 * 16 + grant_entry_v2_transitive_gref
        movw    $GTF_transitive, grant_table + 11 * 16
        mov     %dx, grant_table + 12 * 16 + grant_entry_v2_hdr_domid
        movw    $9999, grant_table + 12 * 16 + grant_entry_v2_transitive_trans_domid
        movw    $GTF_transitive, grant_table + 12 * 16
        movw    $GNTCOPY_source_gref, copy + gnttab_copy_flags
        movw    $DOMID_SELF, copy + gnttab_copy_dest_domid
        mov     $target, %rdi
        call    virt_to_mfn
        mov     %rax, copy + gnttab_copy_dest_u_gmfn
        try_copy "the part", 10, 100, 50
        try_copy "before the part", 10, 99, 2
        try_copy "behind the part", 10, 149, 2
        try_copy "transitive, to itself", 11
        try_copy "transitive, to nobody", 12
        try_map "a part", 10, GNTMAP_host_map
        try_map "a transitive one", 11, GNTMAP_host_map
        try_map "the last of version 1", 511, GNTMAP_host_map
        movl    $1, version
        call_grants "set_version 1", GNTTABOP_set_version, version
        ret

# The L1 entry that maps `window`, without its frame: read where the page table is mapped, as the builder left it.
entry_of_window:
        push    %rdi
        push    %rbx
        mov     start_info, %rbx
        mov     start_info_pt_base(%rbx), %rbx          # L4
        mov     $window, %rdi
        shr     $39, %rdi
        call    2f
        mov     $window, %rdi
        shr     $30, %rdi
        call    2f
        mov     $window, %rdi
        shr     $21, %rdi
        call    2f
        mov     $window, %rdi
        shr     $12, %rdi
        and     $511, %edi
        mov     (%rbx, %rdi, 8), %rax
        movabs  $~PTE_ADDRESS, %rdi
        and     %rdi, %rax
        pop     %rbx
        pop     %rdi
        ret
2:      and     $511, %edi                              # the table that an entry of %rbx links
        mov     (%rbx, %rdi, 8), %rdi
        movabs  $PTE_ADDRESS, %rax
        and     %rax, %rdi
        shr     $12, %rdi
        call    mfn_to_virt
        mov     %rax, %rbx
        ret

        .data
        .balign 8
        map_op  map, window, 0
        unmap_op unmap, window
replace:                                                # struct gnttab_unmap_and_replace
        .quad   window, seventy_seven
        .long   0
        .word   0, 0
        .balign 8
copy:   .quad   FIRST                                   # struct gnttab_copy
        .word   0, 0
        .balign 8
        .quad   0
        .word   DOMID_SELF, 0
        .balign 8
        .word   64, GNTCOPY_source_gref, 0
        .balign 8
swap:   .long   FIRST, FIRST                            # struct gnttab_swap_grant_ref
        .long   0
bus:    .quad   0
version:
        .long   0
asked_version:                                          # struct gnttab_get_version
        .word   DOMID_SELF, 0
        .long   0
own:    .long   0
        .balign PAGE_SIZE
seventy_seven:
        .quad   0x77
        .balign PAGE_SIZE
        .bss
        .balign PAGE_SIZE
page:   .skip   PAGE_SIZE
target: .skip   PAGE_SIZE
window: .skip   PAGE_SIZE
other_window:
        .skip   PAGE_SIZE
"""


def test_the_same_answers() -> None:
    image = assemble(ASKING, "grants")
    with hv.Machine() as machine:
        domain = machine.create(image)
        machine.run(timeout=30)
        ours = domain.console.output.decode().splitlines()
    assert (domain.reason, len(ours) > 100) == ("powered off", True), ours
    assert xen_in_qemu.run(image).output.splitlines() == ours
