# bench: how long it takes to cross the line between guest and hypervisor, in the guest's own time.
#
# A row is announced (BEGIN), runs n operations, and is reported (BENCH) with the system time that passed and a checksum
# of what was computed, which shows that it did run. The command line is `[n] [start of names]`: rows that take longer
# run a fraction of n, and only rows whose names begin so are run. The same image runs on real Xen, as its domain 0:
# bench/compare_xen.py puts both side by side. With `--clock host` the nanoseconds are the host's; those of the virtual
# clock below are exact, and say nothing about speed.
#
# Upcalls and exceptions have handlers of a few instructions here, not those of guest.inc that save everything: what is
# measured is the hypervisor. An operation of a row that names a number (of calls in a multicall, of updates in a call)
# is one of them, not the whole.
#
# Title: Benchmark: hypercalls, events, page tables and traps, timed by the guest
# Exit: 0
# Output:
#   BEGIN null_hypercall n=2048
#   BENCH null_hypercall n=2048 ns=213530 chk=536905728
#   BEGIN null_in_multicall_of_64 n=2048
#   BENCH null_in_multicall_of_64 n=2048 ns=3554 chk=8389152
#   BEGIN set_segment_base n=2048
#   BENCH set_segment_base n=2048 ns=214554 chk=0
#   BEGIN sched_op_yield n=512
#   BENCH sched_op_yield n=512 ns=53402 chk=0
#   BEGIN ipi_send_upcall_iret n=1024
#   BENCH ipi_send_upcall_iret n=1024 ns=239386 chk=1024
#   BEGIN loopback_send_upcall_iret n=1024
#   BENCH loopback_send_upcall_iret n=1024 ns=239386 chk=1024
#   BEGIN events_64_sends_then_upcall n=1024
#   BENCH events_64_sends_then_upcall n=1024 ns=120846 chk=1024
#   BEGIN events_multicall_of_64_sends_then_upcall n=1024
#   BENCH events_multicall_of_64_sends_then_upcall n=1024 ns=11955 chk=1024
#   BEGIN send_to_pending_port n=2048
#   BENCH send_to_pending_port n=2048 ns=218651 chk=0
#   BEGIN update_va_mapping_NONE n=1024
#   BENCH update_va_mapping_NONE n=1024 ns=110746 chk=0
#   BEGIN update_va_mapping_INVLPG n=1024
#   BENCH update_va_mapping_INVLPG n=1024 ns=110747 chk=0
#   BEGIN mmu_update_single n=1024
#   BENCH mmu_update_single n=1024 ns=110747 chk=0
#   BEGIN mmu_update_64_a_call n=2048
#   BENCH mmu_update_64_a_call n=2048 ns=3507 chk=0
#   BEGIN pin_and_unpin_l1_with_512_entries n=8
#   BENCH pin_and_unpin_l1_with_512_entries n=8 ns=1756 chk=0
#   BEGIN trapped_write_to_an_l1 n=512
#   BENCH trapped_write_to_an_l1 n=512 ns=51547 chk=0
#   BEGIN mmuext_tlb_flush_local n=256
#   BENCH mmuext_tlb_flush_local n=256 ns=27867 chk=0
#   BEGIN mmuext_invlpg_local n=1024
#   BENCH mmuext_invlpg_local n=1024 ns=111386 chk=0
#   BEGIN mmuext_new_baseptr n=256
#   BENCH mmuext_new_baseptr n=256 ns=27866 chk=0
#   BEGIN grant_copy_4096_bytes n=1024
#   BENCH grant_copy_4096_bytes n=1024 ns=113691 chk=0
#   BEGIN grant_copy_64_bytes n=1024
#   BENCH grant_copy_64_bytes n=1024 ns=113690 chk=0
#   BEGIN grant_map_and_unmap_single n=1024
#   BENCH grant_map_and_unmap_single n=1024 ns=226587 chk=0
#   BEGIN grant_map_and_unmap_32_a_call n=1024
#   BENCH grant_map_and_unmap_32_a_call n=1024 ns=13683 chk=0
#   BEGIN grant_map_touch_and_unmap n=1024
#   BENCH grant_map_touch_and_unmap n=1024 ns=228635 chk=0
#   BEGIN undefined_instruction_bounced_and_back n=512
#   BENCH undefined_instruction_bounced_and_back n=512 ns=106139 chk=512
#   BEGIN page_fault_bounced_and_back n=512
#   BENCH page_fault_bounced_and_back n=512 ns=106650 chk=512
#   BEGIN mov_from_cr0_emulated n=512
#   BENCH mov_from_cr0_emulated n=512 ns=52634 chk=512
#   BEGIN cpuid_by_forced_emulation n=1024
#   BENCH cpuid_by_forced_emulation n=1024 ns=107291 chk=268452864
#   BEGIN user_system_call_and_back n=256
#   BENCH user_system_call_and_back n=256 ns=53224 chk=256
#   BEGIN alu_loop_of_4_instructions n=131072
#   BENCH alu_loop_of_4_instructions n=131072 ns=393242 chk=131072

        .include "guest.inc"
        .include "grants.inc"
        guest   "bench"
        use_shared_info
        use_grants

        .set    PORTS, 64
        .set    GRANTS, 32
        .set    BATCH, 64
        .set    USER_CODE, 0x400000
        .set    USER_PAGE_RO, _PAGE_PRESENT | _PAGE_USER | _PAGE_ACCESSED
        .set    NOWHERE, 0x10000000             # nothing is mapped there

# row NAME, PER, SHIFT: run the code from here to `end_row NAME` until n >> SHIFT operations are done, PER in each round.
# Rounds are counted in %rbx; the code adds what it computes to %r13, and keeps %r14.
        .macro  row name, per=1, shift=0
        .pushsection .rodata
.Lname_\name:
        .asciz  "\name"
        .popsection
        mov     $.Lname_\name, %rdi
        mov     $\per, %esi
        mov     $\shift, %ecx
        call    begin_row
        jz      .Lend_\name
.Lround_\name:
        .endm

        .macro  end_row name
        dec     %rbx
        jnz     .Lround_\name
        call    report_row
.Lend_\name:
        .endm

        .macro  call_xen name                   # the hypercall alone: its arguments are in the registers
        mov     $__HYPERVISOR_\name, %eax
        syscall
        .endm

        .macro  send port
        mov     $EVTCHNOP_send, %edi
        mov     $\port, %rsi
        call_xen event_channel_op
        add     %rax, %r13
        .endm

        .macro  call_grants command, operations, count=1
        mov     $GNTTABOP_\command, %edi
        mov     $\operations, %rsi
        mov     $\count, %edx
        call_xen grant_table_op
        add     %rax, %r13
        .endm

        .macro  mmuext request
        mov     $\request, %rdi
        mov     $1, %esi
        xor     %edx, %edx
        mov     $DOMID_SELF, %r10d
        call_xen mmuext_op
        add     %rax, %r13
        .endm

# The machine address of PAGE's frame, with FLAGS, to %rax.
        .macro  entry_of page, flags
        mov     $\page, %rdi
        call    virt_to_mfn
        shl     $12, %rax
        or      $\flags, %rax
        .endm

        .macro  make_read_only page
        entry_of \page, KERNEL_PAGE_RO
        hypercall update_va_mapping, $\page, %rax, $UVMF_INVLPG
        .endm

main:
        call    map_shared_info
        call    read_command_line
        hypercall set_trap_table, $traps
        hypercall set_callbacks, $on_upcall, $0, $on_syscall
        hypercall stack_switch, $FLAT_KERNEL_SS, $trap_stack

        row     null_hypercall
        xor     %edi, %edi
        call_xen xen_version
        add     %rax, %r13
        end_row null_hypercall

        mov     $__HYPERVISOR_xen_version, %eax
        xor     %edx, %edx
        call    fill_batch
        row     null_in_multicall_of_64, BATCH
        call    make_batch
        add     batch + multicall_entry_result, %r13
        end_row null_in_multicall_of_64

        row     set_segment_base
        xor     %edi, %edi
        xor     %esi, %esi
        call_xen set_segment_base
        add     %rax, %r13
        end_row set_segment_base

        row     sched_op_yield, 1, 2
        xor     %edi, %edi                      # SCHEDOP_yield
        call_xen sched_op
        add     %rax, %r13
        end_row sched_op_yield

# Events

        call    bind_ports
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        row     ipi_send_upcall_iret, 1, 1
        send    ipi_port
        end_row ipi_send_upcall_iret
        row     loopback_send_upcall_iret, 1, 1
        send    far_port
        end_row loopback_send_upcall_iret

        movb    $1, shared_info + vcpu_info_evtchn_upcall_mask
        row     events_64_sends_then_upcall, PORTS, 1
        xor     %r12d, %r12d
1:      mov     $EVTCHNOP_send, %edi
        lea     ports(, %r12, 4), %rsi
        call_xen event_channel_op
        add     %rax, %r13
        inc     %r12d
        cmp     $PORTS, %r12d
        jb      1b
        call    take_upcall
        end_row events_64_sends_then_upcall

        mov     $__HYPERVISOR_event_channel_op, %eax
        mov     $EVTCHNOP_send, %edx
        call    fill_batch
        row     events_multicall_of_64_sends_then_upcall, PORTS, 1
        call    make_batch
        call    take_upcall
        end_row events_multicall_of_64_sends_then_upcall

        mov     ipi_port, %eax
        lock bts %rax, shared_info + shared_info_evtchn_mask
        row     send_to_pending_port
        send    ipi_port
        end_row send_to_pending_port
        mov     ipi_port, %eax
        lock btr %rax, shared_info + shared_info_evtchn_pending

# Page tables: the page `window` shows the frames of a and b in turn.

        entry_of page_b, KERNEL_PAGE
        mov     %rax, entry_b
        entry_of page_a, KERNEL_PAGE
        mov     %rax, entry_a
        .irp    kind, NONE, INVLPG
        row     update_va_mapping_\kind, 2, 1
        .irp    frame, b, a
        mov     $window, %rdi
        mov     entry_\frame, %rsi
        mov     $UVMF_\kind, %edx
        call_xen update_va_mapping
        add     %rax, %r13
        .endr
        end_row update_va_mapping_\kind
        .endr

        call    fill_updates
        row     mmu_update_single, 2, 1
        .irp    offset, 0, sizeof_mmu_update
        mov     $updates + \offset, %rdi
        mov     $1, %esi
        xor     %edx, %edx
        mov     $DOMID_SELF, %r10d
        call_xen mmu_update
        add     %rax, %r13
        .endr
        end_row mmu_update_single
        row     mmu_update_64_a_call, BATCH
        mov     $updates, %rdi
        mov     $BATCH, %esi
        xor     %edx, %edx
        mov     $DOMID_SELF, %r10d
        call_xen mmu_update
        add     %rax, %r13
        end_row mmu_update_64_a_call

        call    make_l1
        row     pin_and_unpin_l1_with_512_entries, 1, 8
        mmuext  pin
        mmuext  unpin
        end_row pin_and_unpin_l1_with_512_entries
        # The same table, pinned: stores to it fault, and are emulated.
        hypercall vm_assist, $VMASST_CMD_enable, $VMASST_TYPE_writable_pagetables
        mmuext  pin
        mov     l1, %rbp
        row     trapped_write_to_an_l1, 2, 2
        movq    $0, l1 + 8
        mov     %rbp, l1 + 8
        end_row trapped_write_to_an_l1
        mmuext  unpin
        row     mmuext_tlb_flush_local, 1, 3
        mmuext  tlb_flush
        end_row mmuext_tlb_flush_local
        row     mmuext_invlpg_local, 1, 1
        mmuext  invlpg
        end_row mmuext_invlpg_local
        mov     start_info, %rdi
        mov     start_info_pt_base(%rdi), %rdi
        call    virt_to_mfn
        mov     %rax, new_baseptr + mmuext_op_arg1_mfn
        row     mmuext_new_baseptr, 1, 3
        mmuext  new_baseptr
        end_row mmuext_new_baseptr

# Grants: this domain grants a page to itself, and maps or copies it as any other would.

        call    make_grants
        .irp    size, 4096, 64
        movw    $\size, copy + gnttab_copy_len
        row     grant_copy_\size\()_bytes, 1, 1
        call_grants copy, copy
        movswq  copy + gnttab_copy_status, %rax
        add     %rax, %r13
        end_row grant_copy_\size\()_bytes
        .endr
        row     grant_map_and_unmap_single, 1, 1
        call_grants map_grant_ref, maps
        mov     maps + gnttab_map_grant_ref_handle, %eax
        mov     %eax, unmaps + gnttab_unmap_grant_ref_handle
        call_grants unmap_grant_ref, unmaps
        movswq  unmaps + gnttab_unmap_grant_ref_status, %rax
        add     %rax, %r13
        end_row grant_map_and_unmap_single
        row     grant_map_and_unmap_32_a_call, GRANTS, 1
        call_grants map_grant_ref, maps, GRANTS
        xor     %ecx, %ecx
        xor     %edx, %edx
1:      mov     maps + gnttab_map_grant_ref_handle(%rcx), %eax
        mov     %eax, unmaps + gnttab_unmap_grant_ref_handle(%rdx)
        add     $sizeof_gnttab_map_grant_ref, %ecx
        add     $sizeof_gnttab_unmap_grant_ref, %edx
        cmp     $GRANTS * sizeof_gnttab_map_grant_ref, %ecx
        jb      1b
        call_grants unmap_grant_ref, unmaps, GRANTS
        movswq  unmaps + (GRANTS - 1) * sizeof_gnttab_unmap_grant_ref + gnttab_unmap_grant_ref_status, %rax
        add     %rax, %r13
        end_row grant_map_and_unmap_32_a_call
        row     grant_map_touch_and_unmap, 1, 1
        call_grants map_grant_ref, maps
        mov     maps + gnttab_map_grant_ref_handle, %eax
        mov     %eax, unmaps + gnttab_unmap_grant_ref_handle
        movb    $1, grant_windows
        call_grants unmap_grant_ref, unmaps
        movswq  unmaps + gnttab_unmap_grant_ref_status, %rax
        add     %rax, %r13
        end_row grant_map_touch_and_unmap

# Traps

        row     undefined_instruction_bounced_and_back, 1, 2
        ud2
        end_row undefined_instruction_bounced_and_back
        row     page_fault_bounced_and_back, 1, 2
        movb    %al, NOWHERE
        .set    FAULTING, . - .Lround_page_fault_bounced_and_back
        end_row page_fault_bounced_and_back
        row     mov_from_cr0_emulated, 1, 2
        mov     %cr0, %rax
        and     $1, %eax
        add     %rax, %r13
        end_row mov_from_cr0_emulated
        row     cpuid_by_forced_emulation, 1, 1
        mov     %rbx, %r12
        mov     $0x40000001, %eax               # Xen's version
        ud2
        .ascii  "xen"
        cpuid
        mov     %r12, %rbx
        add     %rax, %r13
        end_row cpuid_by_forced_emulation

        call    make_user_mode
        row     user_system_call_and_back, 1, 3
        mov     %rsp, kernel_stack              # once: the rounds are made in user mode
        push    $FLAT_USER_SS
        push    $0
        push    $EFLAGS_IF
        push    $FLAT_USER_CS
        push    $USER_CODE
        hypervisor_iret
user_mode_ended:
        mov     $1, %ebx
        movb    $1, shared_info + vcpu_info_evtchn_upcall_mask
        end_row user_system_call_and_back

# No hypervisor

        row     alu_loop_of_4_instructions, 1, -6
        add     $1, %r13
        xor     %rbx, %rcx
        end_row alu_loop_of_4_instructions
        ret

# Rows --------------------------------------------------------------------------------------------------------------

# Of the row with the name at %rdi and %esi operations in a round, n >> %ecx: %rbx rounds. Zero flag: it is not wanted.
begin_row:
        push    %rdi
        push    %rsi
        mov     wanted, %r8
1:      movzbl  (%r8), %eax
        cmp     $' ' + 1, %al                   # the end of what is wanted
        jb      2f
        cmp     (%rdi), %al
        jne     4f
        inc     %r8
        inc     %rdi
        jmp     1b
2:      pop     %rsi
        pop     %rdi
        mov     %rdi, row_name
        mov     count, %rax
        test    %ecx, %ecx
        js      5f
        shr     %cl, %rax
        jmp     6f
5:      neg     %ecx
        shl     %cl, %rax
6:      xor     %edx, %edx
        div     %rsi
        test    %rax, %rax
        jnz     3f
        inc     %rax
3:      mov     %rax, %rbx
        imul    %rsi, %rax
        mov     %rax, row_count
        print   "BEGIN "
        call    print_row
        println ""
        xor     %r13d, %r13d
        call    system_time
        mov     %rax, %r14
        test    %rbx, %rbx
        ret
4:      pop     %rsi
        pop     %rdi
        xor     %eax, %eax
        ret

report_row:
        call    system_time
        sub     %r14, %rax
        mov     %rax, %r15
        print   "BENCH "
        call    print_row
        print   " ns="
        print_dec %r15
        print   " chk="
        print_dec %r13
        println ""
        ret

print_row:
        mov     row_name, %rdi
        call    print_string
        print   " n="
        print_dec row_count
        ret

# [n] [start of names]: decimal digits, if there are any, and what follows them.
read_command_line:
        mov     start_info, %rsi
        add     $start_info_cmd_line, %rsi
        xor     %eax, %eax
1:      movzbl  (%rsi), %ecx
        sub     $'0', %ecx
        cmp     $9, %ecx
        ja      2f
        imul    $10, %rax, %rax
        add     %rcx, %rax
        inc     %rsi
        jmp     1b
2:      cmpb    $' ', (%rsi)
        jne     3f
        inc     %rsi
        jmp     2b
3:      mov     %rsi, wanted
        test    %rax, %rax
        jz      4f
        mov     %rax, count
4:      ret

# Batches -----------------------------------------------------------------------------------------------------------

# The multicall: BATCH times hypercall %rax with %rdx and the address of a port.
fill_batch:
        mov     $batch, %rdi
        mov     $ports, %rsi
1:      mov     %rax, multicall_entry_op(%rdi)
        mov     %rdx, multicall_entry_args(%rdi)
        mov     %rsi, multicall_entry_args + 8(%rdi)
        add     $sizeof_multicall_entry, %rdi
        add     $4, %rsi
        cmp     $batch + BATCH * sizeof_multicall_entry, %rdi
        jb      1b
        ret

make_batch:
        mov     $batch, %rdi
        mov     $BATCH, %esi
        call_xen multicall
        add     %rax, %r13
        ret

# BATCH updates of the entry of `window`: the frames of b and a in turn.
fill_updates:
        mov     $window, %rdi
        call    l1_entry_address
        mov     $updates, %rdi
        mov     entry_b, %rdx
        mov     entry_a, %rcx
1:      mov     %rax, mmu_update_ptr(%rdi)
        mov     %rdx, mmu_update_val(%rdi)
        xchg    %rdx, %rcx
        add     $sizeof_mmu_update, %rdi
        cmp     $updates + BATCH * sizeof_mmu_update, %rdi
        jb      1b
        ret

# The machine address of the L1 entry of address %rdi.
l1_entry_address:
        mov     %rdi, %rdx
        mov     start_info, %rax
        mov     start_info_pt_base(%rax), %rax
        mov     $39, %ecx                       # the L4 index begins at bit 39
1:      mov     %rdx, %rsi
        shr     %cl, %rsi
        and     $511, %esi
        lea     (%rax, %rsi, 8), %rax
        cmp     $12, %ecx
        je      2f
        sub     $9, %ecx
        movabs  $PTE_ADDRESS, %rdi
        and     (%rax), %rdi
        shr     $12, %rdi
        call    mfn_to_virt
        jmp     1b
2:      mov     %eax, %esi
        mov     %rax, %rdi
        call    virt_to_mfn
        and     $PAGE_SIZE - 1, %esi
        shl     $12, %rax
        or      %rsi, %rax
        ret

# A page of 512 entries, which all show page a, read-only and ready to be pinned.
make_l1:
        mov     entry_a, %rax
        mov     $l1, %rdi
        mov     $512, %ecx
        rep stosq
        make_read_only l1
        mov     $l1, %rdi
        call    virt_to_mfn
        mov     %rax, pin + mmuext_op_arg1_mfn
        mov     %rax, unpin + mmuext_op_arg1_mfn
        ret

# Events ------------------------------------------------------------------------------------------------------------

# One IPI port, a channel whose ends are both ours (far_port sends to near), and PORTS IPI ports; none is masked.
bind_ports:
        call    bind_ipi
        mov     %eax, ipi_port
        hypercall event_channel_op, $EVTCHNOP_alloc_unbound, $unbound
        mov     unbound + evtchn_alloc_unbound_port, %eax
        mov     %eax, loopback + evtchn_bind_interdomain_remote_port
        mov     %eax, far_port
        hypercall event_channel_op, $EVTCHNOP_bind_interdomain, $loopback
        mov     loopback + evtchn_bind_interdomain_local_port, %eax
        lock btr %rax, shared_info + shared_info_evtchn_pending # a new one is
        lock btr %rax, shared_info + shared_info_evtchn_mask
        movb    $0, shared_info + vcpu_info_evtchn_upcall_pending
        movq    $0, shared_info + vcpu_info_evtchn_pending_sel
        xor     %ebx, %ebx
1:      call    bind_ipi
        mov     %eax, ports(, %rbx, 4)
        inc     %ebx
        cmp     $PORTS, %ebx
        jb      1b
        ret

bind_ipi:
        hypercall event_channel_op, $EVTCHNOP_bind_ipi, $ipi
        mov     ipi + evtchn_bind_ipi_port, %eax
        lock btr %rax, shared_info + shared_info_evtchn_mask
        ret

# Let what is pending arrive: unmask, and enter Xen once.
take_upcall:
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        xor     %edi, %edi
        call_xen xen_version
        movb    $1, shared_info + vcpu_info_evtchn_upcall_mask
        ret

# The upcall: each event that is pending and not masked is cleared and counted in %r13.
on_upcall:
        pop     %rcx
        pop     %r11
        push    %rax
        push    %rcx
        push    %rdx
        push    %rsi
        movb    $0, shared_info + vcpu_info_evtchn_upcall_pending
        xor     %esi, %esi
        xchg    %rsi, shared_info + vcpu_info_evtchn_pending_sel
1:      bsf     %rsi, %rcx
        jz      3f
        btr     %rcx, %rsi
        mov     shared_info + shared_info_evtchn_mask(, %rcx, 8), %rdx
        not     %rdx
        and     shared_info + shared_info_evtchn_pending(, %rcx, 8), %rdx
2:      bsf     %rdx, %rax
        jz      1b
        btr     %rax, %rdx
        lock btr %rax, shared_info + shared_info_evtchn_pending(, %rcx, 8)
        inc     %r13
        jmp     2b
3:      pop     %rsi
        pop     %rdx
        pop     %rcx
        pop     %rax
        hypervisor_iret

# Grants ------------------------------------------------------------------------------------------------------------

# GRANTS entries for the page `page_a`, from FIRST_GRANT on, and an operation on each.
        .set    FIRST_GRANT, GNTTAB_NR_RESERVED_ENTRIES
make_grants:
        call    map_grant_table
        call    own_domid
        mov     %eax, %edx
        mov     %dx, copy + gnttab_copy_source_domid
        mov     $page_b, %rdi
        call    virt_to_mfn
        mov     %rax, copy + gnttab_copy_dest_u_gmfn
        mov     $FIRST_GRANT, %edi
        mov     $maps, %rbx
        mov     $unmaps, %rbp
        mov     $grant_windows, %r8
1:      mov     $page_a, %rsi
        mov     $GTF_permit_access, %ecx
        call    grant_page
        mov     %r8, gnttab_map_grant_ref_host_addr(%rbx)
        movl    $GNTMAP_host_map, gnttab_map_grant_ref_flags(%rbx)
        mov     %edi, gnttab_map_grant_ref_ref(%rbx)
        mov     %dx, gnttab_map_grant_ref_dom(%rbx)
        mov     %r8, gnttab_unmap_grant_ref_host_addr(%rbp)
        add     $sizeof_gnttab_map_grant_ref, %rbx
        add     $sizeof_gnttab_unmap_grant_ref, %rbp
        add     $PAGE_SIZE, %r8
        inc     %edi
        cmp     $FIRST_GRANT + GRANTS, %edi
        jb      1b
        ret

# Traps -------------------------------------------------------------------------------------------------------------

on_undefined:                                   # behind ud2
        pop     %rcx
        pop     %r11
        addq    $2, (%rsp)
        inc     %r13
        hypervisor_iret

on_page_fault:                                  # behind the instruction
        pop     %rcx
        pop     %r11
        add     $8, %rsp                        # the error code
        addq    $FAULTING, (%rsp)
        inc     %r13
        hypervisor_iret

# User mode: its page table has one page of code, an endless loop around `syscall`.
make_user_mode:
        entry_of user_l3, PAGE_TABLE
        mov     %rax, user_l4
        entry_of user_l2, PAGE_TABLE
        mov     %rax, user_l3
        entry_of user_l1, PAGE_TABLE
        mov     %rax, user_l2 + 8 * (USER_CODE >> 21)
        entry_of user_code, USER_PAGE_RO
        mov     %rax, user_l1
        make_read_only user_l4
        make_read_only user_l3
        make_read_only user_l2
        make_read_only user_l1
        mov     $user_l4, %rdi
        call    virt_to_mfn
        mov     %rax, user_base + mmuext_op_arg1_mfn
        hypercall mmuext_op, $user_base, $1, $0, $DOMID_SELF
        ret

on_syscall:
        pop     %rcx
        pop     %r11
        inc     %r13
        dec     %rbx
        jz      1f
        hypervisor_iret VGCF_in_syscall
1:      mov     kernel_stack, %rsp
        jmp     user_mode_ended

        .data
        .balign 8
count:  .quad   2048
traps:  trap    6, 0, on_undefined
        trap    14, 0, on_page_fault
        trap    0, 0, 0
ipi:    .long   0, 0                            # struct evtchn_bind_ipi: vcpu, and the port that Xen chose
unbound:                                        # struct evtchn_alloc_unbound: for whom, by whom, port
        .word   DOMID_SELF, DOMID_SELF
        .long   0
loopback:                                       # struct evtchn_bind_interdomain: whose, which port, and our new port
        .word   DOMID_SELF, 0
        .long   0, 0
        .balign 8
        .macro  extended name, command, address=0       # struct mmuext_op
\name:  .long   \command, 0
        .quad   \address, 0
        .endm
        extended pin, MMUEXT_PIN_L1_TABLE
        extended unpin, MMUEXT_UNPIN_TABLE
        extended tlb_flush, MMUEXT_TLB_FLUSH_LOCAL
        extended invlpg, MMUEXT_INVLPG_LOCAL, window
        extended new_baseptr, MMUEXT_NEW_BASEPTR
        extended user_base, MMUEXT_NEW_USER_BASEPTR

copy:                                           # struct gnttab_copy: from the grant, to a page of our own
        .quad   FIRST_GRANT
        .word   0, 0
        .balign 8
        .quad   0
        .word   DOMID_SELF, 0
        .balign 8
        .word   0, GNTCOPY_source_gref, 0
        .balign 8

        .balign PAGE_SIZE
user_code:
        syscall
        jmp     user_code
        .balign PAGE_SIZE

        .bss
        .balign PAGE_SIZE
window: .skip   PAGE_SIZE
page_a: .skip   PAGE_SIZE
page_b: .skip   PAGE_SIZE
grant_windows:
        .skip   GRANTS * PAGE_SIZE
l1:     .skip   PAGE_SIZE
user_l4:
        .skip   PAGE_SIZE
user_l3:
        .skip   PAGE_SIZE
user_l2:
        .skip   PAGE_SIZE
user_l1:
        .skip   PAGE_SIZE
        .skip   PAGE_SIZE
trap_stack:
batch:  .skip   BATCH * sizeof_multicall_entry
updates:
        .skip   BATCH * sizeof_mmu_update
ports:  .skip   4 * PORTS
maps:   .skip   GRANTS * sizeof_gnttab_map_grant_ref
unmaps: .skip   GRANTS * sizeof_gnttab_unmap_grant_ref
entry_a:
        .skip   8
entry_b:
        .skip   8
row_name:
        .skip   8
row_count:
        .skip   8
wanted: .skip   8
kernel_stack:
        .skip   8
ipi_port:
        .skip   4
far_port:
        .skip   4
