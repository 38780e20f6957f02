"""vCPUs, timers and run states in lockstep with a model: random orders to three vCPUs that spin while they have none.

Beside what the model says, after every step: the four times of each vCPU add up to its age to the nanosecond, one vCPU
has the CPU if any wants it, and nobody who wanted it all the time got less than his share.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import pytest
from guest_kit import assemble
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from vcpu_model import Domain, Vcpu

import hv
from hv.abi import hypercalls as rows
from hv.abi import vcpu as abi
from hv.abi.event_channel import EVTCHNSTAT_virq
from hv.abi.xen import VIRQ_TIMER
from hv.builder.image import load, symbols

COUNT = 3
FIRST_PORT = 10
MS = 1_000_000
QUANTUM = MS

# Each vCPU makes the calls that it finds in its slot of `orders`: number, three arguments, 32 bytes for a structure.
SPINNING = """
        use_shared_info
        .set    COUNT, 3
main:   call    map_shared_info
        same_page_table context
        mov     $1, %ebx
        hypercall vcpu_op, $VCPUOP_stop_periodic_timer, $0
1:      mov     %rbx, context + vcpu_guest_context_user_regs + cpu_user_regs_rbx
        hypercall vcpu_op, $VCPUOP_stop_periodic_timer, %rbx
        hypercall vcpu_op, $VCPUOP_initialise, %rbx, $context
        hypercall vcpu_op, $VCPUOP_up, %rbx
        inc     %ebx
        cmp     $COUNT, %ebx
        jb      1b
        xor     %ebx, %ebx
spin:   mov     %rbx, %rbp
        shl     $6, %rbp
        add     $orders, %rbp
1:      mov     (%rbp), %rax
        test    %rax, %rax
        jz      1b
        mov     8(%rbp), %rdi
        mov     16(%rbp), %rsi
        mov     24(%rbp), %rdx
        movq    $0, (%rbp)
        syscall
        jmp     1b
        .data
        .balign 8
context:
        vcpu_context spin, 0
        .balign 64
        .globl  orders
orders: .skip   64 * COUNT
"""

who = st.integers(0, COUNT - 1)
soon = st.integers(-5 * MS, 30 * MS)
OPERATIONS: tuple[tuple[int, Any], ...] = (  # how often, and what
    (4, st.tuples(st.just("run"), st.integers(0, 12 * MS))),
    (2, st.tuples(st.just("down"), who)),
    (3, st.tuples(st.just("up"), who)),
    (2, st.tuples(st.just("event"), who)),
    (3, st.tuples(st.just("wake"), who)),
    (4, st.tuples(st.just("clear"), who)),
    (4, st.tuples(st.just("poll"), who, soon)),
    (4, st.tuples(st.just("poll"), who, st.none())),
    (2, st.tuples(st.just("singleshot"), who, soon)),
    (1, st.tuples(st.just("stop"), who)),
    (1, st.tuples(st.just("pause"), st.sampled_from((True, False, False)))),
    (2, st.tuples(st.just("pause"), st.just(False))),
)
operations = st.one_of(*(operation for often, operation in OPERATIONS for _ in range(often)))


@dataclass
class Pair:
    """The engine and the model, and the way to give both the same order."""

    machine: hv.Machine

    def __post_init__(self) -> None:
        image = assemble(SPINNING, "spinning")
        names = {name: address for address, _, name in symbols(load(image, "spinning"))}
        self.orders = names["orders"]
        self.domain = self.machine.create(image, vcpus=COUNT)
        self.guest: Any = self.domain.guest
        self.model = Domain([Vcpu() for _ in range(COUNT)])
        for i in range(COUNT):
            self.guest.set_port(FIRST_PORT + i, EVTCHNSTAT_virq, vcpu=i, detail=VIRQ_TIMER)
            self.guest.set_virq_port(i, VIRQ_TIMER, FIRST_PORT + i)
        self.run((COUNT + 1) * QUANTUM)

    @property
    def now(self) -> int:
        return int(self.machine.now_ns)

    def run(self, ns: int) -> None:
        outcome = self.machine.run(until_ns=self.now + ns, timeout=20)
        assert outcome in ("until", "idle")
        self.model.pass_time(self.now)

    def _order(self, index: int, call: str, *words: int, structure: bytes = b"") -> bool:
        """Let a vCPU make a hypercall. False where it can not now; the order is taken back then."""
        if self.model.paused or not self.model.vcpus[index].run_states() & {"running", "runnable"}:
            return False
        slot = self.orders + 64 * index
        padded = [*words, *[0] * (3 - len(words))]
        number = rows.BY_NAME[call].number
        made = self.guest.hypercall_counts.get(number, 0)
        self.guest.write(slot + 8, struct.pack("<3Q", *padded) + structure)
        self.guest.write(slot, struct.pack("<Q", number))
        for _ in range(COUNT + 1):
            self.machine.run(until_ns=self.now + QUANTUM, timeout=20)
            if self.guest.hypercall_counts.get(number, 0) > made:  # it may have lost the CPU just before the call
                return True
        raise AssertionError(f"vCPU {index} did not get the CPU for {COUNT + 1} time slices")

    # --- the operations

    def down(self, index: int) -> None:
        if self.model.may_go_down(index):
            assert self.guest.vcpu_down(index) == 0
            self.model.vcpus[index].down = True

    def up(self, index: int) -> None:
        assert self.guest.vcpu_up(index) == 0
        self.model.vcpus[index].down = False

    def event(self, index: int) -> None:
        self.guest.raise_port(FIRST_PORT + index)
        self.model.vcpus[index].event()

    def wake(self, index: int) -> None:
        self.event(index)
        self.clear(index)

    def clear(self, index: int) -> None:
        byte, bit = self._pending_bit(index)
        self.machine.engine.page(self.guest.shared_mfn)[byte] &= ~bit
        self.model.vcpus[index].pending = False

    def pause(self, on: bool) -> None:
        self.guest.paused = on
        self.model.paused = on

    def poll(self, index: int, delta: int | None) -> None:
        began, vcpu = self.now, self.model.vcpus[index]
        timeout = 0 if delta is None else max(1, began + delta)
        slot = self.orders + 64 * index + 32
        poll = struct.pack("<QIIQI4x", slot + 24, 1, 0, timeout, FIRST_PORT + index)
        if not self._order(index, "sched_op", 3, slot, structure=poll):
            return
        old = vcpu.poll_timeout
        if not vcpu.pending and not (vcpu.singleshot and vcpu.singleshot <= self.now):
            vcpu.polling = True
            if timeout:
                vcpu.poll_timeout = timeout
            elif old and began < old <= self.now:  # before the call or behind it: nobody here can tell
                vcpu.poll_timeout = None
                vcpu.polling = self.guest.vcpu_state(index) == "polling"
        self.model.pass_time(self.now)

    def singleshot(self, index: int, delta: int) -> None:
        at = max(1, self.now + delta)
        structure = struct.pack("<QII", at, 0, 0)
        slot = self.orders + 64 * index + 32
        if self._order(index, "vcpu_op", abi.VCPUOP_set_singleshot_timer, index, slot, structure=structure):
            self.model.vcpus[index].singleshot = at
        self.model.pass_time(self.now)

    def stop(self, index: int) -> None:
        vcpu, began = self.model.vcpus[index], self.now
        if self._order(index, "vcpu_op", abi.VCPUOP_stop_singleshot_timer, index):
            if vcpu.singleshot and began < vcpu.singleshot <= self.now:  # before the call or behind it
                vcpu.singleshot = None
                if self.guest.port(FIRST_PORT + index)[5] and self._is_pending(index):
                    vcpu.event()
            vcpu.singleshot = None
        self.model.pass_time(self.now)

    def _is_pending(self, index: int) -> bool:
        byte, bit = self._pending_bit(index)
        return bool(self.machine.engine.page(self.guest.shared_mfn)[byte] & bit)

    def _pending_bit(self, index: int) -> tuple[int, int]:
        """(offset in shared_info, bit) of its port."""
        return 64 * 32 + (FIRST_PORT + index) // 8, 1 << (FIRST_PORT + index) % 8

    # --- what must hold

    def check(self) -> None:
        assert not self.domain.ended
        states = [self.guest.runstate(i) for i in range(COUNT)]
        for i, (state, entry, times) in enumerate(states):
            assert sum(times) == self.now
            assert entry <= self.now
            assert self._is_pending(i) == self.model.vcpus[i].pending, f"vCPU {i}"
            assert (self.guest.vcpu_state(i) == "down") == self.model.vcpus[i].down
            assert state in self.model.run_states(i), f"vCPU {i}"
        assert sum(state == "running" for state, _, _ in states) <= 1


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example([("poll", 1, 9 * MS), ("wake", 1), ("poll", 1, None), ("run", 12 * MS)])  # the old timeout ends it
@example([("poll", 1, None), ("down", 1), ("up", 1), ("run", 0), ("wake", 1)])  # it still sleeps when it is up again
@example([("poll", 1, None), ("down", 1), ("event", 1), ("up", 1)])
@given(st.lists(operations, min_size=30, max_size=60))
def test_vcpus_in_lockstep(steps: list[tuple[Any, ...]]) -> None:
    with hv.Machine() as machine:
        pair = Pair(machine)
        for name, *arguments in steps:
            getattr(pair, name)(*arguments)
            pair.run(10_000)  # a switch that is due takes place
            pair.check()


@pytest.mark.parametrize("wanting", [(0,), (0, 2), (1, 2), (0, 1, 2)])
def test_equal_shares(wanting: tuple[int, ...]) -> None:
    """Who wants the CPU gets it in turn, a quantum each: over a whole number of rounds they get the same."""
    with hv.Machine() as machine:
        pair = Pair(machine)
        for index in set(range(COUNT)) - set(wanting):
            pair.down(index)
        pair.run(3 * QUANTUM)
        before = [pair.guest.runstate(i)[2][0] for i in range(COUNT)]
        pair.run(5 * len(wanting) * QUANTUM)
        shares = [pair.guest.runstate(i)[2][0] - before[i] for i in range(COUNT)]
        for i in range(COUNT):
            assert abs(shares[i] - (5 * QUANTUM if i in wanting else 0)) < 1000
        assert sum(shares) in (5 * len(wanting) * QUANTUM, 5 * len(wanting) * QUANTUM + 1)
