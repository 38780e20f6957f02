# hello: the smallest guest that says something.
#
# Xen starts a PV guest in 64-bit mode, with paging on and rsi pointing at start_info. There is no BIOS, no device and
# no interrupt controller: everything is a hypercall or a page shared with somebody. This guest prints through the
# console ring, asks which Xen it runs on (xen_version), and powers off (sched_op). Look at include/guest.inc for
# `_start`, for how a hypercall is made, and for how the console page is found and written.
#
# Title: Prints a greeting and the version of Xen, and powers off
# Exit: 0
# Output:
#   Hello, world!
#   This is Xen 4.17.

        .include "guest.inc"
        guest   "hello"

main:
        println "Hello, world!"
        hypercall xen_version, $XENVER_version          # major << 16 | minor
        movzwl  %ax, %ebx
        shr     $16, %eax
        print   "This is Xen "
        print_dec %rax
        print   "."
        print_dec %rbx
        println "."
        ret
