# bench: how long a hypercall takes, in the guest's own time.
#
# A row is announced (BEGIN), runs n times, and is reported (BENCH) with the system time that passed and a checksum of
# what was computed, which shows that it did run. n comes from the command line (default 20000). With `--clock host` the
# nanoseconds are the host's; the virtual clock charges 100 ns for a hypercall and a quarter for a byte of code, which is
# why its figures below are exact, and say nothing about speed.
#
#   null          xen_version(XENVER_version), the hypercall that does nothing
#   set_segment   set_segment_base(SEGBASE_FS, 0)
#   loop          four instructions and a jump, no hypercall
#
# Title: Benchmark: hypercalls and plain code, timed by the guest
# Exit: 0
# Output:
#   BEGIN null n=20000
#   BENCH null n=20000 ns=2085024 chk=5243220000
#   BEGIN set_segment n=20000
#   BENCH set_segment n=20000 ns=2095024 chk=0
#   BEGIN loop n=20000
#   BENCH loop n=20000 ns=80024 chk=20000

        .include "guest.inc"
        guest   "bench"
        use_shared_info

# row NAME: run the code from here to `end_row NAME` n times; it adds what it computes to %r13.
        .macro  row name
        print   "BEGIN \name"
        call    print_count
        println ""
        xor     %r13d, %r13d
        mov     count, %rbx
        call    system_time
        mov     %rax, %r14
1:
        .endm

        .macro  end_row name
        dec     %rbx
        jnz     1b
        call    system_time
        sub     %r14, %rax
        mov     %rax, %r15
        print   "BENCH \name"
        call    print_count
        print   " ns="
        print_dec %r15
        print   " chk="
        print_dec %r13
        println ""
        .endm

main:
        call    map_shared_info
        call    read_count

        row     null
        xor     %edi, %edi
        mov     $__HYPERVISOR_xen_version, %eax
        syscall
        add     %rax, %r13
        end_row null

        row     set_segment
        xor     %edi, %edi
        xor     %esi, %esi
        mov     $__HYPERVISOR_set_segment_base, %eax
        syscall
        add     %rax, %r13
        end_row set_segment

        row     loop
        add     $1, %r13
        xor     %rbx, %rcx
        lea     (%rcx, %r13), %rdx
        end_row loop
        ret

# n from the command line: decimal digits, or the default.
read_count:
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
2:      test    %rax, %rax
        jz      3f
        mov     %rax, count
3:      ret

print_count:
        print   " n="
        print_dec count
        ret

        .data
        .balign 8
count:  .quad   20000
