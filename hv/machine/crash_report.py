"""The report of a crashed domain, for a person: why, where, how it came there, and what happened before.

Rules:

1. One section is one function that returns lines; `SECTIONS` is their order. A section without lines is left out.
2. Writing the report changes nothing in the guest, and no state of a guest may make it fail.
3. What is guessed says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from hv.builder.image import symbol_table
from hv.machine import disassembly, stack
from hv.machine.crash_hints import Crash, hint
from hv.trace import decode, words

if TYPE_CHECKING:
    from hv.machine.domain import Domain

REGISTERS = (
    ("rax", "rbx", "rcx", "rdx"),
    ("rsi", "rdi", "rbp", "rsp"),
    ("r8", "r9", "r10", "r11"),
    ("r12", "r13", "r14", "r15"),
    ("rip", "rflags", "cr2", "cr3"),
)
SELECTORS = ("cs", "ss", "ds", "es", "fs", "gs")
BEFORE, AFTER = 4, 6  # instructions
STACK_WORDS = 8
MOST_PORTS = 16
Row = tuple[int, int, str]  # ns, vCPU, text
CONSOLE_LINES = 12


def report(domain: Domain, reason: str) -> str:
    """Several lines, without a newline at the end."""
    crash = Crash(domain, symbol_table(domain.config.image))
    mode = "kernel" if crash.kernel_mode else "user"
    lines = [f"{domain.name} (domain {domain.domid}), vCPU {crash.vcpu}, guest {mode} mode: {reason}"]
    advice = hint(crash)
    if advice:
        lines.append(f"hint: {advice}")
    for section in SECTIONS:
        found = section(crash)
        lines += ["", *found] if found else []
    return "\n".join(lines)


def _registers(crash: Crash) -> list[str]:
    lines = ["  " + "  ".join(f"{name:>6} {crash.registers[name]:016x}" for name in row) for row in REGISTERS]
    lines.append("  " + "  ".join(f"{name:>6} {crash.registers[name]:04x}" for name in SELECTORS))
    return lines


def _code(crash: Crash) -> list[str]:
    where = crash.symbols.name(crash.rip)
    lines = [f"  code at rip{f' ({where})' if where else ''}:"]
    for i in disassembly.around(crash.read, crash.symbols, crash.rip, BEFORE, AFTER):
        mark = "=>" if i.address == crash.rip else "  "
        lines.append(f"  {mark} {i.address:016x}  {disassembly.with_target(i, crash.symbols)}")
    if len(lines) == 1:
        lines.append("     (not an instruction)" if crash.read(crash.rip, 1) else "     (not readable)")
    return lines


def _page_walk(crash: Crash) -> list[str]:
    address = crash.guest.crash_address
    if address is None:
        return []
    steps, mfn = crash.guest.walk(address, crash.vcpu)
    lines = [f"  page walk of {address:#x}:"]
    for level, where, entry in steps:
        lines.append(f"    L{level}[{where % 4096 // 8:3}] at {where:#x} = {entry:016x}")
    if not steps:
        lines.append("    in the hypervisor's address range" if _canonical(address) else "    not canonical")
    elif mfn is None and not steps[-1][2] & 1:
        lines.append(f"    not present at level {steps[-1][0]}")
    elif mfn is not None:
        lines.append(f"    machine frame {mfn:#x}, used as: {crash.domain.engine.frame(mfn)[1]}")
    return lines


def _stack(crash: Crash) -> list[str]:
    lines = ["  stack:"]
    for address, value in stack.words(crash.read, crash.rsp, STACK_WORDS):
        name = crash.symbols.name(value)
        lines.append(f"     {address:016x}  {value:016x}{f'  {name}' if name else ''}")
    return lines if len(lines) > 1 else ["  stack:", f"     (nothing is mapped at rsp, {crash.rsp:#x})"]


def _calls(crash: Crash) -> list[str]:
    found, certain = stack.calls(crash.read, crash.symbols, crash.rsp, crash.registers["rbp"])
    if not found:
        return []
    how = "by frame pointers" if certain else "a guess: words on the stack that follow a call instruction"
    return [f"  called from ({how}):", *(f"     {address:016x}  {crash.name(address)}" for address in found)]


def _vcpus(crash: Crash) -> list[str]:
    guest = crash.guest
    up = [i for i in range(guest.nr_vcpus) if i == crash.vcpu or guest.vcpu_state(i) != "down"]
    lines = ["  vCPUs:"]
    for i in up:
        registers = guest.registers(i)
        pending, masked, _ = guest.upcall_state(i)
        state = "crashed" if i == crash.vcpu else guest.vcpu_state(i)
        mode = "kernel" if registers["kernel_mode"] else "user"
        lines.append(
            f"     {i:2} {state:<8} {mode:<6} rip {crash.name(registers['rip'])}, "
            f"upcalls {'masked' if masked else 'unmasked'}, {'pending' if pending else 'none pending'}"
        )
    if len(up) < guest.nr_vcpus:
        lines.append(f"     {guest.nr_vcpus - len(up)} more are down")
    return lines


def _events(crash: Crash) -> list[str]:
    lines = ["  pending events:"]
    for port in range(1, crash.guest.nr_ports):
        pending, masked, *_ = crash.guest.port_events(port)
        if pending:
            state, vcpu, detail, remote_port, *_ = crash.guest.port(port)
            bound = words.source_of(state, detail, remote_port)
            lines.append(f"    port {port}: {bound}, for vCPU {vcpu}{', masked' if masked else ''}")
    more = len(lines) - 1 - MOST_PORTS
    return [*lines[: MOST_PORTS + 1], *([f"    and {more} more"] if more > 0 else [])] if len(lines) > 1 else []


def _history(crash: Crash) -> list[str]:
    """In the order of time: at the same time a call stands before the event that it sends, this before its upcall."""
    rows = [*_last_calls(crash), *_last_events(crash), *_last_entries(crash)]
    rows.sort(key=lambda row: row[0])
    lines = [f"    {ns:>12} ns  vCPU {vcpu}  {text}" for ns, vcpu, text in rows]
    return ["  what happened last:", *lines] if lines else []


def _last_calls(crash: Crash) -> Iterator[Row]:
    for ns, vcpu, number, registers, result, inside in crash.guest.last_calls():
        text = f"{decode.call_text(number, registers)} = {words.result(result)}"
        yield ns, vcpu, f"{'  ' if inside else ''}{text}"


def _last_events(crash: Crash) -> Iterator[Row]:
    for ns, vcpu, port in crash.guest.last_events():
        state, _, detail, remote_port, *_ = crash.guest.port(port)
        yield ns, vcpu, f"event: port {port}, {words.source_of(state, detail, remote_port)}"


def _last_entries(crash: Crash) -> Iterator[Row]:
    for e in crash.entries:
        text = decode.entry_text(e.vector, e.error, e.address, e.software)
        yield e.ns, e.vcpu, f"{text}, rip {crash.name(e.rip)}{'' if e.kernel_mode else ', user mode'}"


def _console(crash: Crash) -> list[str]:
    """A kernel often says itself why it panics."""
    text = crash.domain.console.output[-16384:].decode("utf-8", "replace")
    lines = [line for raw in text.splitlines() if (line := "".join(filter(str.isprintable, raw)).rstrip())]
    return ["  last lines of the console:", *(f"     {line}" for line in lines[-CONSOLE_LINES:])] if lines else []


def _canonical(address: int) -> bool:
    return address < 1 << 47 or address >= (1 << 64) - (1 << 47)


SECTIONS: tuple[Callable[[Crash], list[str]], ...] = (
    _registers,
    _code,
    _page_walk,
    _stack,
    _calls,
    _vcpus,
    _events,
    _history,
    _console,
)
