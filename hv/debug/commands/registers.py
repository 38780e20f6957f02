"""Commands about registers and expressions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from hv.debug.command import Command
from hv.engine.machine import GuestFault
from hv.errors import ConfigError
from hv.machine.crash_report import REGISTERS, SELECTORS
from hv.machine.expression import ALIASES

if TYPE_CHECKING:
    from hv.debug.session import Session

ASSIGNMENT = re.compile(r"(.+?)\s*(?<![=!<>])=(?!=)\s*(.+)")
MEMORY = re.compile(r"(?:\[(?P<word>.+)\]|(?P<kind>[us])(?P<bits>8|16|32|64)\((?P<address>.+)\))$")
FLAGS = ["CF", "-", "PF", "-", "AF", "-", "ZF", "SF", "TF", "IF", "DF", "OF", "-", "-", "NT", "-", "RF", "VM", "AC"]
WORD = (1 << 64) - 1


def info(session: Session, text: str) -> None:
    values = session.registers
    if text:
        for name in text.replace("$", " ").split():
            session.write(f"{name:<8} {session.value(name):#018x}")
        return
    for row in REGISTERS:
        session.write("  ".join(f"{name:>6} {values[name]:016x}" for name in row))
    session.write("  ".join(f"{name:>6} {values[name]:04x}" for name in SELECTORS))
    flags = [name for bit, name in enumerate(FLAGS) if name != "-" and values["rflags"] >> bit & 1]
    mode = "kernel" if values["kernel_mode"] else "user"
    session.write(f"fs_base {values['fs_base']:#x}  gs_base {values['gs_base']:#x}  {mode} mode  {' '.join(flags)}")


def set_(session: Session, text: str) -> None:
    match = ASSIGNMENT.fullmatch(text)
    if match is None:
        raise ConfigError(
            "write set REGISTER = EXPRESSION, set [ADDRESS] = EXPRESSION or set u32(ADDRESS) = EXPRESSION"
        )
    target, value = match[1].removeprefix("$"), session.value(match[2])
    memory = MEMORY.match(target)
    if memory:
        _store(session, session.value(memory["word"] or memory["address"]), int(memory["bits"] or 64) // 8, value)
    else:
        _load(session, ALIASES.get(target, target), value)


def _store(session: Session, address: int, size: int, value: int) -> None:
    try:
        session.guest.write(address, (value & (1 << 8 * size) - 1).to_bytes(size, "little"), session.vcpu)
    except GuestFault:
        raise ConfigError(f"{address:#x} cannot be written: the guest's kernel could not either") from None


def _load(session: Session, name: str, value: int) -> None:
    try:
        session.guest.set_register(session.vcpu, name, value)
    except KeyError:
        raise ConfigError(
            f"{name!r} cannot be set: choose a general register, rip, rflags, fs_base, gs_base, or [ADDRESS]"
        ) from None
    except ValueError as error:
        raise ConfigError(str(error)) from None


def print_(session: Session, text: str) -> None:
    format_, _, rest = text.partition(" ") if text.startswith("/") else ("", "", text)
    value = session.value(rest)
    if format_ not in FORMATS:
        raise ConfigError(f"{format_!r} is no format of print: choose {', '.join(name for name in FORMATS if name)}")
    session.write(FORMATS[format_](session, value))


def _all(session: Session, value: int) -> str:
    negative = f" = {value - (1 << 64)}" if value >> 63 else ""
    name = session.domain.symbols.name(value)
    return f"{value:#x} = {value}{negative}{f' <{name}>' if name else ''}"


FORMATS: dict[str, Callable[[Session, int], str]] = {
    "": _all,
    "/x": lambda session, value: f"{value:#x}",
    "/d": lambda session, value: str(value - (1 << 64) if value >> 63 else value),
    "/u": lambda session, value: str(value),
    "/o": lambda session, value: f"{value:#o}",
    "/t": lambda session, value: f"{value:#b}",
    "/a": lambda session, value: session.place(value),
    "/c": lambda session, value: repr(chr(value & 0xFF)),
}

COMMANDS = (
    Command(
        "info registers", ("i r", "registers", "regs"), "[NAME...]", "Show the registers, or some.", info, "location"
    ),
    Command(
        "set",
        (),
        "REGISTER = EXPRESSION | [ADDRESS] = EXPRESSION | u8(ADDRESS) = EXPRESSION",
        "Change a register or memory: the only way in which this debugger changes a guest.\n"
        "Memory is written with the guest kernel's rights, so page tables and foreign frames stay out of reach.",
        set_,
        "location",
    ),
    Command(
        "print",
        ("p", "output"),
        "[/x|/d|/u|/o|/t|/a|/c] EXPRESSION",
        "Show the value of an expression: help expressions has the language.",
        print_,
        "location",
    ),
)
