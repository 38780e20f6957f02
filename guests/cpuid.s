# cpuid: asking for Xen itself.
#
# CPUID is not privileged: it runs on the CPU and tells what that is, unless the CPU can fault on it. So PV guests use
# an instruction that surely traps, ud2, with "xen" behind it: Xen sees this prefix and emulates the CPUID that follows,
# with the leaves that belong to it from 0x40000000 on and without the features that a PV guest cannot have. Any other
# instruction behind the prefix is just an invalid opcode.
#
# Title: The forced-emulation prefix and Xen's CPUID leaves
# Exit: 0
# Output:
#   signature: XenVMMXenVMM
#   version: 4.17
#   hypercall pages: 1
#   runs under a hypervisor: yes
#   superpages (PSE) are hidden: yes
#   the prefix before another instruction is #UD at the prefix: yes

        .include "guest.inc"
        guest   "cpuid"

        .set    XEN_LEAVES, 0x40000000          # signature; + 1 version; + 2 hypercall pages

        .macro  forced_emulation
        ud2
        .ascii  "xen"
        .endm

        .macro  xen_cpuid leaf
        mov     $\leaf, %eax
        xor     %ecx, %ecx
        forced_emulation
        cpuid
        .endm

main:
        xen_cpuid XEN_LEAVES
        mov     %ebx, signature
        mov     %ecx, signature + 4
        mov     %edx, signature + 8
        print   "signature: "
        mov     $signature, %rdi
        call    print_string
        println

        xen_cpuid XEN_LEAVES + 1
        movzwl  %ax, %ebp
        shr     $16, %eax
        print   "version: "
        print_dec %rax
        print   "."
        print_dec %rbp
        println

        xen_cpuid XEN_LEAVES + 2
        print   "hypercall pages: "
        print_dec %rax
        println

        xen_cpuid 1
        print   "runs under a hypervisor: "
        bt      $31, %ecx
        print_if c
        xen_cpuid 1
        print   "superpages (PSE) are hidden: "
        bt      $3, %edx
        print_if nc

        hypercall set_trap_table, $traps
        print   "the prefix before another instruction is #UD at the prefix: "
prefix:
        forced_emulation
        nop
resume: cmpq    $prefix, undefined_at
        print_if e
        ret

        entry   undefined, on_undefined
on_undefined:
        mov     frame_rip(%rdi), %rax
        mov     %rax, undefined_at
        movq    $resume, frame_rip(%rdi)
        ret

        .data
        .balign 8
traps:  trap    6, 0, undefined
        trap    0, 0, 0

        .bss
        .balign 8
undefined_at:
        .skip   8
signature:
        .skip   13
