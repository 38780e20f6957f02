# bell: a page that two sides share, and an event that says it has changed.
#
# Every split driver of Xen works like this. Data goes through shared memory, which nobody is told about; an event channel
# is the bell that says "look". Here both sides live in one domain: the page is mapped twice, writable for the writer, read-
# only for the reader, and the bell is a loopback channel whose far end the writer has.
#
# Two rules keep it right. The writer writes first and rings then. And the reader looks at the page, not at the number of
# bells: rings while it has not looked yet merge into one, as a pending port sends nothing further.
#
# Title: A shared page, written through one mapping and read through another, with a bell
# Exit: 0
# Output:
#   the reader may not write: yes
#   version 1: first
#   version 2: second
#   three more while the reader is busy
#   version 5: fifth
#   bells rung: 5, heard: 3

        .include "guest.inc"
        guest   "bell"
        use_shared_info
        use_events on_event

        .set    version, 0                      # the page: how often it was written, and a text
        .set    text, 8

        .macro  write_and_ring words
        .pushsection .rodata
.Lwords\@:
        .asciz  "\words"
        .popsection
        mov     $.Lwords\@, %rdi
        call    update
        .endm

main:
        call    map_shared_info
        hypercall set_trap_table, $traps
        hypercall set_callbacks, $event, $0, $0
        mov     $page, %rdi
        call    virt_to_mfn
        shl     $12, %rax
        or      $KERNEL_PAGE_RO, %rax
        mov     %rax, %rsi
        hypercall update_va_mapping, $reader_page, %rsi, $UVMF_INVLPG
        hypercall event_channel_op, $EVTCHNOP_alloc_unbound, $unbound
        mov     writer_port, %eax
        mov     %eax, loopback + evtchn_bind_interdomain_remote_port
        hypercall event_channel_op, $EVTCHNOP_bind_interdomain, $loopback
        mov     reader_port, %ebx
        lock btr %rbx, shared_info + shared_info_evtchn_pending # a new interdomain port starts out pending
        hypercall event_channel_op, $EVTCHNOP_unmask, $reader_port
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask

        print   "the reader may not write: "
        movq    $1, reader_page + version
store_end:
        cmpq    $1, faults
        print_if e
        write_and_ring "first"
        write_and_ring "second"
        println "three more while the reader is busy"
        lock bts %rbx, shared_info + shared_info_evtchn_mask
        write_and_ring "third"
        write_and_ring "fourth"
        write_and_ring "fifth"
        hypercall event_channel_op, $EVTCHNOP_unmask, $reader_port
        print   "bells rung: "
        print_dec rung
        print   ", heard: "
        print_dec heard
        println
        ret

# The writer: put the string at %rdi on the page, then ring.
        .globl  update
update:
        push_all
        mov     %rdi, %rsi
        mov     $page + text, %rdi
1:      lodsb
        stosb
        test    %al, %al
        jnz     1b
        incq    page + version
        incq    rung
        hypercall event_channel_op, $EVTCHNOP_send, $writer_port
        pop_all
        ret

        entry   event, on_upcall
on_upcall:
        call    scan_events
        ret

on_event:                                       # the reader
        push_all
        incq    heard
        print   "version "
        print_dec reader_page + version
        print   ": "
        mov     $reader_page + text, %rdi
        call    print_string
        println
        pop_all
        ret

        entry   page_fault, on_page_fault, 1
on_page_fault:
        incq    faults
        movq    $store_end, frame_rip(%rdi)
        ret

        .data
        .balign 8
traps:  trap    14, 0, page_fault
        trap    0, 0, 0
faults: .quad   0
rung:   .quad   0
heard:  .quad   0
unbound:
        .word   DOMID_SELF, DOMID_SELF          # struct evtchn_alloc_unbound: for whom, by whom, port
writer_port:
        .long   0
loopback:
        .word   DOMID_SELF, 0                   # struct evtchn_bind_interdomain: whose, which port, our new port
        .long   0
reader_port:
        .long   0

        .bss
        .balign PAGE_SIZE
page:   .skip   PAGE_SIZE
reader_page:
        .skip   PAGE_SIZE
