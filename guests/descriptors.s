# descriptors: a PV guest's own segment descriptors, in the GDT and in an LDT.
#
# Descriptors decide about privilege, so Xen must see every one: a frame that holds descriptors is checked when it becomes
# part of the GDT or LDT, and is mapped read-only as long as it is. Code and data get privilege level 3, whatever the
# guest wrote: its kernel runs there. Later changes of one entry go through update_descriptor. The last entries of the
# GDT are Xen's; FLAT_KERNEL_DS and its like are there.
#
# Look at the base of a segment, which the data below is read through, and at the error codes of bad selectors: an error
# code is the selector without its RPL, and 4 in it says LDT. (-22 is EINVAL, -16 is EBUSY.)
#
# Title: Segment descriptors: set_gdt, update_descriptor, SET_LDT, bad selectors
# Exit: 0
# Output:
#   set_gdt of a writable page: -22
#   set_gdt of a read-only one: 0
#   map it writable again: -16
#   privilege level of the entry: 3
#   load fs: done
#   through fs: the second word: 0x2222
#   an entry of the GDT that is zero: #GP error 0x28
#   a segment that is not present: #NP error 0x10
#   an entry behind those of set_gdt: #GP error 0x1040
#   Xen's own data segment: done
#   update_descriptor: 0
#   the old base until fs is loaded again: 0x2222
#   load fs: done
#   through fs: the first word: 0x1111
#   update_descriptor to a TSS: -22
#   an LDT before there is one: #GP error 0xc
#   SET_LDT: 0
#   load fs from the LDT: done
#   through fs: the third word: 0x3333
#   an entry behind the LDT's end: #GP error 0x14
#   SET_LDT to none: 0
#   load fs from the LDT: #GP error 0xc

        .include "guest.inc"
        guest   "descriptors"

        .set    RPL, 3
        .set    TI_LDT, 4
        .set    PRESENT_DATA, 0x00cf93000000ffff        # writable data, limit 4 GiB, present, privilege level 0
        .set    NOT_PRESENT, 0x00cf73000000ffff         # privilege level 3
        .set    TSS, 0x0000890000000067
        .set    ENTRIES, 8

        .macro  result text
        print   "\text: "
        print_dec %rax
        println
        .endm

# Load SELECTOR into fs and say what became of it.
        .macro  load_fs text, selector
        print   "\text: "
        movq    $.Lbehind\@, behind
        mov     $\selector, %eax
        mov     %eax, %fs
        println "done"
.Lbehind\@:
        .endm

# What is at WORDS in the segment fs: its base is added to the address.
        .macro  through_fs text
        mov     $words, %rax
        mov     %fs:(%rax), %eax
        print   "\text: "
        print_hex %rax
        println
        .endm

        .macro  map_page address, flags
        mov     $\address, %rdi
        call    virt_to_mfn
        shl     $12, %rax
        or      $\flags, %rax
        hypercall update_va_mapping, $\address, %rax, $UVMF_INVLPG
        .endm

        .macro  use_gdt text
        mov     $gdt, %rdi
        call    virt_to_mfn
        mov     %rax, frames
        hypercall set_gdt, $frames, $ENTRIES
        result  "\text"
        .endm

# VALUE into entry 1 of the GDT, by its machine address.
        .macro  update text, value
        mov     $gdt, %rdi
        call    virt_to_mfn
        shl     $12, %rax
        lea     8(%rax), %rdi
        movabs  $\value, %rsi
        hypercall update_descriptor
        result  "\text"
        .endm

main:
        hypercall set_trap_table, $traps

        use_gdt "set_gdt of a writable page"
        map_page gdt, KERNEL_PAGE_RO
        use_gdt "set_gdt of a read-only one"
        map_page gdt, KERNEL_PAGE
        result  "map it writable again"
        print   "privilege level of the entry: "
        mov     gdt + 8 + 5, %al
        shr     $5, %al
        and     $3, %eax
        print_dec %rax
        println
        load_fs "load fs", 1 << 3 | RPL
        through_fs "through fs: the second word"
        load_fs "an entry of the GDT that is zero", 5 << 3 | RPL
        load_fs "a segment that is not present", 2 << 3 | RPL
        load_fs "an entry behind those of set_gdt", 520 << 3 | RPL
        load_fs "Xen's own data segment", FLAT_KERNEL_DS
        mov     $1 << 3 | RPL, %eax
        mov     %eax, %fs
        update  "update_descriptor", PRESENT_DATA
        through_fs "the old base until fs is loaded again"
        load_fs "load fs", 1 << 3 | RPL
        through_fs "through fs: the first word"
        update  "update_descriptor to a TSS", TSS

        load_fs "an LDT before there is one", 1 << 3 | TI_LDT | RPL
        map_page ldt, KERNEL_PAGE_RO
        hypercall mmuext_op, $set_ldt, $1, $0, $DOMID_SELF
        result  "SET_LDT"
        load_fs "load fs from the LDT", 1 << 3 | TI_LDT | RPL
        through_fs "through fs: the third word"
        load_fs "an entry behind the LDT's end", 2 << 3 | TI_LDT | RPL
        hypercall mmuext_op, $no_ldt, $1, $0, $DOMID_SELF
        result  "SET_LDT to none"
        load_fs "load fs from the LDT", 1 << 3 | TI_LDT | RPL
        ret

        entry   not_present, on_not_present, error=1
on_not_present:
        print   "#NP"
        jmp     1f
        entry   protection, on_protection, error=1
on_protection:
        print   "#GP"
1:      print   " error "
        print_hex frame_error(%rdi)
        println
        mov     behind, %rax
        mov     %rax, frame_rip(%rdi)
        ret

        .data
        .balign 8
traps:  trap    11, 0, not_present
        trap    13, 0, protection
        trap    0, 0, 0
set_ldt:                                        # struct mmuext_op: cmd, linear_addr, nr_ents
        .long   MMUEXT_SET_LDT, 0
        .quad   ldt, 2
no_ldt: .long   MMUEXT_SET_LDT, 0
        .quad   0, 0
frames: .quad   0
words:  .long   0x1111, 0x2222, 0x3333

        .balign PAGE_SIZE
gdt:    .quad   0
        .quad   PRESENT_DATA | 4 << 16          # base 4
        .quad   NOT_PRESENT
        .balign PAGE_SIZE
ldt:    .quad   0
        .quad   PRESENT_DATA | 8 << 16          # base 8
        .balign PAGE_SIZE

        .bss
        .balign 8
behind: .skip   8
