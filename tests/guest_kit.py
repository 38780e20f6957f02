"""What tests need to make guests: an assembler for snippets, and a guest that does what it is told.

`assemble` turns the text of a guest, written as those in guests/ are, into an image. `Puppet` is a guest whose
kernel makes hypercalls and memory accesses by order of the test: real instructions on the emulated CPU, so that what
it can not do, no guest can.
"""

from __future__ import annotations

import functools
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hv
from hv.abi import emit, errno
from hv.abi import hypercalls as rows
from hv.abi.xen import DOMID_SELF

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # guests is no installed package

from guests import build  # noqa: E402
from hv.builder.image import load, symbols  # noqa: E402

# The command in a process of its own; conftest.py sees to it that this is the hv that is tested.
HV = [sys.executable, "-m", "hv"]

PAGE = 4096
VIRT_BASE = 0xFFFFFFFF80000000
CONSOLE_PORT = 2
PRESENT, RW, USER, PWT, PCD, ACCESSED, DIRTY, PAT_PSE, GLOBAL = 1, 2, 4, 8, 16, 0x20, 0x40, 0x80, 0x100
NX = 1 << 63
KERNEL_PAGE = PRESENT | RW | ACCESSED | DIRTY
READ_ONLY = PRESENT | ACCESSED
TABLE = PRESENT | RW | USER | ACCESSED
ADDRESS = 0x000F_FFFF_FFFF_F000
UNMAPPED = 0x6000_0000_0000  # canonical, the guest's, and nothing there
MACHPHYS = 0xFFFF_8000_0000_0000


@functools.cache
def need_program(name: str, package: str) -> str:
    """The path of a program of Debian's; where there is none the test is skipped, except in CI, where it fails."""
    found = shutil.which(name)
    if found is None:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(f"there is no {name}: install Debian's package {package}")
    return found


def assemble(text: str, name: str = "test") -> bytes:
    """The image of a guest; `text` goes on where `guest "name"` stands in the bundled ones."""
    include = ROOT / "guests" / "include" / "xen.inc"
    if not include.exists():
        emit.write(include.parent, "xen.inc", emit.assembler_include())
    with tempfile.TemporaryDirectory() as folder:
        source, image = Path(folder) / f"{name}.s", Path(folder) / name
        source.write_text(f'        .include "guest.inc"\n        guest "{name}"\n{text}\n')
        build.build_image(source, image, os.environ.get("CC", "cc"))
        return image.read_bytes()


def boot(text: str, *, stepping: bool = False, **options: Any) -> tuple[str, int | None, int]:
    """Run a snippet alone to its end: (console output, exit code, final ticks)."""
    with hv.Machine() as machine:
        machine.engine.set_stepping(stepping)
        domain = machine.create(assemble(text), **options)
        machine.run(timeout=30)
        return domain.console.output.decode(), domain.exit_code, machine.engine.ticks


def device_grants(machine: hv.Machine) -> list[tuple[int, int]]:
    """(domid, ref) of what backends have mapped, the rings of consoles and of XenStore aside."""
    return [(domid, ref) for _, domid, ref, _ in machine.domain0.guest.mapped_grants() if ref > 1]


def known_bug(reason: str, *, strict: bool = True) -> pytest.MarkDecorator:
    """A row that shows an error of hv: it says what is wrong, and fails once that is repaired: remove the mark then."""
    return pytest.mark.xfail(reason=reason, strict=strict)


def error_name(result: int) -> int | str:
    """-22 as "-EINVAL"; other results as they are."""
    if not -4095 <= result < 0:
        return result
    names = [name for name, value in vars(errno).items() if name.startswith("XEN_E") and value == -result]
    return "-" + names[0].removeprefix("XEN_") if names else result


# A request is: what to do, eight words, and room for the answer. The guest serves one when `go` is set, or for an event
# on the console's port, and sleeps in between; `fault` counts what its handlers caught.
PUPPET = """
        use_shared_info
main:   call    map_shared_info
        hypercall set_trap_table, $traps
        hypercall vcpu_op, $VCPUOP_stop_periodic_timer, $0
1:      hypercall sched_op, $SCHEDOP_poll, $poll
        xor     %eax, %eax
        xchg    %rax, go
        lock btrl $2, shared_info + shared_info_evtchn_pending
        adc     $0, %rax
        jz      1b
        movq    $0, fault
        mov     request, %rax
        mov     request + 8, %rbp
        mov     request + 16, %rdi
        mov     request + 24, %rsi
        mov     request + 32, %rdx
        mov     request + 40, %r10
        mov     request + 48, %r8
        mov     request + 56, %r9
        call    *actions(, %rax, 8)
        mov     %rax, answer
        incq    served
        jmp     1b

make_call:
        mov     %rbp, %rax
        syscall
        ret
load:   mov     (%rdi), %rax
        ret
store:  mov     %rsi, (%rdi)
        ret
execute:
        call    *%rdi
        ret
load_cr3:                               # mov %rdi, %cr3: a privileged instruction that Xen emulates
        mov     %rdi, %cr3
        ret
exchange:
        xchg    %rsi, (%rdi)
        mov     %rsi, %rax
        ret

        .macro  caught vector, error
        entry   trap\\vector, on_trap\\vector, \\error
on_trap\\vector:
        movq    $\\vector + 0x100, fault
        mov     frame_error(%rdi), %rax
        mov     %rax, fault + 8
        mov     shared_info + vcpu_info_arch_cr2, %rax
        mov     %rax, fault + 16
        mov     frame_rsp(%rdi), %rax   # what faulted was called from main: return there
        cmpq    $execute + 2, (%rax)
        jne     1f
        add     $8, %rax
1:      mov     (%rax), %rcx
        mov     %rcx, frame_rip(%rdi)
        add     $8, %rax
        mov     %rax, frame_rsp(%rdi)
        ret
        .endm
        caught  6, 0
        caught  13, 1
        caught  14, 1

        .data
        .balign 8
traps:  trap    6, 0, trap6
        trap    13, 0, trap13
        trap    14, 0, trap14
        trap    0, 0, 0
poll:   .quad   0                       # struct sched_poll: until anything happens
        .long   0, 0
        .quad   0
        .balign 8
actions:
        .quad   make_call, load, store, execute, load_cr3, exchange
        .balign 128
        .globl  request
request:
        .skip   64
answer: .skip   8
fault:  .skip   24
served: .skip   8
go:     .skip   8
        .bss
        .balign 4096
        .globl  arena
arena:  .skip   64 * 4096
"""
ACTIONS = ("make_call", "load", "store", "execute", "load_cr3", "exchange")
ARENA_PAGES = 64


@functools.cache
def puppet_image() -> tuple[bytes, dict[str, int]]:
    """The image, and the addresses of its global symbols."""
    image = assemble(PUPPET, "puppet")
    return image, {name: address for address, _, name in symbols(load(image, "puppet"))}


class Fault(Exception):
    """The puppet's instruction raised an exception: vector, error code, address."""

    def __init__(self, vector: int, error: int, address: int) -> None:
        super().__init__(f"vector {vector}, error {error:#x}, address {address:#x}")
        self.vector, self.error, self.address = vector, error, address


class Puppet:
    """A guest on a leash. `arena` is the address of 64 pages of its own that a test may do anything with."""

    def __init__(self, machine: hv.Machine, **options: Any) -> None:
        image, where = puppet_image()
        self.machine, self.engine = machine, machine.engine
        self.domain = machine.create(image, **{"memory": "8M", **options})
        self.guest = self.domain.guest
        self._mailbox, self.arena = where["request"], where["arena"]
        self._wait()
        self._bump = self.arena + 32 * PAGE  # the first half is for pages as such, the second for arguments

    # --- talking to the guest

    def _wait(self) -> None:
        outcome = self.machine.run(timeout=20, until_ns=self.machine.now_ns + 10**7)  # it may have armed a timer
        assert not self.domain.ended, f"the puppet {self.domain.reason}"
        assert outcome in ("idle", "until")

    def _order(self, action: str, *words: int) -> int:
        padded = [word & (1 << 64) - 1 for word in (*words, *[0] * (7 - len(words)))]
        before = self._word(96)
        self.guest.write(self._mailbox, struct.pack("<8Q", ACTIONS.index(action), *padded))
        self.guest.write(self._mailbox + 104, struct.pack("<Q", 1))
        self.guest.wake(0)
        self._wait()
        assert self._word(96) == before + 1, "the puppet has lost its order"
        vector, error, address = struct.unpack("<3Q", self.guest.read(self._mailbox + 72, 24))
        if vector:
            raise Fault(vector & 0xFF, error, address)
        return int(struct.unpack("<q", self.guest.read(self._mailbox + 64, 8))[0])

    def _word(self, offset: int) -> int:
        return int(struct.unpack("<Q", self.guest.read(self._mailbox + offset, 8))[0])

    # --- what it can be told

    def hypercall(self, name: str | int, *arguments: int | bytes) -> int:
        """The result in rax; bytes are put into the guest's memory and passed by address."""
        number = rows.BY_NAME[name].number if isinstance(name, str) else name
        return self._order("make_call", number, *(self.place(a) if isinstance(a, bytes) else a for a in arguments))

    def load(self, address: int) -> int:
        return self._order("load", 0, address) & (1 << 64) - 1

    def store(self, address: int, value: int) -> None:
        self._order("store", 0, address, value)

    def execute(self, address: int) -> int:
        return self._order("execute", 0, address)

    def load_cr3(self, value: int) -> None:
        self._order("load_cr3", 0, value)

    def exchange(self, address: int, value: int) -> int:
        return self._order("exchange", 0, address, value) & (1 << 64) - 1

    # --- its memory

    def place(self, data: bytes) -> int:
        """Put bytes at a fresh 16-byte aligned address."""
        address = self._bump
        self._bump += -(-len(data) // 16) * 16 + 16
        assert self._bump <= self.arena + ARENA_PAGES * PAGE, "the arena is full"
        self.guest.write(address, data)
        return address

    def page(self, index: int) -> int:
        """The address of a page of its own."""
        assert 0 <= index < 32
        return self.arena + index * PAGE

    def leaf(self, address: int) -> tuple[int, int]:
        """(machine address, value) of the L1 entry that maps an address."""
        steps, _ = self.guest.walk(address)
        level, where, entry = steps[-1]
        assert level == 1
        return where, entry

    def table(self, level: int, address: int) -> int:
        """The frame of the table of that level which maps an address."""
        steps, _ = self.guest.walk(address)
        return next(where >> 12 for at, where, _ in steps if at == level)

    def slot(self, level: int, address: int) -> int:
        """The machine address of the entry of that level which an address goes through."""
        steps, _ = self.guest.walk(address)
        return next(where for at, where, _ in steps if at == level)

    def mfn(self, address: int) -> int:
        """The frame at an address."""
        mfn = self.guest.walk(address)[1]
        assert mfn is not None
        return int(mfn)

    # --- page tables

    def map(self, address: int, mfn: int, flags: int = KERNEL_PAGE, flush: int = 2) -> int:
        """update_va_mapping."""
        return self.hypercall("update_va_mapping", address, mfn << 12 | flags, flush)

    def read_only(self, index: int) -> int:
        """Make a page of its own read-only; its frame."""
        mfn = self.mfn(self.page(index))
        assert self.map(self.page(index), mfn, READ_ONLY) == 0
        return mfn

    def mmu_update(self, machine_address: int, value: int) -> int:
        return self.hypercall("mmu_update", struct.pack("<2Q", machine_address, value), 1, 0, DOMID_SELF)

    def mmuext(self, command: int, argument: int = 0, second: int = 0) -> int:
        request = struct.pack("<I4x2Q", command, argument & (1 << 64) - 1, second)
        return self.hypercall("mmuext_op", request, 1, 0, DOMID_SELF)

    @property
    def alive(self) -> bool:
        """Whether it still answers: xen_version."""
        return self.hypercall("xen_version", 0) == 4 << 16 | 17


@contextmanager
def puppet(**options: Any) -> Iterator[Puppet]:
    """A puppet on a machine of its own."""
    with hv.Machine() as machine:
        yield Puppet(machine, **options)
