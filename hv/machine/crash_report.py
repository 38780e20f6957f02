"""The report of a crashed domain: reason, registers, code at rip, and the page walk of the address at fault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hv.engine.machine import GuestFault

if TYPE_CHECKING:
    from hv.machine.domain import Domain

ROWS = (
    ("rax", "rbx", "rcx", "rdx"),
    ("rsi", "rdi", "rbp", "rsp"),
    ("r8", "r9", "r10", "r11"),
    ("r12", "r13", "r14", "r15"),
    ("rip", "rflags", "cr2", "cr3"),
)
INSTRUCTIONS = 6


def report(domain: Domain, reason: str) -> str:
    """Several lines, without a newline at the end."""
    vcpu = domain.guest.current_vcpu
    registers = domain.guest.registers(vcpu)
    mode = "kernel" if registers["kernel_mode"] else "user"
    lines = [f"{domain.name} (domain {domain.domid}), vCPU {vcpu}, guest {mode} mode: {reason}", ""]
    for row in ROWS:
        lines.append("  " + "  ".join(f"{name:>6} {registers[name]:016x}" for name in row))
    lines.append("  " + "  ".join(f"{name:>6} {registers[name]:04x}" for name in ("cs", "ss", "ds", "es", "fs", "gs")))
    lines += ["", "  code at rip:", *_disassembly(domain, vcpu, registers["rip"])]
    address = domain.guest.crash_address
    if address is not None:
        lines += ["", f"  page walk of {address:#x}:", *_walk(domain, vcpu, address)]
    return "\n".join(lines)


def _code(domain: Domain, vcpu: int, rip: int) -> bytes:
    """As many bytes as can be read at rip."""
    for size in (INSTRUCTIONS * 15, 4096 - rip % 4096):
        try:
            return domain.guest.read(rip, size, vcpu)
        except (GuestFault, OverflowError):
            continue
    return b""


def _disassembly(domain: Domain, vcpu: int, rip: int) -> list[str]:
    import capstone  # type: ignore[import-untyped]

    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.syntax = capstone.CS_OPT_SYNTAX_ATT
    code = _code(domain, vcpu, rip)
    lines = [
        f"  {'=>' if address == rip else '  '} {address:016x}  {mnemonic} {operands}".rstrip()
        for address, _, mnemonic, operands in engine.disasm_lite(code, rip, INSTRUCTIONS)
    ]
    return lines or ["     (not readable)" if not code else "     (not an instruction)"]


def _walk(domain: Domain, vcpu: int, address: int) -> list[str]:
    steps, mfn = domain.guest.walk(address, vcpu)
    lines = [f"    L{level}[{where % 4096 // 8:3}] at {where:#x} = {entry:016x}" for level, where, entry in steps]
    if not steps:
        lines.append("    not canonical" if not _canonical(address) else "    in the hypervisor's address range")
    elif mfn is None and not steps[-1][2] & 1:
        lines.append(f"    not present at level {steps[-1][0]}")
    return lines


def _canonical(address: int) -> bool:
    return address < 1 << 47 or address >= (1 << 64) - (1 << 47)
