"""A domain's hostility is its own: beside each of these neighbours a peaceful domain gets done what is its share.

All is measured in virtual time, so that each row is the same on every host.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from grant_kit import GRANTED_TO_ITSELF
from guest_kit import assemble

import hv

MS = 1_000_000
SPAN = 60 * MS
BELL = 3  # the first port of machine.connect, in both

# Works without pause, and counts: rounds of work, ticks of its 1 ms timer, events from elsewhere.
PEACEFUL = """
        use_shared_info
        use_events on_event
main:   call    map_shared_info
        hypercall event_channel_op, $EVTCHNOP_bind_virq, $virq
        mov     $shared_info + shared_info_evtchn_mask, %rdi
        movq    $0, (%rdi)
        hypercall set_callbacks, $upcall, $0, $0
        hypercall vcpu_op, $VCPUOP_set_periodic_timer, $0, $period
        movb    $0, shared_info + vcpu_info_evtchn_upcall_mask
work:   mov     $1000, %rcx
1:      dec     %rcx
        jnz     1b
        hypercall xen_version, $XENVER_version
        incq    rounds
        jmp     work
        entry   upcall, scan_events
on_event:
        cmp     virq + evtchn_bind_virq_port, %edi
        jne     1f
        incq    ticks
        ret
1:      incq    bells
        ret
        .data
        .balign 8
        .globl  rounds, ticks, bells
rounds: .quad   0
ticks:  .quad   0
bells:  .quad   0
virq:   .long   VIRQ_TIMER, 0, 0
        .balign 8
period: .quad   1000000
"""

ALL_VCPUS = """
main:   same_page_table context
        mov     $1, %ebx
1:      hypercall vcpu_op, $VCPUOP_initialise, %rbx, $context
        hypercall vcpu_op, $VCPUOP_up, %rbx
        inc     %ebx
        cmp     $64, %ebx
        jb      1b
spin:   jmp     spin
        .globl  spin
        .data
        .balign 8
context:                                                # struct vcpu_guest_context
        .skip   vcpu_guest_context_flags
        .quad   VGCF_in_kernel
        .skip   vcpu_guest_context_user_regs + cpu_user_regs_rip - vcpu_guest_context_flags - 8
        .quad   spin
        .quad   FLAT_KERNEL_CS
        .quad   EFLAGS_IF
        .quad   0
        .quad   FLAT_KERNEL_SS
        .skip   sizeof_vcpu_guest_context - vcpu_guest_context_user_regs - cpu_user_regs_ss - 8
"""

FILLING = """
        .include "store.inc"
        use_shared_info
        use_store
main:   call    map_shared_info
        call    find_store
again:  mov     $XS_WRITE, %edi
        mov     $payload, %rsi
        mov     $200, %edx
        call    request
        incl    payload + 7                             # another name each time, until there is no more room
        andl    $0x07070707, payload + 7
        orl     $0x61616161, payload + 7
        mov     $XS_WATCH, %edi
        mov     $payload, %rsi
        mov     $14, %edx
        call    request
        jmp     again
        .data
payload: .asciz "data/x-aaaa"
        .asciz  "t"
        .skip   200
"""

MAPPING = GRANTED_TO_ITSELF + """
1:      grants  map_grant_ref, map                      # never unmapped: until there are no handles left
        grants  set_version, version
        jmp     1b
        .data
        .balign 8
        map_op  map, 0, 8, GNTMAP_device_map
version: .long  2
        .bss
        .balign 4096
page:   .skip   4096
"""

NEIGHBOURS = {
    "spins with events masked": "main: jmp main",
    "floods with events": f"""
main:   hypercall event_channel_op, $EVTCHNOP_send, $port
        jmp     main
        .data
        .balign 4
port:   .long   {BELL}
""",
    "fills XenStore": FILLING,
    "floods the console": 'main: println "flood flood flood flood flood flood flood flood flood flood"\n jmp main',
    "floods the log": """
main:   hypercall console_io, $CONSOLEIO_write, $2000, $_start
        jmp     main
""",
    "uses up handles of grants": MAPPING,
    "uses up event channels": """
main:   hypercall event_channel_op, $EVTCHNOP_alloc_unbound, $offer
        jmp     main
        .data
        .balign 8
offer:  .word   DOMID_SELF, 0
        .long   0
""",
    "yields all the time": "main: hypercall sched_op, $SCHEDOP_yield\n jmp main",
    "asks for timers in the past": "main: hypercall set_timer_op, $1\n jmp main",
    "has 64 vCPUs": ALL_VCPUS,
    "makes hypercalls that do not exist": "main: mov $63, %eax\n syscall\n jmp main",
    "makes huge hypercalls": """
main:   hypercall mmu_update, $_start, $0x7fffffff, $0, $DOMID_SELF
        hypercall multicall, $calls, $0x1000
        hypercall grant_table_op, $GNTTABOP_copy, $calls, $0x7fffffff
        jmp     main
        .data
        .balign 4096
calls:  .skip   4096
""",
    "faults in user mode": "main: ud2",
    "overflows its stack": "main: push %rax\n jmp main",
    "reboots all the time": "main: shut_down SHUTDOWN_reboot",
    "gives memory back and takes it again": """
main:   hypercall memory_op, $XENMEM_increase_reservation, $more
        hypercall memory_op, $XENMEM_populate_physmap, $more
        hypercall memory_op, $XENMEM_decrease_reservation, $more
        jmp     main
        .data
        .balign 8
more:   .quad   frames, 64
        .long   0, 0
        .word   DOMID_SELF
        .balign 8
frames: .skip   512
""",
}


class Peaceful:
    def __init__(self, machine: hv.Machine) -> None:
        self.domain = machine.create(assemble(PEACEFUL), memory="8M", name="peaceful")

    def count(self, name: str) -> int:
        address = self.domain.symbols.address(name)
        assert address is not None
        return int.from_bytes(self.domain.guest.read(address, 8), "little")


def create(machine: hv.Machine, text: str) -> hv.Domain:
    return machine.create(assemble(text), memory="8M", vcpus=64 if text is ALL_VCPUS else 1, name="hostile")


@contextmanager
def peaceful(memory: str = "1G") -> Iterator[tuple[hv.Machine, Peaceful]]:
    with hv.Machine(memory=memory) as machine:
        yield machine, Peaceful(machine)


def alone() -> int:
    with peaceful() as (machine, one):
        machine.run(until_ns=SPAN, timeout=60)
        assert one.count("ticks") >= SPAN // MS - 1
        return one.count("rounds")


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_half_of_the_processor_is_left(name: str) -> None:
    """However it behaves; and each of its ticks comes in time."""
    most = alone()
    with peaceful() as (machine, one):
        hostile = create(machine, NEIGHBOURS[name])
        assert machine.connect(hostile, one.domain) == (BELL, BELL)
        machine.run(until_ns=SPAN, timeout=60)
        assert not one.domain.ended
        assert one.count("rounds") > 0.47 * most
        assert one.count("ticks") >= SPAN // MS // 2 - 1
        assert one.count("bells") <= one.count("ticks") + 2  # however many were sent: one for a turn
        hostile.destroy()
        machine.run(until_ns=SPAN + 10 * MS, timeout=60)
        assert not one.domain.ended


def test_all_of_them_at_once() -> None:
    """The peaceful one still has its share by weight."""
    most = alone()
    with peaceful() as (machine, one):
        for number, text in enumerate(NEIGHBOURS.values()):
            machine.create(assemble(text), memory="8M", vcpus=64 if text is ALL_VCPUS else 1, name=f"hostile {number}")
        machine.run(until_ns=SPAN, timeout=120)
        assert not one.domain.ended
        assert one.count("rounds") > 0.9 * most / (len(NEIGHBOURS) + 1)


def rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_domains_come_and_go_without_a_leak() -> None:
    """Beside one that goes on. `HV_CYCLES` makes it longer."""
    cycles = int(os.environ.get("HV_CYCLES", "60"))
    guests = [assemble(text) for name, text in NEIGHBOURS.items() if name not in ("has 64 vCPUs", "floods the log")]
    with peaceful("32M") as (machine, one):  # room for one of them at a time
        before: tuple[int, ...] = ()
        for cycle in range(cycles):
            if cycle == cycles // 3:  # by now all that is kept for the next time is there
                before = (rss(), *held(machine))
            other = machine.create(guests[cycle % len(guests)], memory="4M", name="guest", weight=1024)
            machine.connect(one.domain, other)
            machine.run(until_ns=machine.now_ns + MS // 2, timeout=60)
            other.destroy()
            assert machine.domains.pop() is other
            close_unbound(one.domain)
        after = (rss(), *held(machine))
        assert after[1:] == before[1:]
        assert after[0] - before[0] < 4 << 20
        done = one.count("rounds")
        machine.run(until_ns=machine.now_ns + MS, timeout=60)
        assert one.count("rounds") > done


def held(machine: hv.Machine) -> tuple[int, ...]:
    """What a domain takes of the host and of the machine."""
    ports = sum(machine.domain0.guest.port(port)[0] != 0 for port in range(1, 64))
    frames = len(machine.engine.frames_in_use)
    return len(os.listdir("/proc/self/fd")), frames, ports, len(machine.store.ls("/local/domain"))


def close_unbound(domain: hv.Domain) -> None:
    for port in range(BELL, 64):
        if domain.guest.port(port)[0] == 1:
            domain.events.close(port)
