"""Guest kernel and user mode are both ring 3 to the guest, whatever CPL hv runs them at; and their TLBs are apart."""

from __future__ import annotations

from guest_kit import boot

# Far transfers and segment loads of a guest kernel: each would go wrong at another CPL than 3.
KERNEL = """
main:   mov     %rsp, %rbx
        pushq   $FLAT_KERNEL_CS
        pushq   $1f
        lretq                                   # at CPL < 3 this would be a return to another ring, with a new stack
1:      print   "lretq keeps the stack: "
        cmp     %rsp, %rbx
        print_if e
        mov     %rsp, %rax
        pushq   $FLAT_KERNEL_SS
        push    %rax
        pushfq
        pushq   $FLAT_KERNEL_CS
        pushq   $1f
        iretq
1:      print   "iretq keeps the stack: "
        cmp     %rsp, %rbx
        print_if e
        mov     $FLAT_KERNEL_SS, %eax
        mov     %eax, %ss
        mov     %eax, %ds
        mov     %cs, %eax
        print   "cs "
        print_hex %rax
        mov     $FLAT_KERNEL_SS, %ecx
        lar     %ecx, %eax
        print   ", lar "
        print_hex %rax
        lsl     %ecx, %eax
        print   ", lsl "
        print_hex %rax
        print   ", verr "
        verr    %cx
        print_if e
        mov     $0xe030, %ecx                   # the flat code segment by another RPL
        print   "verw of code "
        verw    %cx
        print_if e
        hypercall set_trap_table, $traps
        mov     $0xffff820000000000, %rsi
at:     mov     (%rsi), %rax                    # the CPU reads descriptors here; the guest can not
behind: poweroff
        entry   page_fault, on_page_fault, error=1
on_page_fault:
        print   "descriptor page: #PF, error "
        print_hex frame_error(%rdi)
        println
        addq    $behind - at, frame_rip(%rdi)
        ret
        .data
        .balign 8
traps:  trap    14, 0, page_fault
        trap    0, 0, 0
"""


def test_the_kernel_finds_ring_3() -> None:
    output, code, _ = boot(KERNEL)
    assert output.splitlines() == [
        "lretq keeps the stack: yes",
        "iretq keeps the stack: yes",
        "cs 0xe033, lar 0xc0f300, lsl 0xffffffff, verr yes",
        "verw of code NO",
        "descriptor page: #PF, error 0x1",
    ]
    assert code == 0


def test_stepping_changes_nothing() -> None:
    assert boot(KERNEL) == boot(KERNEL, stepping=True)


# The kernel remaps a page of its own without asking for a flush, after the TLB has seen the old frame. On Xen the
# CR3 load at the change of mode drops the kernel's translations, which are not global: the new frame must show.
TOGGLE = """
        use_shared_info
        .set    USER_CODE, 0x400000
        .macro  link table, index, page, flags
        mov     $\\page, %rdi
        call    virt_to_mfn
        shl     $12, %rax
        or      $\\flags, %rax
        mov     %rax, \\table + 8 * \\index
        .endm
        .macro  make_read_only page
        mov     $\\page, %rdi
        call    virt_to_mfn
        shl     $12, %rax
        or      $KERNEL_PAGE_RO, %rax
        hypercall update_va_mapping, $\\page, %rax, $UVMF_INVLPG
        .endm
main:   call    map_shared_info
        hypercall callback_op, $CALLBACKOP_register, $syscall_callback
        hypercall stack_switch, $FLAT_KERNEL_SS, $stack_top
        link    user_l4, 0, user_l3, PAGE_TABLE
        link    user_l3, 0, user_l2, PAGE_TABLE
        link    user_l2, USER_CODE >> 21, user_l1, PAGE_TABLE
        link    user_l1, 0, user_code, _PAGE_PRESENT | _PAGE_USER | _PAGE_ACCESSED
        make_read_only user_l4
        make_read_only user_l3
        make_read_only user_l2
        make_read_only user_l1
        mov     $user_l4, %rdi
        call    virt_to_mfn
        mov     %rax, base + mmuext_op_arg1_mfn
        hypercall mmuext_op, $base, $1, $0, $DOMID_SELF
        mov     first, %rax                     # into the TLB
        mov     $second, %rdi
        call    virt_to_mfn
        shl     $12, %rax
        or      $KERNEL_PAGE, %rax
        hypercall update_va_mapping, $first, %rax, $0
        push    $FLAT_USER_SS
        push    $0
        push    $EFLAGS_IF
        push    $FLAT_USER_CS
        push    $USER_CODE
        hypervisor_iret
syscall:
        print   "the kernel sees page "
        print_dec first
        println
        poweroff
        .data
        .balign 8
syscall_callback:
        .word   CALLBACKTYPE_syscall, 0
        .long   0
        .quad   syscall
base:   .long   MMUEXT_NEW_USER_BASEPTR, 0
        .quad   0, 0
        .balign PAGE_SIZE
user_code:
        syscall
        .balign PAGE_SIZE
first:  .quad   1
        .balign PAGE_SIZE
second: .quad   2
        .balign PAGE_SIZE
        .bss
        .balign PAGE_SIZE
user_l4: .skip  PAGE_SIZE
user_l3: .skip  PAGE_SIZE
user_l2: .skip  PAGE_SIZE
user_l1: .skip  PAGE_SIZE
"""


def test_a_change_of_mode_drops_what_the_kernel_has_changed() -> None:
    output, code, _ = boot(TOGGLE)
    assert (output, code) == ("the kernel sees page 2\n", 0)
