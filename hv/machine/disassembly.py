"""Guest code as text: instructions around an address, with the names of the image's symbols.

x86 code can only be decoded forwards. What stands before an address is shown where decoding from the start of its
symbol meets the address exactly; otherwise nothing before it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import capstone  # type: ignore[import-untyped]

from hv.builder.symbols import SymbolTable

Reader = Callable[[int, int], bytes]  # (address, size) -> as many bytes as can be read

LONGEST = 15  # bytes of an instruction
FARTHEST = 1 << 14  # from a symbol's start
BRANCH = re.compile(r"(?:call|j\w+|loop\w*|xbegin)q?$")
LARGE_IMMEDIATE = re.compile(r"\$(-?\d{5,})")
TARGET = re.compile(r"0x[0-9a-f]+$")


@dataclass(frozen=True, slots=True)
class Instruction:
    address: int
    size: int
    mnemonic: str
    operands: str

    @property
    def text(self) -> str:
        return f"{self.mnemonic} {self.operands}".rstrip()


def decode(code: bytes, address: int, count: int = 0) -> list[Instruction]:
    """Instructions in AT&T's syntax until `count` (0: no limit), the end, or what is none."""
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.syntax = capstone.CS_OPT_SYNTAX_ATT
    return [
        Instruction(at, size, mnemonic, LARGE_IMMEDIATE.sub(_hexadecimal, operands))
        for at, size, mnemonic, operands in engine.disasm_lite(code, address, count)
    ]


def around(read: Reader, symbols: SymbolTable, rip: int, before: int, after: int) -> list[Instruction]:
    """Up to `before` instructions that end at rip, and up to `after` from it on."""
    following = decode(read(rip, after * LONGEST), rip, after)
    return _before(read, symbols, rip)[-before:] + following if following else []


def _before(read: Reader, symbols: SymbolTable, rip: int) -> list[Instruction]:
    found = symbols.find(rip)
    if found is None or not 0 < rip - found[1] <= FARTHEST:
        return []
    start = found[1]
    instructions = decode(read(start, rip - start), start)
    complete = bool(instructions) and instructions[-1].address + instructions[-1].size == rip
    return instructions if complete else []


def with_target(instruction: Instruction, symbols: SymbolTable) -> str:
    """The instruction's text, with the name of the place that a branch goes to."""
    text = instruction.text
    target = TARGET.search(instruction.operands)
    if target and BRANCH.match(instruction.mnemonic):
        name = symbols.name(int(target[0], 16))
        return f"{text} <{name}>" if name else text
    return text


def follows_a_call(read: Reader, address: int) -> bool:
    """Whether the bytes before an address are a call: so a word with this value may be a return address."""
    code = read(address - 7, 7)
    return len(code) == 7 and (code[2] == 0xE8 or any(_ends_with_call(code[-size:]) for size in range(2, 8)))


def _ends_with_call(code: bytes) -> bool:
    """Whether the whole of `code` is one `call` through a register or memory: ff /2, perhaps with a REX prefix."""
    if code[0] & 0xF0 == 0x40:
        code = code[1:]
    if len(code) < 2 or code[0] != 0xFF or code[1] >> 3 & 7 != 2:
        return False
    mode, rm = code[1] >> 6, code[1] & 7
    sib = 1 if mode != 3 and rm == 4 else 0
    absolute = mode == 0 and (rm == 5 or (sib and len(code) > 2 and code[2] & 7 == 5))
    displacement = 4 if mode == 2 or absolute else 1 if mode == 1 else 0
    return len(code) == 2 + sib + displacement


def _hexadecimal(match: re.Match[str]) -> str:
    return f"${int(match[1]) & (1 << 64) - 1:#x}"
