# fifo: events in the order of their priorities, by the FIFO ABI.
#
# With the 2-level ABI a guest finds pending events by their port numbers. With the FIFO ABI each vCPU has 16 queues, one
# for each priority (0 is the highest), and up to 131,071 ports, each with a word in an array of pages that the guest gives
# (EVTCHNOP_expand_array): bits for pending, masked and linked, and the next port on the queue. A page of the guest's with
# the heads of the queues, and a bit for each that has something on it, is the vCPU's control block
# (EVTCHNOP_init_control). Xen puts events on at the tail, the guest takes them off at the head.
#
# A port's priority may change at any time. An event that is on a queue already stays there; the next goes on the new one.
#
# Title: FIFO event channels: queues by priority, and a priority that changes while queued
# Exit: 0
# Output:
#   priorities before init_control: -38
#   init_control: 0, link bits: 17
#   expand_array: 0
#   sent low, middle, high, low again, middle
#   taken: high from queue 0
#   taken: middle from queue 7
#   taken: low from queue 15
#   the middle one is queued, then gets priority 0; high comes behind it
#   taken: high from queue 0
#   taken: middle from queue 7
#   its next event
#   taken: middle from queue 0
#   a masked one: nothing is taken
#   unmasked
#   taken: low from queue 15

        .include "guest.inc"
        guest   "fifo"
        use_shared_info

        .set    LINKED, 1 << EVTCHN_FIFO_LINKED
        .set    UNLINK, ~(LINKED | EVTCHN_FIFO_LINK_MASK)

        .macro  send port
        hypercall event_channel_op, $EVTCHNOP_send, $\port
        .endm

        .macro  set_priority port, priority
        mov     \port, %eax
        mov     %eax, change + evtchn_set_priority_port
        movl    $\priority, change + evtchn_set_priority_priority
        hypercall event_channel_op, $EVTCHNOP_set_priority, $change
        .endm

        .macro  events_on                       # and what is pending comes at once
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
        hypercall xen_version, $XENVER_version
        .endm

        .macro  events_off
        movb    $1, shared_info + vcpu_info_evtchn_upcall_mask
        .endm

main:
        call    map_shared_info
        hypercall set_callbacks, $event, $0, $0
        hypercall event_channel_op, $EVTCHNOP_bind_ipi, $low
        hypercall event_channel_op, $EVTCHNOP_bind_ipi, $middle
        hypercall event_channel_op, $EVTCHNOP_bind_ipi, $high
        set_priority low_port, 15
        print   "priorities before init_control: "
        print_dec %rax
        println
        mov     $control, %rdi
        call    virt_to_mfn
        mov     %rax, init + evtchn_init_control_control_gfn
        hypercall event_channel_op, $EVTCHNOP_init_control, $init
        print   "init_control: "
        print_dec %rax
        print   ", link bits: "
        movzbl  init + evtchn_init_control_link_bits, %eax
        print_dec %rax
        println
        mov     $array, %rdi                    # all ports are masked, the console's and the store's too
        mov     $PAGE_SIZE / 4, %ecx
        mov     $1 << EVTCHN_FIFO_MASKED, %eax
        rep stosl
        mov     $array, %rdi
        call    virt_to_mfn
        mov     %rax, expand
        hypercall event_channel_op, $EVTCHNOP_expand_array, $expand
        print   "expand_array: "
        print_dec %rax
        println
        set_priority low_port, 15
        set_priority high_port, 0               # the middle one keeps the default: 7
        hypercall event_channel_op, $EVTCHNOP_unmask, $low_port
        hypercall event_channel_op, $EVTCHNOP_unmask, $middle_port
        hypercall event_channel_op, $EVTCHNOP_unmask, $high_port

        println "sent low, middle, high, low again, middle"
        send    low_port
        send    middle_port
        send    high_port
        send    low_port                        # pending already: merged
        send    middle_port
        events_on
        events_off
        println "the middle one is queued, then gets priority 0; high comes behind it"
        send    middle_port
        set_priority middle_port, 0
        send    high_port
        events_on
        println "its next event"
        send    middle_port
        println "a masked one: nothing is taken"
        mov     low_port, %eax
        lock orl $1 << EVTCHN_FIFO_MASKED, array(, %rax, 4)
        send    low_port
        println "unmasked"
        hypercall event_channel_op, $EVTCHNOP_unmask, $low_port
        ret

        entry   event, on_upcall
on_upcall:
        push_all
        movb    $0, shared_info + vcpu_info_evtchn_upcall_pending
        xor     %ebx, %ebx
1:      xor     %eax, %eax                      # rbx: queues that have something
        xchg    %eax, control + evtchn_fifo_control_block_ready
        or      %eax, %ebx
        bsf     %ebx, %ebp                      # rbp: the one of the highest priority
        jz      2f
        call    take_one
        jmp     1b
2:      pop_all
        ret

# Take the first event off queue %ebp; the last one clears its bit in %ebx.
        .globl  take_one
take_one:
        mov     heads(, %rbp, 4), %edi          # our own copy of the head, or Xen's if the queue was empty
        test    %edi, %edi
        jnz     1f
        mov     control + evtchn_fifo_control_block_head(, %rbp, 4), %edi
1:      mov     array(, %rdi, 4), %eax
2:      mov     %eax, %ecx                      # unlink it in one step: Xen may be linking the next behind it
        and     $UNLINK, %ecx
        lock cmpxchg %ecx, array(, %rdi, 4)
        jne     2b
        and     $EVTCHN_FIFO_LINK_MASK, %eax
        mov     %eax, heads(, %rbp, 4)
        jnz     3f
        btr     %ebp, %ebx                      # it was the last
3:      bt      $EVTCHN_FIFO_MASKED, %ecx
        jc      4f
        lock btrl $EVTCHN_FIFO_PENDING, array(, %rdi, 4)
        jnc     4f
        print   "taken: "
        mov     $low_name, %rsi
        cmp     low_port, %edi
        je      5f
        mov     $middle_name, %rsi
        cmp     middle_port, %edi
        je      5f
        mov     $high_name, %rsi
5:      mov     %rsi, %rdi
        call    print_string
        print   " from queue "
        print_dec %rbp
        println
4:      ret

        .data
low_name:
        .asciz  "low"
middle_name:
        .asciz  "middle"
high_name:
        .asciz  "high"
        .balign 8
low:    .long   0                               # struct evtchn_bind_ipi: vcpu, port
low_port:
        .long   0
middle: .long   0
middle_port:
        .long   0
high:   .long   0
high_port:
        .long   0
change: .long   0, 0                            # struct evtchn_set_priority: port, priority
init:   .quad   0                               # struct evtchn_init_control: page, offset, vcpu, link bits
        .long   0, 0
        .quad   0
expand: .quad   0                               # struct evtchn_expand_array: page

        .bss
        .balign PAGE_SIZE
control:
        .skip   PAGE_SIZE
array:  .skip   PAGE_SIZE
heads:  .skip   16 * 4
