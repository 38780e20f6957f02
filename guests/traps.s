# traps: exceptions reach a PV guest through Xen.
#
# The CPU's IDT belongs to Xen. A guest gives Xen a table of handlers instead (set_trap_table); when the CPU raises an
# exception in the guest, Xen pushes a frame on the guest's stack and continues at the handler. The frame is the CPU's
# own, with rcx and r11 below it, because Xen uses those two to get there. The way back is a hypercall, iret.
#
# Look at `on_trap`, which prints the frame, and at these lines of the output: int3 and int leave rip behind the
# instruction, faults leave it at the instruction; a guest kernel runs in ring 3, but the saved CS has RPL 0 to say
# "kernel"; #PF has its address in vcpu_info, not in a control register; a row's flags decide who may `int` to a
# vector (0x81 may not: that is #GP with an error code that names the vector) and whether events are masked on the way
# in (of int3 here: evtchn_upcall_mask goes from 0 to 1).
#
# Title: Exceptions: set_trap_table, the frames that Xen pushes, iret
# Exit: 0
# Output:
#   ud2: #UD at it, error 0x0, cs 0xe030, ss 0xe02b, events masked 0 -> 0
#   div by zero: #DE at it, error 0x0, cs 0xe030, ss 0xe02b, events masked 0 -> 0
#   int3: #BP behind it, error 0x0, cs 0xe030, ss 0xe02b, events masked 0 -> 1
#   int 0x80: int 0x80 behind it, error 0x0, cs 0xe030, ss 0xe02b, events masked 0 -> 0
#   int 0x81: #GP at it, error 0x40a, cs 0xe030, ss 0xe02b, events masked 0 -> 0
#   hlt: #GP at it, error 0x0, cs 0xe030, ss 0xe02b, events masked 0 -> 0
#   read: #PF at it, error 0x0, cs 0xe030, ss 0xe02b, events masked 0 -> 0, address 0xdead0000
#   write: #PF at it, error 0x2, cs 0xe030, ss 0xe02b, events masked 0 -> 0, address 0xdead0008
#   single step: #DB behind 5 instructions
#   rcx and r11 came back: yes

        .include "guest.inc"
        guest   "traps"
        use_shared_info

# Run one instruction that traps; the handler continues behind it.
        .macro  attempt text, instruction:vararg
        print   "\text: "
        movq    $.Lbehind\@, behind
        \instruction
.Lbehind\@:
        .endm

main:
        call    map_shared_info
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        hypercall set_trap_table, $traps

        mov     $0x1111, %ecx
        mov     $0x2222, %r11d
        attempt "ud2", ud2
        mov     %rcx, %r14
        mov     %r11, %r15
        xor     %ecx, %ecx
        attempt "div by zero", div %ecx
        attempt "int3", int3
        attempt "int 0x80", int $0x80
        attempt "int 0x81", int $0x81
        attempt "hlt", hlt
        mov     $0xdead0000, %ebx
        attempt "read", mov (%rbx), %eax
        attempt "write", movl $1, 8(%rbx)

        pushf                                   # single step: with TF set, #DB comes behind every instruction
        orl     $EFLAGS_TF, (%rsp)
        popf
        nop
        nop
        pushf
        andl    $~EFLAGS_TF, (%rsp)
        popf
        print   "single step: #DB behind "
        print_dec steps
        println " instructions"

        print   "rcx and r11 came back: "
        shl     $16, %r14
        or      %r15, %r14
        cmp     $0x11112222, %r14
        print_if e
        ret

# The handler's own part of the line, then what is common to all.
on_divide:
        print   "#DE"
        jmp     on_trap
on_breakpoint:
        print   "#BP"
        jmp     on_trap
on_int80:
        print   "int 0x80"
        jmp     on_trap
on_undefined:
        print   "#UD"
        jmp     on_trap
on_protection:
        print   "#GP"
        jmp     on_trap
on_page_fault:
        print   "#PF"
        call    describe
        print   ", address "
        print_hex shared_info + vcpu_info_arch_cr2
        println
        ret

on_debug:
        incq    steps
        ret

on_trap:
        call    describe
        println
        ret

# Print the frame at %rdi and make it continue behind the instruction.
describe:
        mov     behind, %rax
        cmp     frame_rip(%rdi), %rax
        je      1f
        print   " at it"
        mov     %rax, frame_rip(%rdi)
        jmp     2f
1:      print   " behind it"
2:      print   ", error "
        print_hex frame_error(%rdi)
        print   ", cs "
        movzwl  frame_cs(%rdi), %eax            # its upper half holds the saved upcall mask
        print_hex %rax
        print   ", ss "
        print_hex frame_ss(%rdi)
        print   ", events masked "
        movzbl  frame_upcall_mask(%rdi), %eax
        print_dec %rax
        print   " -> "
        movzbl  shared_info + vcpu_info_evtchn_upcall_mask, %eax
        print_dec %rax
        ret

        entry   divide, on_divide
        entry   debug, on_debug
        entry   breakpoint, on_breakpoint
        entry   undefined, on_undefined
        entry   protection, on_protection, error=1
        entry   page_fault, on_page_fault, error=1
        entry   int80, on_int80

        .data
        .balign 8
traps:  trap    0, 0, divide
        trap    1, 0, debug
        trap    3, 3 | 4, breakpoint
        trap    6, 0, undefined
        trap    13, 0, protection
        trap    14, 0, page_fault
        trap    0x80, 3, int80
        trap    0x81, 0, int80
        trap    0, 0, 0

        .bss
        .balign 8
behind: .skip   8
steps:  .skip   8
