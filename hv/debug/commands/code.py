"""Commands about code, symbols and the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hv.debug.command import Command
from hv.errors import ConfigError
from hv.machine import disassembly, stack

if TYPE_CHECKING:
    from hv.debug.session import Session

BEFORE, COUNT = 4, 11  # instructions
STACK_WORDS = 16
MOST = 10_000


def counted(session: Session, text: str, usual: int, most: int = MOST) -> int:
    count = session.value(text) if text else usual
    if not 0 < count <= most:
        raise ConfigError(f"{text} is no number that can be shown: choose 1 to {most}")
    return count


def listing(session: Session, instructions: list[disassembly.Instruction]) -> None:
    rip = session.registers["rip"]
    for i in instructions:
        mark = "=>" if i.address == rip else "  "
        text = disassembly.with_target(i, session.domain.symbols)
        session.write(f"{mark} {session.place(i.address)}: {text}", "here" if mark == "=>" else "")


def disassemble(session: Session, text: str) -> None:
    where, _, count = text.partition(",")
    wanted = counted(session, count.strip(), COUNT)
    if where.strip():
        address = session.value(where)
        found = disassembly.decode(session.read(address, wanted * disassembly.LONGEST), address, wanted)
    else:
        address = session.registers["rip"]
        symbols = session.domain.symbols
        found = disassembly.around(session.read, symbols, address, BEFORE, max(1, wanted - BEFORE))
    if not found:
        raise ConfigError(f"there is no instruction at {address:#x}")
    listing(session, found)


def backtrace(session: Session, text: str) -> None:
    registers = session.registers
    session.write(f"#0  {session.place(registers['rip'])}")
    found, certain = stack.calls(session.read, session.domain.symbols, registers["rsp"], registers["rbp"])
    for i, address in enumerate(found[: counted(session, text, MOST)], 1):
        session.write(f"#{i}  {session.place(address)}")
    if found and not certain:
        session.write("(#1 and above are a guess: words on the stack that follow a call instruction)")


def show_stack(session: Session, text: str) -> None:
    rsp = session.registers["rsp"]
    words = stack.words(session.read, rsp, counted(session, text, STACK_WORDS))
    if not words:
        raise ConfigError(f"nothing is mapped at rsp, {rsp:#x}")
    for address, value in words:
        name = session.domain.symbols.name(value)
        session.write(f"{address:#x}: {value:#018x}{f' <{name}>' if name else ''}")


def symbol(session: Session, text: str) -> None:
    address = session.value(text)
    name = session.domain.symbols.name(address)
    session.write(f"{address:#x} is {name}" if name else f"no symbol has {address:#x} in it")


COMMANDS = (
    Command(
        "disassemble",
        ("disas",),
        "[LOCATION][, COUNT]",
        "Show instructions, from LOCATION on or around the one that is next.",
        disassemble,
        "location",
    ),
    Command(
        "backtrace",
        ("bt", "where"),
        "[COUNT]",
        "Show the calls that led here, by frame pointers where there are some, else as a guess.",
        backtrace,
    ),
    Command("stack", (), "[COUNT]", "Show words at rsp, with the names of what they point at.", show_stack),
    Command("info symbol", ("i s",), "ADDRESS", "Say which symbol an address is in.", symbol, "location"),
)
