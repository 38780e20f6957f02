"""What gdb sees of a vCPU: its registers, in gdb's order, and the description that says so.

gdb wants all registers of its core feature, so those of the x87 are described too; hv says that they are not available.
Control registers have a feature of hv's own.

Source: gdb's features/i386/64bit-core.xml and 64bit-segments.xml for names, order and sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Register:
    """`source`: its name in hv, or "" for one that is not available. `bits`: its size for gdb."""

    name: str
    source: str
    bits: int
    type: str
    feature: str


CORE, SEGMENTS, CONTROL = "org.gnu.gdb.i386.core", "org.gnu.gdb.i386.segments", "hv.control"
GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{i}" for i in range(8, 16)))
X87_STATE = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
REGISTERS = (
    *(Register(name, name, 64, "data_ptr" if name in ("rbp", "rsp") else "int64", CORE) for name in GENERAL),
    Register("rip", "rip", 64, "code_ptr", CORE),
    Register("eflags", "rflags", 32, "i386_eflags", CORE),
    *(Register(name, name, 32, "int32", CORE) for name in ("cs", "ss", "ds", "es", "fs", "gs")),
    *(Register(f"st{i}", "", 80, "i387_ext", CORE) for i in range(8)),
    *(Register(name, "", 32, "int", CORE) for name in X87_STATE),
    *(Register(name, name, 64, "int64", SEGMENTS) for name in ("fs_base", "gs_base")),
    *(Register(name, name, 64, "int64", CONTROL) for name in ("cr2", "cr3")),
)
FLAGS = {"CF": 0, "": 1, "PF": 2, "AF": 4, "ZF": 6, "SF": 7, "TF": 8, "IF": 9, "DF": 10, "OF": 11}
FLAGS |= {"NT": 14, "RF": 16, "VM": 17, "AC": 18, "VIF": 19, "VIP": 20, "ID": 21}


def value(register: Register, registers: Mapping[str, Any]) -> bytes:
    """As the protocol writes it: hexadecimal, least significant byte first, or x where it is not available."""
    size = register.bits // 8
    if not register.source:
        return b"xx" * size
    number = int(registers[register.source]) & (1 << register.bits) - 1
    return number.to_bytes(size, "little").hex().encode()


def description() -> bytes:
    """The target description, an XML document."""
    flags = "".join(f'<field name="{name}" start="{bit}" end="{bit}"/>' for name, bit in FLAGS.items())
    lines = ['<?xml version="1.0"?>', '<!DOCTYPE target SYSTEM "gdb-target.dtd">', "<target>"]
    lines.append("<architecture>i386:x86-64</architecture>")
    for feature in (CORE, SEGMENTS, CONTROL):
        lines.append(f'<feature name="{feature}">')
        if feature == CORE:
            lines.append(f'<flags id="i386_eflags" size="4">{flags}</flags>')
        lines += [
            f'<reg name="{r.name}" bitsize="{r.bits}" type="{r.type}"/>' for r in REGISTERS if r.feature == feature
        ]
        lines.append("</feature>")
    return "\n".join([*lines, "</target>"]).encode()
