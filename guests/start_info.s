# start_info: what a PV guest knows when it starts.
#
# Two structures carry it: start_info, which rsi points at, and shared_info, whose machine address is in start_info and
# which the guest maps for itself (map_shared_info in guest.inc, by update_va_mapping). start_info says how much memory
# there is and in which machine frames, where the page tables are, and how to reach console and XenStore: the frame of
# a ring and an event channel each. shared_info has the event channels' bits and every vCPU's state, and therein the
# clock: system time is a function of the CPU's time stamp counter, with a factor and a shift that Xen writes.
#
# Everything printed is the same on every run; look at the code for the fields, and at `system_time` in guest.inc.
#
# Title: A tour of start_info, shared_info and the paravirtual clock
# Exit: 0
# Output:
#   magic: xen-3.0-x86_64
#   privileged: 0
#   command line: ""
#   start_info's own frame is where the p2m list says: yes
#   cr3 holds the frame of pt_base: yes
#   the page tables lie behind the console page: yes
#   console: port state 2, remote domain 0
#   store: port state 2, remote domain 0
#   shared_info is at a page boundary: yes
#   events masked at the start: 1
#   clock: an even version: yes
#   clock: the TSC runs at 4000 MHz
#   clock: 1000 readings, each later than the one before: yes
#   clock: its ns agree with the TSC: yes

        .include "guest.inc"
        guest   "start_info"
        use_shared_info

main:
        mov     start_info, %rbp
        print   "magic: "
        lea     start_info_magic(%rbp), %rdi
        call    print_string
        println
        print   "privileged: "
        mov     start_info_flags(%rbp), %eax
        and     $SIF_PRIVILEGED, %eax
        print_dec %rax
        println
        print   "command line: \""
        lea     start_info_cmd_line(%rbp), %rdi
        call    print_string
        println "\""

        # Memory: a guest's page n (pfn) is machine frame mfn_list[n], and Xen's table has the way back.
        print   "start_info's own frame is where the p2m list says: "
        mov     %rbp, %rdi
        call    virt_to_mfn
        mov     %rax, %rdi
        call    mfn_to_virt
        cmp     %rax, %rbp
        print_if e
        print   "cr3 holds the frame of pt_base: "
        mov     start_info_pt_base(%rbp), %rdi
        call    virt_to_mfn
        shl     $12, %rax
        mov     %cr3, %rdx                      # privileged: Xen emulates it
        cmp     %rax, %rdx
        print_if e
        print   "the page tables lie behind the console page: "
        mov     console, %rax
        add     $PAGE_SIZE, %rax
        cmp     %rax, start_info_pt_base(%rbp)
        print_if e

        print   "console: "
        mov     start_info_console_domU_evtchn(%rbp), %edi
        call    describe_port
        print   "store: "
        mov     start_info_store_evtchn(%rbp), %edi
        call    describe_port

        print   "shared_info is at a page boundary: "
        mov     start_info_shared_info(%rbp), %eax
        test    $PAGE_SIZE - 1, %eax
        print_if z
        call    map_shared_info
        print   "events masked at the start: "
        movzbl  shared_info + vcpu_info_evtchn_upcall_mask, %eax
        print_dec %rax
        println

        print   "clock: an even version: "
        testl   $1, shared_info + vcpu_info_time_version
        print_if z
        call    tsc_frequency
        print   "clock: the TSC runs at "
        print_dec %rax
        println " MHz"
        mov     %rax, %r12

        print   "clock: 1000 readings, each later than the one before: "
        mov     $1000, %ebp
        call    system_time
1:      mov     %rax, %rbx
        call    system_time
        cmp     %rbx, %rax
        jbe     2f
        dec     %ebp
        jnz     1b
2:      test    %ebp, %ebp
        print_if z

        # ns * MHz / 1000 is the TSC's count since tsc_timestamp, rounded down: it lies between two readings of that.
        print   "clock: its ns agree with the TSC: "
        call    read_tsc
        mov     %rax, %rbx
        call    system_time
        mov     %rax, %rbp
        call    read_tsc
        mov     %rax, %r13
        mov     $1000, %ecx
        mov     %rbp, %rax
        mul     %r12
        div     %rcx
        cmp     %rax, %r13                      # not later than the second reading
        jb      3f
        lea     1(%rbp), %rax
        mul     %r12
        div     %rcx
        cmp     %rbx, %rax                      # one ns more is not before the first
        jb      3f
        xor     %eax, %eax
3:      test    %eax, %eax
        print_if z
        ret

# TSC ticks since tsc_timestamp.
read_tsc:
        rdtsc
        shl     $32, %rdx
        or      %rdx, %rax
        sub     shared_info + vcpu_info_time_tsc_timestamp, %rax
        ret

# ns = (ticks << shift) * mul / 2^32, so the frequency in MHz is (2^32 * 1000 / mul) >> shift.
tsc_frequency:
        mov     $1000, %eax
        shl     $32, %rax
        xor     %edx, %edx
        mov     shared_info + vcpu_info_time_tsc_to_system_mul, %ecx
        div     %rcx
        mov     shared_info + vcpu_info_time_tsc_shift, %cl
        test    %cl, %cl
        js      1f
        shr     %cl, %rax
        ret
1:      neg     %cl
        shl     %cl, %rax
        ret

# EVTCHNOP_status of our port %edi.
describe_port:
        movw    $DOMID_SELF, status + evtchn_status_dom
        mov     %edi, status + evtchn_status_port
        hypercall event_channel_op, $EVTCHNOP_status, $status
        print   "port state "
        mov     status + evtchn_status_status, %eax
        print_dec %rax
        print   ", remote domain "
        movzwl  status + evtchn_status_u_interdomain_dom, %eax
        print_dec %rax
        println
        ret

        .bss
        .balign 8
status: .skip   sizeof_evtchn_status
