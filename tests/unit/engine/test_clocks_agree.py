"""TSC, pvclock, run states and the wall clock tell one time, in each clock mode and on every vCPU."""

from __future__ import annotations

import struct
import time
from typing import NamedTuple

import pytest
from guest_kit import assemble

import hv
from hv.abi.xen import XEN_PVCLOCK_TSC_STABLE_BIT, shared_info
from hv.builder.image import load, symbols
from hv.machine.domain import BOOT_EPOCH

VCPUS, ENTRIES, ENTRY = 3, 60, 144

# Each vCPU in turn makes an entry: a run state of its own, the TSC, a run state, its number, and its vcpu_time_info.
WATCHING = """
        use_shared_info
        .set    VCPUS, 3
        .set    ENTRIES, 60
        .set    ENTRY, 144
main:   call    map_shared_info
        same_page_table context
        mov     $1, %ebx
1:      mov     %rbx, context + vcpu_guest_context_user_regs + cpu_user_regs_rbx
        hypercall vcpu_op, $VCPUOP_initialise, %rbx, $context
        hypercall vcpu_op, $VCPUOP_up, %rbx
        inc     %ebx
        cmp     $VCPUS, %ebx
        jb      1b
        xor     %ebx, %ebx
watch:  mov     next, %rbp
        cmp     $log + ENTRY * ENTRIES, %rbp
        je      1f
        addq    $ENTRY, next
        hypercall vcpu_op, $VCPUOP_get_runstate_info, %rbx, %rbp
        rdtsc
        shl     $32, %rdx
        or      %rdx, %rax
        mov     %rax, 48(%rbp)
        lea     56(%rbp), %r12
        hypercall vcpu_op, $VCPUOP_get_runstate_info, %rbx, %r12
        mov     %rbx, 104(%rbp)
        imul    $sizeof_vcpu_info, %rbx, %rsi
        add     $shared_info + vcpu_info_time, %rsi
        lea     112(%rbp), %rdi
        mov     $4, %ecx
        rep movsq
        hypercall sched_op, $SCHEDOP_yield
        jmp     watch
1:      hypercall sched_op, $SCHEDOP_poll, $poll        # for ever
        .data
        .balign 8
next:   .quad   log
poll:   .quad   0, 0, 0
context:
        vcpu_context watch, 0
        .bss
        .balign 8
        .globl  log
log:    .skip   ENTRY * ENTRIES
"""


class Entry(NamedTuple):
    """What a vCPU saw in its turn, in this order: its run state, the TSC, its run state again, and its clock."""

    before: tuple[int, ...]  # state, state_entry_time, four times
    tsc: int
    after: tuple[int, ...]
    vcpu: int
    clock: tuple[int, ...]  # vcpu_time_info: version, tsc_timestamp, system_time, tsc_to_system_mul, tsc_shift, flags

    @property
    def system_time(self) -> int:
        """By the ABI's formula."""
        _, timestamp, system_time, factor, shift, _ = self.clock
        delta = self.tsc - timestamp
        return system_time + ((delta << shift if shift >= 0 else delta >> -shift) * factor >> 32)


def birth(state: str, entered: int, times: tuple[int, ...]) -> int:
    """When a vCPU was made that has not run yet: offline, and runnable since, if it is the first."""
    return entered if state == "offline" else entered - times[3]


def entry(data: bytes) -> Entry:
    words = struct.unpack("<i4x5QQi4x5QQI4xQQIbB2x", data)
    return Entry(words[:6], words[6], words[7:13], words[13], words[14:])


@pytest.mark.parametrize("clock", ["virtual", "paced", "host"])
def test_one_time(clock: str) -> None:
    image = assemble(WATCHING, "watching")
    log = next(address for address, _, name in symbols(load(image, "watching")) if name == "log")
    began = time.time_ns()
    with hv.Machine(clock=clock) as machine:
        made = time.time_ns()
        time.sleep(0.05)  # a domain is made some time after the machine
        domain = machine.create(image, vcpus=VCPUS)
        births = [birth(*domain.guest.runstate(i)) for i in range(VCPUS)]
        assert machine.run(timeout=30) == "idle"
        data = domain.guest.read(log, ENTRIES * ENTRY)
        shared = domain.engine.page(domain.guest.shared_mfn)
        wall_clock = shared_info.from_buffer_copy(shared)
        now = machine.now_ns

    entries = [entry(data[at : at + ENTRY]) for at in range(0, len(data), ENTRY)]
    assert {e.vcpu for e in entries} == set(range(VCPUS))
    last = 0
    for e in entries:
        assert e.before[0] == e.after[0] == 0  # running
        created = births[e.vcpu]
        assert created <= e.before[1] <= e.system_time
        # the four times add up to the time since the domain was made: a second clock beside the TSC
        assert last <= created + sum(e.before[2:]) <= e.system_time <= created + sum(e.after[2:])
        last = created + sum(e.after[2:])
        assert e.clock[0] % 2 == 0
        assert e.clock[5] == XEN_PVCLOCK_TSC_STABLE_BIT
    assert last <= now

    tick_0 = (wall_clock.wc_sec_hi << 32 | wall_clock.wc_sec) * 10**9 + wall_clock.wc_nsec
    assert wall_clock.wc_version % 2 == 0
    if clock == "virtual":
        assert tick_0 == BOOT_EPOCH * 10**9
    else:
        assert began - 10**6 <= tick_0 <= made + 10**6  # the host's two clocks are not read at once
