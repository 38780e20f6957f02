# The PV64 hypercall page: slot n at n * 32 makes hypercall n, keeping rcx and r11, which syscall clobbers.
# Slot 23 (iret) never returns: its frame on the stack begins with rax, r11, rcx.
# Behaviour: Xen 4.17, arch/x86/pv/hypercall.c.
        .code64
        .set    IRET, 23
        .set    n, 0
        .rept   128
        .balign 32, 0xcc
        push    %rcx
        push    %r11
        .if     n == IRET
        push    %rax
        mov     $n, %eax
        syscall
        .else
        mov     $n, %eax
        syscall
        pop     %r11
        pop     %rcx
        ret
        .endif
        .set    n, n + 1
        .endr
        .balign 4096, 0xcc
