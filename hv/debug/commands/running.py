"""Commands that let the guests run."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from hv.debug.command import Command
from hv.errors import ConfigError
from hv.machine import duration
from hv.machine.stops import Hit, Stepped, Stop

if TYPE_CHECKING:
    from hv.debug.session import Session

CALLS = re.compile(r"l?callq?$|int$|rep")  # instructions that `next` takes as one


def _count(session: Session, text: str) -> int:
    count = session.value(text) if text else 1
    if not 0 < count < 1 << 63:
        raise ConfigError(f"{text} instructions cannot be stepped: choose 1 or more")
    return count


def step(session: Session, text: str) -> None:
    session.report(session.step(_count(session, text)))


def next_(session: Session, text: str) -> None:
    stop: Stop | None = None
    for _ in range(_count(session, text)):
        stop = step_over(session)
        if not isinstance(stop, Stepped):
            break
    if stop is not None:
        session.report(stop)


def step_over(session: Session) -> Stop:
    """One instruction; a call, a system call of user mode, or an upcall that comes behind it, are run through."""
    registers = session.registers
    instruction = session.instruction(registers["rip"])
    system_call = instruction is not None and instruction.mnemonic == "syscall" and not registers["kernel_mode"]
    if instruction is not None and (system_call or CALLS.match(instruction.mnemonic)):
        behind = instruction.address + instruction.size
        return session.run_to(behind, _in_frame(registers["kernel_mode"], registers["rsp"]))
    upcalls = session.guest.vcpu_counters(session.vcpu)["upcalls"]
    stop = session.step(1)
    if isinstance(stop, Stepped) and session.guest.vcpu_counters(session.vcpu)["upcalls"] > upcalls:
        return _through_upcall(session, stop)
    return stop


def _through_upcall(session: Session, stop: Stop) -> Stop:
    """The handler was entered: run until it is back."""
    entries = [row for row in session.guest.last_entries() if row[1] == session.vcpu and row[2] is None]
    if not entries:
        return stop
    rip, kernel_mode = entries[-1][5], entries[-1][7]
    return session.run_to(rip, _in_frame(kernel_mode, session.registers["rsp"] + 1 if kernel_mode else 0))


def _in_frame(kernel_mode: bool, rsp: int) -> Callable[[Hit], bool]:
    """The condition that the frame of before is the innermost again."""

    def holds(hit: Hit) -> bool:
        now = hit.domain.guest.registers(hit.vcpu)
        return bool(now["kernel_mode"]) == bool(kernel_mode) and now["rsp"] >= rsp

    return holds


def finish(session: Session, text: str) -> None:
    stop = session.step(None, "return")
    session.report(stop)
    if isinstance(stop, Stepped):
        session.write(f"rax = {session.registers['rax']:#x}")


def until(session: Session, text: str) -> None:
    if not text:
        session.report(session.step(None, "beyond"))
        return
    address = session.value(text)
    session.report(session.run_to(address, lambda hit: True))


def continue_(session: Session, text: str) -> None:
    session.report(session.run())


def wait(session: Session, text: str) -> None:
    ns = duration.parse(text)
    if ns is None:
        raise ConfigError(f"{text!r} is no time: write it as 100us, 5ms or 1s")
    session.report(session.run(session.machine.now_ns + ns))


COMMANDS = (
    Command(
        "step",
        ("s", "si", "stepi"),
        "[COUNT]",
        "Run one instruction of the vCPU that is looked at, or COUNT of them.\n"
        "A hypercall is one instruction. Other vCPUs run as their turn comes.",
        step,
    ),
    Command(
        "next",
        ("n", "ni", "nexti"),
        "[COUNT]",
        "As step, but a call is run through, and so is the handler of an upcall that comes in between.",
        next_,
    ),
    Command(
        "finish",
        ("fin",),
        "",
        "Run until the function that the vCPU is in returns, or a handler by iret.\n"
        "It is found by its return instruction and the stack pointer: every instruction on the way is stepped.",
        finish,
    ),
    Command(
        "until",
        ("u", "advance"),
        "[LOCATION]",
        "Run until the vCPU reaches LOCATION; without one, until it is past this instruction in the same function.\n"
        "At the end of a loop that runs the rest of the loop.",
        until,
        "location",
    ),
    Command(
        "continue",
        ("c", "cont", "run", "r"),
        "",
        "Let the guests run until a breakpoint, a crash, or their end.\n"
        "At a terminal the keys go to the guest meanwhile; Ctrl-] comes back to the prompt.",
        continue_,
    ),
    Command("wait", (), "TIME", "As continue, for TIME of the machine's clock: 100us, 5ms, 1s.", wait),
)
