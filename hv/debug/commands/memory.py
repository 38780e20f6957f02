"""Commands that look into memory: by virtual, pseudo-physical and machine address, and the page walk between them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from hv.debug.command import Command
from hv.debug.commands.code import listing
from hv.errors import ConfigError
from hv.machine import disassembly

if TYPE_CHECKING:
    from hv.debug.session import Session

PAGE = 4096
LAST = (1 << 64) - 1
FORMAT = re.compile(r"/(\d*)([a-z]*)(?:\s+|$)")
SIZES = {"b": 1, "h": 2, "w": 4, "g": 8}
LETTERS = "xduotacsi"
MOST = 65536  # bytes at once
LONGEST_STRING = 4096
Reader = Callable[[int, int], bytes]
FLAGS = {0: "P", 1: "RW", 2: "US", 3: "PWT", 4: "PCD", 5: "A", 6: "D", 7: "PSE", 8: "G", 63: "NX"}


class Format:
    """N, F and U of `x/NFU`; F and U are remembered from one `x` to the next, as gdb does."""

    def __init__(self, text: str, before: str) -> None:
        match = FORMAT.match(text) if text.startswith("/") else None
        if text.startswith("/") and match is None:
            raise ConfigError(f"{text.split()[0]!r} is no format: write /NFU, such as /8xg, /4i or /s")
        self.rest = text[match.end() :] if match else text
        self.count = int(match[1] or 1) if match else 1
        self.letter, self.size = before[0], SIZES[before[1]]
        for letter in match[2] if match else "":
            if letter in SIZES:
                self.size = SIZES[letter]
            elif letter in LETTERS:
                self.letter = letter
                self.size = 8 if letter == "a" else 1 if letter in "cs" else self.size
            else:
                raise ConfigError(f"{letter!r} is no format: choose of {LETTERS} and the sizes {''.join(SIZES)}")
        if not 0 < self.count * self.size <= MOST:
            raise ConfigError(f"{self.count} are not possible: choose at most {MOST} bytes")

    @property
    def remembered(self) -> str:
        return self.letter + next(letter for letter, size in SIZES.items() if size == self.size)


def _number(data: bytes, letter: str, session: Session) -> str:
    value = int.from_bytes(data, "little")
    if letter == "a":
        return session.place(value)
    if letter == "c":
        return repr(chr(value))
    texts = {
        "x": f"{value:#0{2 + 2 * len(data)}x}",
        "u": str(value),
        "o": f"{value:#o}",
        "t": f"{value:0{8 * len(data)}b}",
    }
    return texts.get(letter) or str(int.from_bytes(data, "little", signed=True))


def _strings(session: Session, read: Reader, address: int, count: int) -> int:
    for _ in range(count):
        data = read(address, LONGEST_STRING)
        if not data:
            raise ConfigError(f"nothing can be read at {address:#x}")
        text = data.split(b"\0")[0]
        session.write(f"{session.place(address)}: {text.decode('latin-1').encode('unicode_escape').decode()!r}")
        address += len(text) + 1
    return address


def _words(session: Session, read: Reader, address: int, how: Format, label: Callable[[int], str]) -> int:
    per_line = 1 if how.letter == "a" else max(1, 16 // how.size)
    data = read(address, how.count * how.size)
    if not data:
        raise ConfigError(f"nothing can be read at {address:#x}")
    whole = len(data) // how.size
    cells = [_number(data[i * how.size : (i + 1) * how.size], how.letter, session) for i in range(whole)]
    for i in range(0, whole, per_line):
        session.write(f"{label(address + i * how.size)}: {'  '.join(cells[i : i + per_line])}")
    if whole < how.count:
        session.write(f"nothing can be read at {address + whole * how.size:#x}", "error")
    return address + whole * how.size


def _examine(session: Session, text: str, space: str, read: Reader) -> None:
    before = session.recall if session.recall and session.recall[0].startswith(space) else (f"{space}xg", None)
    how = Format(text, before[0][1:])
    address = before[1] if not how.rest.strip() else session.value(how.rest)
    if address is None:
        raise ConfigError("an address is missing: x goes on from the last one only after a first one")
    if how.letter == "i":
        if space != "v":
            raise ConfigError("instructions are shown by virtual address: use x")
        found = disassembly.decode(read(address, how.count * disassembly.LONGEST), address, how.count)
        if not found:
            raise ConfigError(f"there is no instruction at {address:#x}")
        listing(session, found)
        end = found[-1].address + found[-1].size
    elif how.letter == "s":
        end = _strings(session, read, address, how.count)
    else:
        end = _words(session, read, address, how, session.place if space == "v" else hex)
    session.recall = f"{space}{how.remembered}", end & LAST


def examine(session: Session, text: str) -> None:
    _examine(session, text, "v", session.read)


def examine_physical(session: Session, text: str) -> None:
    """By guest frame: each page where the M2P says that it is."""

    def read(address: int, size: int) -> bytes:
        data = bytearray()
        while size:
            mfn = session.guest.find_pfn(address // PAGE)
            if mfn is None:
                break
            part = min(size, PAGE - address % PAGE)
            data += session.machine.engine.page(mfn)[address % PAGE : address % PAGE + part]
            address, size = address + part, size - part
        return bytes(data)

    _examine(session, text, "p", read)


def examine_machine(session: Session, text: str) -> None:
    def read(address: int, size: int) -> bytes:
        return bytes(session.machine.engine.ram[address : address + size])

    _examine(session, text, "m", read)


def walk(session: Session, text: str) -> None:
    address = session.value(text)
    steps, mfn = session.guest.walk(address, session.vcpu)
    for level, where, entry in steps:
        flags = " ".join(name for bit, name in FLAGS.items() if entry >> bit & 1)
        session.write(f"L{level}[{where % PAGE // 8:3}] at {where:#x} = {entry:#018x}  {flags}")
    if not steps and mfn is None:
        session.write("in the hypervisor's address range, or not canonical: nothing of the guest's")
    elif mfn is None:
        reason = "not present" if not steps[-1][2] & 1 else "not a frame of this domain, or without the right"
        session.write(f"{reason} at level {steps[-1][0]}")
    else:
        _, kind, *_ = session.machine.engine.frame(mfn)
        pfn = session.guest.pfn_of(mfn) if session.guest.owns(mfn) else None
        of = f", guest frame {pfn:#x}" if pfn is not None else ""
        session.write(f"machine address {mfn * PAGE + address % PAGE:#x}: machine frame {mfn:#x}{of}, used as: {kind}")


COMMANDS = (
    Command(
        "x",
        (),
        "[/NFU] [ADDRESS]",
        "Look at N units of memory at a virtual address, in format F and of size U; without ADDRESS, go on.\n"
        "F: x hexadecimal, d signed, u unsigned, o octal, t binary, a address, c character, s string, i instruction.\n"
        "U: b h w g (1, 2, 4, 8 bytes).\n"
        "x/4xg $rsp        x/10i main        x/s 'message'",
        examine,
        "location",
    ),
    Command(
        "xp", (), "[/NFU] [ADDRESS]", "As x, by pseudo-physical address (guest frames).", examine_physical, "location"
    ),
    Command(
        "xm", (), "[/NFU] [ADDRESS]", "As x, by machine address, whoever owns the frame.", examine_machine, "location"
    ),
    Command("walk", ("info walk",), "ADDRESS", "Show the page walk of a virtual address.", walk, "location"),
)
