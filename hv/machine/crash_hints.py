"""Typical mistakes of PV guests, recognised from the state that a crash leaves behind.

Each recogniser looks at a `Crash` and answers with one sentence, or None where it is something else. `hint` takes the
first answer in the order of this file: what is special comes before what is general. A new one is a function here with
`@recogniser`; nothing else has to know it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hv.abi import hypercalls, vectors
from hv.machine import disassembly

if TYPE_CHECKING:
    from hv.builder.symbols import SymbolTable
    from hv.machine.domain import Domain

PAGE = 4096
PRESENT, WRITE, FETCH = 1, 2, 16  # page-fault error code
UNDEFINED, PROTECTION, PAGE_FAULT = 6, 13, 14
PAGE_TABLES = ("l1", "l2", "l3", "l4")
SET_TRAP_TABLE = hypercalls.BY_NAME["set_trap_table"].number
IRET = hypercalls.BY_NAME["iret"].number
REPEATED = 4  # the same exception so often in a row is a loop

# Instructions that Xen answers with #GP in a guest's kernel, and what to do instead.
PRIVILEGED = {
    "hlt": "sched_op SCHEDOP_block",
    "lgdt": "set_gdt",
    "lidt": "set_trap_table",
    "lldt": "mmuext_op MMUEXT_SET_LDT",
    "ltr": "stack_switch, which names the kernel's stack",
    "invlpg": "mmuext_op MMUEXT_INVLPG_LOCAL",
    "swapgs": "nothing: Xen exchanges the bases of GS itself",
    "sysret": "the hypercall iret with VGCF_in_syscall",
    "cli": "evtchn_upcall_mask in vcpu_info",
    "sti": "evtchn_upcall_mask in vcpu_info",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An exception or upcall: a row of `GuestDomain.last_entries`."""

    ns: int
    vcpu: int
    vector: int | None
    error: int
    address: int
    rip: int
    software: bool
    kernel_mode: bool


class Crash:
    """A domain at the moment of its end, as reports and recognisers look at it. Looking changes nothing."""

    def __init__(self, domain: Domain, symbols: SymbolTable) -> None:
        self.domain, self.guest, self.symbols = domain, domain.guest, symbols
        self.vcpu: int = self.guest.current_vcpu
        self.registers: dict[str, Any] = self.guest.registers(self.vcpu)
        self.rip, self.rsp = self.registers["rip"], self.registers["rsp"]
        self.reason: str = self.guest.reason
        self.entries = [Entry(*row) for row in self.guest.last_entries()]

    @cached_property
    def entry(self) -> Entry | None:
        """The exception or upcall that was fatal; None where it was something else."""
        last = self.entries[-1] if self.entries else None
        fatal = self.guest.crashed and last is not None and (last.vcpu, last.rip) == (self.vcpu, self.rip)
        return last if fatal else None

    @property
    def kernel_mode(self) -> bool:
        """Of the code at rip: an entry that fails on the way leaves the vCPU in kernel mode already."""
        return self.entry.kernel_mode if self.entry else bool(self.registers["kernel_mode"])

    def is_exception(self, *numbers: int) -> bool:
        return self.entry is not None and self.entry.vector in numbers and not self.entry.software

    @property
    def push_failed(self) -> bool:
        return self.reason.startswith("the trap frame can not be pushed")

    def read(self, address: int, size: int) -> bytes:
        """As many bytes as the code at rip could read there."""
        if not 0 <= address < 1 << 64:
            return b""
        return self.guest.peek(address, size, self.vcpu, kernel=self.kernel_mode)

    @cached_property
    def instruction(self) -> disassembly.Instruction | None:
        """The one at rip."""
        found = disassembly.decode(self.read(self.rip, disassembly.LONGEST), self.rip, 1)
        return found[0] if found else None

    def frame_type(self, address: int) -> str | None:
        """What the frame that an address is mapped to is used as; None where it is not mapped."""
        mfn = self.guest.walk(address, self.vcpu)[1]
        return None if mfn is None else self.domain.engine.frame(mfn)[1]

    def name(self, address: int) -> str:
        """A symbol where there is one, else the number."""
        return self.symbols.name(address) or f"{address:#x}"


Recogniser = Callable[[Crash], "str | None"]
RECOGNISERS: list[Recogniser] = []


def recogniser(function: Recogniser) -> Recogniser:
    RECOGNISERS.append(function)
    return function


def hint(crash: Crash) -> str | None:
    """One sentence about the mistake; None where it is none of the typical ones."""
    return next((text for function in RECOGNISERS if (text := function(crash))), None)


# --- the way out of the kernel


@recogniser
def iret_without_user_page_table(crash: Crash) -> str | None:
    if not crash.reason.startswith("iret to user mode without"):
        return None
    return (
        "the frame's CS has RPL 3, which means user mode: give user mode a page table first (mmuext_op "
        "MMUEXT_NEW_USER_BASEPTR), or clear the RPL to return to the kernel"
    )


@recogniser
def iret_frame_unreadable(crash: Crash) -> str | None:
    if not crash.reason.startswith("iret: its frame"):
        return None
    return "the hypercall iret takes its frame from rsp, and nothing is mapped there: the stack pointer was lost before"


@recogniser
def no_event_callback(crash: Crash) -> str | None:
    if not crash.reason.startswith("an event is pending and unmasked"):
        return None
    return "register an event callback (set_callbacks or callback_op) before evtchn_upcall_mask becomes 0"


# --- the stack


@recogniser
def exception_in_a_loop(crash: Crash) -> str | None:
    if not crash.push_failed:
        return None
    alike = {(e.vector, e.rip) for e in crash.entries[-1 - REPEATED : -1]}
    if len(crash.entries) <= REPEATED or len(alike) != 1 or crash.entries[-2].vector is None:
        return None
    last = crash.entries[-2]
    return (
        f"the same {vectors.name(crash.entries[-2].vector or 0)} came at {crash.name(last.rip)} again and again, each "
        "time with a new frame on the stack, until there was no more stack: its handler raises it too"
    )


@recogniser
def stack_ran_into_page_tables(crash: Crash) -> str | None:
    address = crash.guest.crash_address
    if not crash.push_failed or address is None or crash.frame_type(address) not in PAGE_TABLES:
        return None
    return "the stack has grown down into page tables, which are read-only to the guest: it overflowed"


@recogniser
def stack_read_only(crash: Crash) -> str | None:
    address = crash.guest.crash_address
    if not crash.push_failed or address is None or crash.frame_type(address) is None:
        return None
    return "the kernel's stack pointer points into memory that is mapped read-only"


@recogniser
def stack_not_mapped(crash: Crash) -> str | None:
    if not crash.push_failed:
        return None
    if crash.entry and not crash.entry.kernel_mode:
        return "an entry from user mode uses the stack of stack_switch, and the kernel's page table does not map that"
    return "Xen pushes the frame at the kernel's rsp, and nothing is mapped there: set rsp to a mapped stack first"


# --- code that is not there


@recogniser
def call_through_null(crash: Crash) -> str | None:
    if crash.rip >= PAGE or not crash.is_exception(PAGE_FAULT):
        return None
    caller = int.from_bytes(crash.read(crash.rsp, 8), "little")
    from_where = f", from {crash.name(caller)}" if disassembly.follows_a_call(crash.read, caller) else ""
    return f"the guest jumped to address {crash.rip:#x}: a call through a null pointer{from_where}"


@recogniser
def execute_no_execute(crash: Crash) -> str | None:
    if not crash.is_exception(PAGE_FAULT) or crash.entry is None:
        return None
    if crash.entry.error & (PRESENT | FETCH) != PRESENT | FETCH:
        return None
    return "the guest jumped to a page that is mapped without the right to execute (NX)"


@recogniser
def empty_hypercall_page(crash: Crash) -> str | None:
    if crash.entry is None or any(crash.read(crash.rip, 16) or b"?"):
        return None
    if "hypercall" in crash.name(crash.rip) and crash.domain.config.image.hypercall_page is None:
        return (
            "the hypercall page is empty: name it to the domain builder with the note XEN_ELFNOTE_HYPERCALL_PAGE, or "
            "make hypercalls with the instruction syscall"
        )
    return "the code at rip is all zeros: a jump into memory that nobody has filled (zeros decode as add %al, (%rax))"


# --- instructions that are not for a PV guest


@recogniser
def hardware_virtualization(crash: Crash) -> str | None:
    if not crash.is_exception(UNDEFINED) or not crash.instruction:
        return None
    if crash.instruction.mnemonic not in ("vmcall", "vmmcall"):
        return None
    return f"{crash.instruction.mnemonic} is how an HVM guest makes hypercalls; a 64-bit PV kernel uses syscall"


@recogniser
def old_hypercall_interrupt(crash: Crash) -> str | None:
    if not crash.is_exception(PROTECTION) or crash.entry is None or crash.entry.error != 0x82 << 3 | 2:
        return None
    return "int $0x82 is how a 32-bit PV guest makes hypercalls; a 64-bit one uses syscall"


@recogniser
def no_syscall_callback(crash: Crash) -> str | None:
    if not crash.is_exception(UNDEFINED) or not crash.instruction or crash.instruction.mnemonic != "syscall":
        return None
    if crash.kernel_mode or crash.guest.entry_points(crash.vcpu)["syscall"]:
        return None
    return "a system call of user mode needs a syscall callback (set_callbacks or callback_op CALLBACKTYPE_syscall)"


@recogniser
def privileged_instruction(crash: Crash) -> str | None:
    if not crash.is_exception(PROTECTION, UNDEFINED) or not crash.instruction:
        return None
    mnemonic = crash.instruction.mnemonic
    remedy = PRIVILEGED.get(mnemonic) or PRIVILEGED.get(mnemonic.removesuffix("q"))
    return f"{mnemonic} is privileged, and a PV kernel runs in ring 3: use {remedy}" if remedy else None


# --- memory


@recogniser
def write_to_page_table(crash: Crash) -> str | None:
    if not crash.is_exception(PAGE_FAULT) or crash.entry is None:
        return None
    if crash.entry.error & (PRESENT | WRITE) != PRESENT | WRITE:
        return None
    if crash.frame_type(crash.entry.address) not in PAGE_TABLES:
        return None
    return "the address is in a page table, which only Xen may write: use mmu_update or update_va_mapping"


# --- no handler: the most general, because every exception without one ends here


@recogniser
def no_trap_table(crash: Crash) -> str | None:
    if crash.entry is None or crash.entry.vector is None or "has no handler" not in crash.reason:
        return None
    if not crash.guest.entry_points(crash.vcpu)["traps"]:
        whose = "has never called set_trap_table" if not _has_called(crash, SET_TRAP_TABLE) else "has emptied its table"
        return f"the guest {whose}: an exception without a handler ends a PV guest, there is no double fault"
    return f"vCPU {crash.vcpu} has a trap table (set_trap_table), but no row in it for vector {crash.entry.vector:#x}"


def _has_called(crash: Crash, number: int) -> bool:
    return number in crash.guest.hypercall_counts


# --- events: what the guest itself found wrong


@recogniser
def event_handler_without_iret(crash: Crash) -> str | None:
    counts = crash.guest.hypercall_counts
    pending, masked, _ = crash.guest.upcall_state(crash.vcpu)
    if not (pending and masked) or not crash.guest.vcpu_counters(crash.vcpu)["upcalls"] or IRET in counts:
        return None
    return "an upcall masks events until the hypercall iret, which this guest has never made: it gets no more of them"


@recogniser
def event_that_never_arrives(crash: Crash) -> str | None:
    return next((f"event channel {row.port} is {row.hint}" for row in crash.domain.events if row.lost), None)
