# debug: the debug registers belong to the guest.
#
# A PV guest may use all of DR0-DR3, DR6 and DR7 (mov to a debug register is emulated; set_debugreg and get_debugreg are
# the same as hypercalls). Xen loads them whenever the vCPU runs, and a match is the guest's #DB.
#
# Look at the order of things: an execution breakpoint stops in front of its instruction, and would do so for ever
# if the handler did not set RF in the saved flags; a watchpoint stops behind the instruction that touched the data.
# DR6 says why, and is never cleared by the CPU: the handler does it.
#
# Title: Debug registers: breakpoints, watchpoints and single steps inside the guest
# Exit: 0
# Output:
#   execution breakpoint: #DB at function, DR6 0xffff0ff1
#   function ran
#   write of 8 bytes: #DB behind it, DR6 0xffff0ff2
#   read of what is watched for writes: nothing
#   read of the last byte: #DB behind it, DR6 0xffff0ff4
#   neighbour: nothing
#   single step and watchpoint: #DB behind it, DR6 0xffff4ff2
#   disabled: nothing
#   DR7 reads 0x400

        .include "guest.inc"
        guest   "debug"

        .set    DR6_DEFAULT, 0xffff0ff0
        .set    DR7_DEFAULT, 0x400
        .set    ENABLE_0, 0x002 | 0 << 16               # DR0: execution
        .set    ENABLE_1, 0x008 | 0b1001 << 20          # DR1: writes, 8 bytes
        .set    ENABLE_2, 0x020 | 0b0011 << 24          # DR2: reads and writes, 1 byte

# Run one instruction; the handler says what it saw, and `behind` is where a trap should come.
        .macro  attempt text, instruction:vararg
        print   "\text: "
        movq    $.Lbehind\@, behind
        movb    $0, seen
        \instruction
.Lbehind\@:
        nop
        cmpb    $0, seen
        jne     .Ldone\@
        println "nothing"
.Ldone\@:
        .endm

main:
        hypercall set_trap_table, $traps
        mov     $function, %rax
        mov     %rax, %dr0
        mov     $watched, %rax
        mov     %rax, %dr1
        lea     7(%rax), %rax
        mov     %rax, %dr2
        mov     $DR7_DEFAULT | ENABLE_0, %eax
        mov     %rax, %dr7
        print   "execution breakpoint: "
        call    function
        mov     $DR7_DEFAULT | ENABLE_1, %eax
        mov     %rax, %dr7
        attempt "write of 8 bytes", movq $1, watched
        attempt "read of what is watched for writes", mov watched, %rax
        mov     $DR7_DEFAULT | ENABLE_2, %eax
        mov     %rax, %dr7
        attempt "read of the last byte", mov watched + 4, %eax
        attempt "neighbour", movb $1, watched + 6
        mov     $DR7_DEFAULT | ENABLE_1, %eax
        mov     %rax, %dr7
        print   "single step and watchpoint: "
        movq    $1f, behind
        pushfq
        orq     $EFLAGS_TF, (%rsp)
        popfq                                           # the step begins behind it
        movb    $2, watched
1:      mov     $DR7_DEFAULT, %eax
        mov     %rax, %dr7
        attempt "disabled", movq $1, watched
        print   "DR7 reads "
        mov     %dr7, %rax
        print_hex %rax
        println
        ret

function:
        println "function ran"
        ret

        entry   debug_exception, on_debug_exception
on_debug_exception:
        print   "#DB "
        mov     frame_rip(%rdi), %rax
        cmp     $function, %rax
        jne     1f
        print   "at function"
        orq     $EFLAGS_RF, frame_rflags(%rdi)          # once past the breakpoint
        jmp     3f
1:      cmp     behind, %rax
        jne     2f
        print   "behind it"
        jmp     3f
2:      print   "at "
        print_hex %rax
3:      andq    $~EFLAGS_TF, frame_rflags(%rdi)
        movb    $1, seen
        mov     %dr6, %rax
        print   ", DR6 "
        print_hex %rax
        println
        mov     $DR6_DEFAULT, %eax
        mov     %rax, %dr6
        ret

        .data
        .balign 8
traps:  trap    1, 0, debug_exception
        trap    0, 0, 0
behind: .quad   0
watched: .quad  0
seen:   .byte   0
