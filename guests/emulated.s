# emulated: privileged instructions that Xen carries out for a PV kernel.
#
# A PV kernel runs in ring 3, so every privileged instruction is a general protection fault, which Xen sees first. Some of
# them it emulates, because kernels would be hard to change otherwise: control registers, a few model-specific
# registers, ports, clts, wbinvd. The others stay #GP in the guest; most have a hypercall.
#
# Look at CR0, of which a guest may only change TS: the next FPU instruction is then #NM, and Xen has cleared TS before
# the handler runs. Look at IOPL, by which a kernel that counts as ring 1 may use ports, cli and sti (set_iopl): ports that a
# guest was not given read as all ones, and cli and sti do nothing at all. Events are masked by a byte in vcpu_info.
#
# Title: Privileged instructions: what Xen emulates and what it does not
# Exit: 0
# Output:
#   mov cr0: done, TS: 0
#   mov to cr0, set TS: done, TS: 1
#   an FPU instruction: #NM, TS: 0
#   mov to cr0, clear WP: #GP, TS: 0
#   set TS, then clts: done, TS: 0
#   mov to cr2: done, in vcpu_info too: yes
#   mov cr3: done, the frame of our L4 table: yes
#   mov to cr3, the same: done
#   mov cr4, and the same back: done
#   mov cr8: #GP
#   rdmsr EFER: done, long mode: yes
#   wrmsr EFER, the same: done
#   wrmsr FS_BASE: done, %fs:0 is there: yes
#   rdmsr FS_BASE: done, the same: yes
#   wrmsr FS_BASE, not canonical: #GP
#   rdmsr of one that does not exist: #GP
#   wbinvd: done
#   IOPL 0, in: #GP
#   IOPL 0, cli: #GP
#   set_iopl 1: 0
#   IOPL 1, in: done, value: 0xff
#   IOPL 1, out: done
#   IOPL 1, cli: done, events masked: 0
#   IOPL 1, sti: done, events masked: 0
#   hlt: #GP
#   lgdt: #GP
#   lidt: #GP
#   lldt: #GP
#   ltr: #GP
#   invlpg: #GP
#   swapgs: #GP
#   invd: #GP

        .include "guest.inc"
        guest   "emulated"
        use_shared_info

        .set    CR0_TS, 8
        .set    CR0_WP, 0x10000
        .set    MSR_EFER, 0xc0000080
        .set    MSR_FS_BASE, 0xc0000100
        .set    NO_MSR, 0x12345678
        .set    NO_PORT, 0x2f0

# Print TEXT, run one instruction, and say what became of it: `outcome` holds the handler's word, or "done".
        .macro  attempt text, instruction:vararg
        print   "\text: "
        movq    $done, outcome
        movq    $.Lbehind\@, behind
        \instruction
.Lbehind\@:
        push    %rdi
        mov     outcome, %rdi
        call    print_string
        pop     %rdi
        .endm

        .macro  print_ts
        print   ", TS: "
        mov     %cr0, %rbp
        shr     $3, %ebp
        and     $1, %ebp
        print_dec %rbp
        println
        .endm

        .macro  print_mask
        print   ", events masked: "
        movzbl  shared_info + vcpu_info_evtchn_upcall_mask, %ebp
        print_dec %rbp
        println
        .endm

main:
        call    map_shared_info
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        hypercall set_trap_table, $traps

        attempt "mov cr0", mov %cr0, %rbx
        print_ts
        or      $CR0_TS, %rbx
        attempt "mov to cr0, set TS", mov %rbx, %cr0
        print_ts
        attempt "an FPU instruction", fnop
        print_ts
        and     $~(CR0_TS | CR0_WP), %rbx
        attempt "mov to cr0, clear WP", mov %rbx, %cr0
        print_ts
        mov     %cr0, %rbx
        or      $CR0_TS, %rbx
        mov     %rbx, %cr0
        attempt "set TS, then clts", clts
        print_ts

        mov     $0x1234, %ebx
        attempt "mov to cr2", mov %rbx, %cr2
        print   ", in vcpu_info too: "
        cmp     %rbx, shared_info + vcpu_info_arch_cr2
        print_if e
        attempt "mov cr3", mov %cr3, %rbx
        print   ", the frame of our L4 table: "
        mov     start_info, %rdi
        mov     start_info_pt_base(%rdi), %rdi
        call    virt_to_mfn
        shl     $12, %rax
        cmp     %rbx, %rax
        print_if e
        attempt "mov to cr3, the same", mov %rbx, %cr3
        println
        mov     %cr4, %rbx
        attempt "mov cr4, and the same back", mov %rbx, %cr4
        println
        attempt "mov cr8", mov %cr8, %rbx
        println

        mov     $MSR_EFER, %ecx
        attempt "rdmsr EFER", rdmsr
        print   ", long mode: "
        bt      $10, %eax                       # LMA
        print_if c
        attempt "wrmsr EFER, the same", wrmsr
        println
        mov     $MSR_FS_BASE, %ecx
        mov     $here, %rax
        mov     %rax, %rdx
        shr     $32, %rdx
        attempt "wrmsr FS_BASE", wrmsr
        print   ", %fs:0 is there: "
        cmpl    $0x600d, %fs:0
        print_if e
        attempt "rdmsr FS_BASE", rdmsr
        print   ", the same: "
        shl     $32, %rdx
        or      %rdx, %rax
        cmp     $here, %rax
        print_if e
        mov     $0x80000000, %edx
        attempt "wrmsr FS_BASE, not canonical", wrmsr
        println
        mov     $NO_MSR, %ecx
        attempt "rdmsr of one that does not exist", rdmsr
        println
        attempt "wbinvd", wbinvd
        println

        mov     $NO_PORT, %edx
        attempt "IOPL 0, in", in %dx, %al
        println
        attempt "IOPL 0, cli", cli
        println
        hypercall physdev_op, $PHYSDEVOP_set_iopl, $iopl
        print   "set_iopl 1: "
        print_dec %rax
        println
        mov     $NO_PORT, %edx
        attempt "IOPL 1, in", in %dx, %al
        print   ", value: "
        movzbl  %al, %eax
        print_hex %rax
        println
        attempt "IOPL 1, out", out %al, %dx
        println
        attempt "IOPL 1, cli", cli
        print_mask
        attempt "IOPL 1, sti", sti
        print_mask

        attempt "hlt", hlt
        println
        attempt "lgdt", lgdt table
        println
        attempt "lidt", lidt table
        println
        xor     %eax, %eax
        attempt "lldt", lldt %ax
        println
        attempt "ltr", ltr %ax
        println
        attempt "invlpg", invlpg table
        println
        attempt "swapgs", swapgs
        println
        attempt "invd", invd
        println
        ret

# The handlers note what came, and continue behind the instruction.
        entry   not_available, on_not_available
on_not_available:
        movq    $nm, outcome
        jmp     1f
        entry   protection, on_protection, error=1
on_protection:
        movq    $gp, outcome
1:      mov     behind, %rax
        mov     %rax, frame_rip(%rdi)
        ret

        .section .rodata
done:   .asciz  "done"
nm:     .asciz  "#NM"
gp:     .asciz  "#GP"

        .data
        .balign 8
traps:  trap    7, 0, not_available
        trap    13, 0, protection
        trap    0, 0, 0
iopl:   .long   1                               # struct physdev_set_iopl
here:   .long   0x600d
table:  .skip   10

        .bss
        .balign 8
outcome:
        .skip   8
behind: .skip   8
