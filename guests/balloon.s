# balloon: giving memory back to Xen, and getting some again.
#
# A guest may have fewer frames than its maximum: a balloon driver gives frames away when others need them. A frame goes
# by its machine number (XENMEM_decrease_reservation), but not before nothing maps it any more. XENMEM_populate_physmap puts
# a new frame at one of the guest's frame numbers and tells which machine frame it is; XENMEM_increase_reservation gives a
# frame without a number, and the guest says itself which one it shall have (MMU_MACHPHYS_UPDATE). The p2m list is the
# guest's own business: Xen never changes it. A result is the number of extents that were done.
#
# Look at the second decrease: the frame is still mapped, so it counts until the mapping is gone.
#
# Title: Memory reservations: decrease, populate, increase, and their limits
# Exit: 0
# Output:
#   current reservation is nr_pages: yes
#   the maximum is not less: yes
#   unmap a page: 0
#   decrease by its frame: 1
#   current reservation: 1 less
#   the m2p still knows the frame as ours: no
#   map it again: refused
#   decrease by it again: 0
#   decrease by a frame that is mapped: 1
#   current reservation: 1 less
#   unmap it: 0
#   current reservation: 2 less
#   populate both numbers: 2
#   the m2p knows the new frames by them: yes
#   map the first: 0
#   it can be written and read: yes
#   current reservation is nr_pages: yes
#   decrease by the first while it is in use, and unmap it: 1, 0
#   increase: 1
#   give it the number: 0
#   the m2p knows it: yes
#   map it: 0
#   current reservation is nr_pages: yes
#   a list of frames at a bad address: 0
#   one more than the maximum: 0

        .include "guest.inc"
        guest   "balloon"

        .macro  result text
        print   "\text: "
        print_dec %rax
        println
        .endm

# memory_op NAME with COUNT frames or frame numbers of the list at `extents`.
        .macro  reserve name, count
        movq    $\count, reservation + xen_memory_reservation_nr_extents
        hypercall memory_op, $XENMEM_\name, $reservation
        .endm

        .macro  current
        hypercall memory_op, $XENMEM_current_reservation, $self
        .endm

        .macro  print_current
        current
        print   "current reservation: "
        mov     start_info, %rbx
        mov     start_info_nr_pages(%rbx), %rbx
        sub     %rax, %rbx
        print_dec %rbx
        println " less"
        .endm

        .macro  is_complete
        current
        mov     start_info, %rbx
        print   "current reservation is nr_pages: "
        cmp     start_info_nr_pages(%rbx), %rax
        print_if e
        .endm

# The page at ADDRESS shows machine frame FRAME, or nothing.
        .macro  map_frame address, frame
        mov     \frame, %rsi
        shl     $12, %rsi
        or      $KERNEL_PAGE, %rsi
        hypercall update_va_mapping, $\address, , $UVMF_INVLPG
        .endm
        .macro  unmap address
        hypercall update_va_mapping, $\address, $0, $UVMF_INVLPG
        .endm

        .macro  frame_of address, register
        mov     $\address, %rdi
        call    virt_to_mfn
        mov     %rax, \register
        .endm

# The guest's number for the frame at ADDRESS.
        .macro  number_of address, where
        mov     $\address, %rax
        sub     $VIRT_BASE, %rax
        shr     $12, %rax
        .ifnc   \where, %rax
        mov     %rax, \where
        .endif
        .endm

# Compare the m2p's number for machine frame FRAME with the one of ADDRESS.
        .macro  compare_m2p frame, address
        movabs  $MACH2PHYS_VIRT_START, %rdx
        mov     \frame, %rcx
        number_of \address, %rax
        cmp     (%rdx, %rcx, 8), %rax
        .endm

main:
        is_complete
        current
        mov     %rax, %r15
        hypercall memory_op, $XENMEM_maximum_reservation, $self
        print   "the maximum is not less: "
        cmp     %r15, %rax
        print_if ae

        frame_of page_a, %r12
        unmap   page_a
        result  "unmap a page"
        mov     %r12, extents
        reserve decrease_reservation, 1
        result  "decrease by its frame"
        print_current
        print   "the m2p still knows the frame as ours: "
        compare_m2p %r12, page_a
        je      1f
        println "no"
        jmp     2f
1:      println "YES"
2:      map_frame page_a, %r12
        print   "map it again: "
        test    %rax, %rax
        jns     1f
        println "refused"
        jmp     2f
1:      println "DONE"
2:      reserve decrease_reservation, 1
        result  "decrease by it again"

        frame_of page_b, extents
        reserve decrease_reservation, 1
        result  "decrease by a frame that is mapped"
        print_current
        unmap   page_b
        result  "unmap it"
        print_current

        number_of page_a, extents
        number_of page_b, extents + 8
        reserve populate_physmap, 2
        result  "populate both numbers"
        print   "the m2p knows the new frames by them: "
        compare_m2p extents, page_a
        jne     1f
        compare_m2p extents + 8, page_b
1:      print_if e
        map_frame page_a, extents
        result  "map the first"
        movl    $0x600d, page_a
        print   "it can be written and read: "
        cmpl    $0x600d, page_a
        print_if e
        is_complete

        reserve decrease_reservation, 1
        mov     %rax, %rbx
        unmap   page_a
        print   "decrease by the first while it is in use, and unmap it: "
        print_dec %rbx
        print   ", "
        print_dec %rax
        println
        reserve increase_reservation, 1
        result  "increase"
        mov     extents, %rax
        shl     $12, %rax
        or      $MMU_MACHPHYS_UPDATE, %rax
        mov     %rax, update + mmu_update_ptr
        number_of page_a, update + mmu_update_val
        hypercall mmu_update, $update, $1, $0, $DOMID_SELF
        result  "give it the number"
        print   "the m2p knows it: "
        compare_m2p extents, page_a
        print_if e
        map_frame page_a, extents
        result  "map it"
        is_complete

        mov     $0xdead0000, %eax
        mov     %rax, reservation + xen_memory_reservation_extent_start
        reserve decrease_reservation, 1
        result  "a list of frames at a bad address"
        movq    $extents, reservation + xen_memory_reservation_extent_start
        number_of page_a, extents
        reserve populate_physmap, 1
        result  "one more than the maximum"
        ret

        .data
        .balign 8
reservation:                                    # struct xen_memory_reservation
        .quad   extents, 0
        .long   0, 0                            # extent_order, mem_flags
        .word   DOMID_SELF
        .balign 8
self:   .word   DOMID_SELF                      # struct xen_memory_domain

        .bss
        .balign 8
extents:
        .skip   16
update: .skip   sizeof_mmu_update
        .balign PAGE_SIZE
page_a: .skip   PAGE_SIZE
page_b: .skip   PAGE_SIZE
