"""Numbers of handles: every vCPU has a queue of its own, as on Xen (get_maptrack_handle, put_maptrack_handle)."""

from __future__ import annotations

import pytest
from grant_kit import GRANTED_TO_ITSELF
from guest_kit import assemble

import hv

# Each vCPU in its turn does what `script` says, a word at a time: 0x1000 + vCPU maps and prints the handle, another
# number unmaps that handle, -1 is the end.
TWO_VCPUS = GRANTED_TO_ITSELF + """
        same_page_table context
        hypercall vcpu_op, $VCPUOP_initialise, $1, $context
        hypercall vcpu_op, $VCPUOP_up, $1
        xor     %ebp, %ebp
        jmp     perform

second: mov     $1, %ebp

perform:                                                # %ebp: the vCPU
        mov     at, %rbx
        mov     script(, %rbx, 8), %rax
        cmp     $-1, %rax
        je      3f
        mov     %rax, %rcx
        sub     $0x1000, %rcx
        jae     1f
        xor     %ecx, %ecx                              # vCPU 0 unmaps
1:      cmp     %rcx, %rbp
        jne     2f
        cmp     $0x1000, %rax
        jb      unmap_it
        grants  map_grant_ref, map
        movl    $-1, %eax
        cmpw    $0, map + gnttab_map_grant_ref_status
        jne     4f
        mov     map + gnttab_map_grant_ref_handle, %eax
4:      print_dec %rax
        print   " "
        incq    at
        jmp     perform
unmap_it:
        mov     %eax, unmap + gnttab_unmap_grant_ref_handle
        mov     map + gnttab_map_grant_ref_dev_bus_addr, %rax
        mov     %rax, unmap + gnttab_unmap_grant_ref_dev_bus_addr
        grants  unmap_grant_ref, unmap
        incq    at
        jmp     perform
2:      hypercall sched_op, $SCHEDOP_yield
        jmp     perform
3:      test    %ebp, %ebp
        jnz     2b
        ret

        .data
        .balign 8
        map_op  map, 0, 8, GNTMAP_device_map
        unmap_op unmap, 0
        .balign 8
at:     .quad   0
script: .quad   SCRIPT
        .balign 8
context:                                                # struct vcpu_guest_context
        .skip   vcpu_guest_context_flags
        .quad   VGCF_in_kernel
        .skip   vcpu_guest_context_user_regs + cpu_user_regs_rip - vcpu_guest_context_flags - 8
        .quad   second
        .quad   FLAT_KERNEL_CS
        .quad   EFLAGS_IF
        .quad   second_stack
        .quad   FLAT_KERNEL_SS
        .skip   sizeof_vcpu_guest_context - vcpu_guest_context_user_regs - cpu_user_regs_ss - 8
        .bss
        .balign 4096
page:   .skip   4096
        .skip   4096
second_stack:
"""
V0, V1 = 0x1000, 0x1001
ROWS = [
    (2, [V0, V0, V1, V0, V1], [0, 1, 256, 2, 257]),  # a frame of 256 handles each
    (2, [V0, V1, V0, 0, 256, V0, V1], [0, 256, 1, 2, 257]),  # what is given back comes last
    (1, [V0, V1, V1, V0], [0, 2, 3, 4]),  # at the limit vCPU 1 takes 1 as its queue's last one, and then each it needs
    (0, [V0, V1], [0xFFFFFFFF, 0xFFFFFFFF]),
]


@pytest.mark.parametrize(("frames", "script", "handles"), ROWS)
def test_numbers(frames: int, script: list[int], handles: list[int]) -> None:
    text = TWO_VCPUS.replace("SCRIPT", ", ".join(map(str, [*script, -1])))
    with hv.Machine() as machine:
        domain = machine.create(assemble(text), vcpus=2, max_maptrack_frames=frames)
        machine.run(timeout=30)
        assert [int(word) for word in domain.console.output.split()] == handles
