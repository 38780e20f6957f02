"""A guest that makes the hypercalls it is given, and hv watched while it does.

After each call the guest makes one that does not exist: there hv's invariants are looked at, every so often all of its
references are counted again, and a second guest must be as it was. A guest that ends itself or is lost (a call may
turn its world upside down) is replaced: that is no failure. An exception in hv, a wrong count or a hang is.
"""

from __future__ import annotations

import random
import struct
from types import TracebackType
from typing import Any

from guest_kit import MACHPHYS, PAGE, UNMAPPED, VIRT_BASE, assemble, symbols
from recount import wrong_counts

import hv
from hv.abi.grant_table import GTF_permit_access, GTF_readonly
from hv.builder.image import load

from .random_calls import CHECK, DOMIDS, ENTRY, Pools, RandomCalls

BATCH = 32
RECOUNT_EVERY = 1000
GUESTS_A_MACHINE = 500
PATIENCE_NS = 20_000_000  # of virtual time for a batch
FIRST_GRANT = 8  # of the guest's own; those before are the toolstack's
GRANT = struct.Struct("<HHI")  # version 1: flags, to whom, frame

GUEST = f"""
        use_shared_info
main:   call    map_shared_info
        hypercall vcpu_op, $VCPUOP_stop_periodic_timer, $0
again:  hypercall sched_op, $SCHEDOP_poll, $poll
        cmpq    $0, left
        je      again
        lea     calls, %rbx
1:      mov     (%rbx), %rax
        mov     8(%rbx), %rdi
        mov     16(%rbx), %rsi
        mov     24(%rbx), %rdx
        mov     32(%rbx), %r10
        mov     40(%rbx), %r8
        mov     48(%rbx), %r9
        syscall
        mov     ${CHECK}, %eax
        syscall
        add     $64, %rbx
        decq    left
        jnz     1b
        jmp     again

        .data
        .balign 8
poll:   .quad   0
        .long   0, 0
        .quad   0
        .globl  left
left:   .quad   0
        .bss
        .balign 4096
        .globl  calls, arena
calls:  .skip   4096
arena:  .skip   48 * 4096
"""
ARENA_PAGES, ARGUMENT_PAGES = 48, 16


class FuzzFailure(AssertionError):
    """hv did something that it must never do."""


class Fuzzer:
    """`run(count)` makes that many calls; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.made = self.guests = self.lost = 0
        image = assemble(GUEST, "fuzzed")
        self._image, self._where = image, {name: at for at, _, name in symbols(load(image, "fuzzed"))}
        self.machine: hv.Machine | None = None

    def __enter__(self) -> Fuzzer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.machine is not None:
            self.machine.close()

    def run(self, count: int) -> None:
        end = self.made + count
        while self.made < end:
            if self.machine is None or self.guests % GUESTS_A_MACHINE == 0:
                self._new_machine()
            self._new_guest()
            while self.made < end and self._batch():
                pass
            if not self.domain.ended or self.domain.preserved:  # one that has suspended itself keeps what it holds
                self.domain.destroy()
            self._recount()

    # --- guests

    def _new_machine(self) -> None:
        if self.machine is not None:
            self.machine.close()
        self.machine = hv.Machine()
        self.bystander = self.machine.create(self._image, name="bystander", memory="8M")
        self.machine.run(timeout=20, until_ns=self.machine.now_ns + 10**6)
        self._memory = self._bystanders_memory()

    def _new_guest(self) -> None:
        assert self.machine is not None
        self.guests += 1
        self.domain = self.machine.create(self._image, name=f"fuzzed{self.guests}", memory="8M", vcpus=2)
        self.machine.run(timeout=20, until_ns=self.machine.now_ns + 10**6)
        self._grant(self.domain, self.domain.domid, 0)
        self._grant(self.bystander, self.domain.domid, GTF_readonly)
        self._serve = self.domain.guest.handler
        self.domain.guest.handler = self._watch
        self._calls = RandomCalls(
            self.rng,
            self._pools(),
            self._where["arena"] + (ARENA_PAGES - ARGUMENT_PAGES) * PAGE,
            ARGUMENT_PAGES * PAGE,
        )

    def _grant(self, domain: hv.Domain, to: int, flags: int) -> None:
        """Grants of the arena's first pages; what the bystander grants is only to be read."""
        table = self.bystander.engine.page(domain.guest.grants()[2][0])
        for i in range(16):
            mfn = domain.guest.walk(self._where["arena"] + i * PAGE)[1] or 0
            GRANT.pack_into(table, (FIRST_GRANT + i) * GRANT.size, GTF_permit_access | flags, to, mfn)

    def _pools(self) -> Pools:
        guest, engine = self.domain.guest, self.domain.engine
        arena = self._where["arena"]
        pages = [arena + i * PAGE for i in range(ARENA_PAGES - ARGUMENT_PAGES)]
        walks = [guest.walk(va) for va in pages]
        mfns = [mfn for _, mfn in walks if mfn is not None]
        tables = [where >> 12 for steps, _ in walks[:1] for _, where, _ in steps]
        foreign = [self.bystander.guest.walk(arena)[1] or 0]
        entries = [where for steps, _ in walks for level, where, _ in steps if level == 1]
        strange = [0, 1, 255, 256, engine.m2p_mfn, guest.shared_mfn, engine.nr_frames, 1 << 40, *foreign]
        return Pools(
            pointers=pages * 2
            + [
                arena + 4088,
                arena - 8,
                VIRT_BASE,
                UNMAPPED,
                MACHPHYS,
                0,
                8,
                1 << 47,
                0xFFFF_8700_0000_0000,
                (1 << 64) - 8,
            ],
            mfns=mfns * 2 + tables * 4 + strange,
            entries=entries + [where for steps, _ in walks[:1] for _, where, _ in steps],
            domids=[*DOMIDS, self.domain.domid, self.domain.domid],
        )

    # --- calls

    def _batch(self) -> bool:
        """Let the guest make the next calls; False where there is nobody any more to make more."""
        assert self.machine is not None
        self._calls.start()
        calls = b"".join(
            ENTRY.pack(number, *registers, 0) for number, registers in (self._calls.call() for _ in range(BATCH))
        )
        guest = self.domain.guest
        try:
            guest.write(self._where["arena"] + (ARENA_PAGES - ARGUMENT_PAGES) * PAGE, self._calls.memory)
            guest.write(self._where["calls"], calls)
            guest.write(self._where["left"], struct.pack("<Q", BATCH))
        except hv.engine.machine.GuestFault:
            return self._loses()
        for _ in range(2 * BATCH):  # it may block in every call
            made = self.made
            guest.wake(0)
            self.machine.run(timeout=60, until_ns=self.machine.now_ns + PATIENCE_NS)
            if self.domain.ended:
                return False
            if self._left() == 0:
                return True
            if made == self.made:
                break
        return self._loses()

    def _left(self) -> int:
        try:
            return int(struct.unpack("<Q", self.domain.guest.read(self._where["left"], 8))[0])
        except hv.engine.machine.GuestFault:
            return -1

    def _loses(self) -> bool:
        self.lost += 1
        return False

    # --- what must hold

    def _watch(self, vcpu: int, number: int, *registers: int) -> int:
        if number != CHECK:
            return int(self._serve(vcpu, number, *registers))
        self.made += 1
        inside = self.domain.guest.registers(vcpu)["rax"] != CHECK  # a multicall's list that happens to have its number
        broken = self.domain.guest.broken_invariant()
        if broken and not inside:
            self._fail(broken)
        if self.made % RECOUNT_EVERY == 0:
            self._recount()
        return 0

    def _recount(self) -> None:
        assert self.machine is not None
        wrong = wrong_counts(self.machine)
        if wrong:
            self._fail("; ".join(wrong[:8]))
        if self._bystanders_memory() != self._memory:
            self._fail("another guest's memory has changed")

    def _bystanders_memory(self) -> Any:
        frames = [self.bystander.guest.walk(self._where["arena"] + i * PAGE)[1] or 0 for i in range(ARENA_PAGES)]
        return [bytes(self.bystander.engine.page(mfn)) for mfn in frames]

    def _fail(self, what: str) -> None:
        calls = "" if self.domain.ended else "\n".join(map(str, self.domain.guest.last_calls()))
        raise FuzzFailure(f"after {self.made} calls, guest {self.guests}: {what}\n{calls}")
