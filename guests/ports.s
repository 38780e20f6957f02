# ports: I/O ports in a PV guest: who may use one, and what stops at one.
#
# `in` and `out` trap to Xen. It asks twice: whether the guest allows the instruction (its IOPL, or its bitmap of ports, a
# 0 for an allowed one), and whether the domain has the port. The first refusal is #GP. The second is silent: reads give
# all ones and writes go nowhere. A guest kernel counts as ring 1, so that an IOPL of 1 is enough.
#
# Xen also emulates breakpoints on ports: with CR4.DE set, a debug register of that kind gives #DB behind the instruction,
# and DR6 says which it was.
#
# Look at `try`, which does not care what is read: only whether an exception came, and which.
#
# Title: I/O ports: IOPL, the bitmap of ports, breakpoints on ports
# Exit: 0
# Output:
#   in from 0x80: #GP
#   IOPL 1: allowed
#   IOPL 4: -22
#   IOPL 0 again: #GP
#   bitmap of 65537 ports: -22
#   0x80 allowed by the bitmap: allowed
#   0x81 not: #GP
#   two bytes from 0x80: #GP
#   behind the bitmap's end: #GP
#   no bitmap any more: #GP
#   a breakpoint on a port without CR4.DE: -1
#   with CR4.DE: 0
#   DR7 reads 0x20401
#   out to 0x80: #DB, DR6 0xffff0ff1
#   out to 0x82: allowed

        .include "guest.inc"
        guest   "ports"

        .set    CR4_DE, 8
        .set    PORT, 0x80

        .macro  try text, instruction:vararg
        print   "\text: "
        movq    $.Lbehind\@, behind
        movq    $0, caught
        \instruction
.Lbehind\@:
        call    say
        .endm

        .macro  set_iopl level
        movl    $\level, request
        hypercall physdev_op, $PHYSDEVOP_set_iopl, $request
        .endm

        .macro  set_bitmap ports
        movq    $bitmap, request + physdev_set_iobitmap_bitmap
        movl    $\ports, request + physdev_set_iobitmap_nr_ports
        hypercall physdev_op, $PHYSDEVOP_set_iobitmap, $request
        .endm

        .macro  result text
        print   "\text: "
        print_dec %rax
        println
        .endm

main:   hypercall set_trap_table, $traps
        try     "in from 0x80", in $PORT, %al
        set_iopl 1
        try     "IOPL 1", in $PORT, %al
        set_iopl 4
        result  "IOPL 4"
        set_iopl 0
        try     "IOPL 0 again", in $PORT, %al

        set_bitmap 65537
        result  "bitmap of 65537 ports"
        andb    $0xfe, bitmap + PORT / 8
        set_bitmap PORT + 8
        try     "0x80 allowed by the bitmap", in $PORT, %al
        try     "0x81 not", in $PORT + 1, %al
        try     "two bytes from 0x80", in $PORT, %ax
        set_bitmap PORT
        try     "behind the bitmap's end", in $PORT, %al
        set_bitmap 0
        try     "no bitmap any more", in $PORT, %al

        set_iopl 1
        hypercall set_debugreg, $0, $PORT
        hypercall set_debugreg, $7, $0x20001
        result  "a breakpoint on a port without CR4.DE"
        mov     %cr4, %rax
        or      $CR4_DE, %rax
        mov     %rax, %cr4
        hypercall set_debugreg, $7, $0x20001
        result  "with CR4.DE"
        hypercall get_debugreg, $7
        print   "DR7 reads "
        print_hex %rax
        println
        xor     %eax, %eax
        try     "out to 0x80", out %al, $PORT
        try     "out to 0x82", out %al, $PORT + 2
        hypercall set_debugreg, $7, $0
        ret

say:    mov     caught, %rax
        cmp     $13, %rax
        je      1f
        cmp     $1, %rax
        je      2f
        println "allowed"
        ret
1:      println "#GP"
        ret
2:      hypercall get_debugreg, $6
        print   "#DB, DR6 "
        print_hex %rax
        println
        ret

on_protection:
        movq    $13, caught
        mov     behind, %rax
        mov     %rax, frame_rip(%rdi)
        ret
on_debug:
        movq    $1, caught
        ret
        entry   protection, on_protection, 1
        entry   debug, on_debug

        .data
        .balign 8
traps:  trap    1, 0, debug
        trap    13, 0, protection
        trap    0, 0, 0
behind: .quad   0
caught: .quad   0
request:
        .skip   16
bitmap: .fill   8192, 1, 0xff
