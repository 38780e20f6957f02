"""What gdb can ask while the domain stands still: one row of `REQUESTS` for each kind of packet.

Rules:

1. A thread is a vCPU, its number that of the vCPU plus 1.
2. An answer is a packet's contents: empty for what hv does not have, `E` and an errno in hexadecimal for what fails. No
   request raises, whatever is in it.
3. Breakpoints are hv's own: no byte of the guest changes, and the guest can not see them.
4. Memory is that of the guest's kernel, or of its user mode where the kernel has nothing; it is written with the
   kernel's rights, so page tables and other domains' frames stay out of reach.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from hv.debug.gdb import packets, target
from hv.debug.gdb.image_file import ImageFile
from hv.engine.machine import GuestFault
from hv.errors import ConfigError, HvError

if TYPE_CHECKING:
    from hv.debug.session import Session
    from hv.machine.breakpoints import Breakpoint

OK, NOTHING = b"OK", b""
EINVAL, EFAULT = b"E16", b"E0e"
FEATURES = b"PacketSize=%x;qXfer:features:read+;qXfer:exec-file:read+;QStartNoAckMode+" % packets.MOST
FEATURES += b";swbreak+;hwbreak+;vContSupported+"
WATCHES = {2: ("write", b"watch"), 3: ("read", b"rwatch"), 4: ("access", b"awatch")}
BY_GDB = "gdb runs the guest: use its own continue, stepi and so on, without monitor"


def by_gdb(go: Callable[[], str]) -> str:
    """For `Session.keyboard`: a debugger's command that would run the guest behind gdb's back."""
    raise ConfigError(BY_GDB)


class Requests:
    """The answers for gdb. `said` is where `session` writes its lines."""

    def __init__(self, session: Session, said: list[str]) -> None:
        self.session = session
        self.domain = session.domain
        self._said = said
        self.file = ImageFile(self.domain.name, self.domain.config.image.elf)
        self.points: dict[bytes, Breakpoint] = {}  # Z packet without its Z -> breakpoint

    # --- threads

    def threads(self) -> list[int]:
        if self.domain.ended:
            return []
        guest = self.domain.guest
        return [i + 1 for i in range(guest.nr_vcpus) if guest.vcpu_state(i) != "down"]

    def look_at(self, thread: int) -> bool:
        if thread > 0 and thread in self.threads():
            self.session.select(self.domain, thread - 1)
        return thread <= 0 or thread in self.threads()

    # --- asking

    def answer(self, packet: bytes) -> bytes:
        """The answer to a packet that does not let the guest run."""
        for pattern, handler in REQUESTS:
            match = pattern.fullmatch(packet)
            if match:
                try:
                    return handler(self, *match.groups())
                except HvError:
                    return EINVAL
        return NOTHING

    def supported(self) -> bytes:
        return FEATURES

    def thread_list(self) -> bytes:
        return b"m" + b",".join(b"%x" % thread for thread in self.threads())

    def current_thread(self) -> bytes:
        return b"QC%x" % (self.session.vcpu + 1)

    def about_thread(self, thread: bytes) -> bytes:
        if int(thread, 16) not in self.threads():
            return EINVAL
        vcpu = int(thread, 16) - 1
        return f"vCPU {vcpu}, {self.domain.guest.vcpu_state(vcpu)}".encode().hex().encode()

    def choose(self, thread: bytes) -> bytes:
        return OK if self.look_at(int(thread, 16)) else EINVAL

    def alive(self, thread: bytes) -> bytes:
        return OK if int(thread, 16) in self.threads() else EINVAL

    def description(self, offset: bytes, size: bytes) -> bytes:
        return _part(target.description(), offset, size)

    def executable(self, offset: bytes, size: bytes) -> bytes:
        return _part(self.file.path, offset, size)

    def registers(self) -> bytes:
        values = self.session.registers
        return b"".join(target.value(register, values) for register in target.REGISTERS)

    def register(self, number: bytes) -> bytes:
        index = int(number, 16)
        if index >= len(target.REGISTERS):
            return EINVAL
        return target.value(target.REGISTERS[index], self.session.registers)

    def set_register(self, number: bytes, digits: bytes) -> bytes:
        index = int(number, 16)
        if index >= len(target.REGISTERS):
            return EINVAL
        return self._load(target.REGISTERS[index], digits.lower())

    def set_registers(self, digits: bytes) -> bytes:
        rest, answers = digits.lower(), set()
        for register in target.REGISTERS:
            part, rest = rest[: register.bits // 4], rest[register.bits // 4 :]
            if len(part) == register.bits // 4:
                answers.add(self._load(register, part))
        return OK if answers == {OK} else EINVAL

    def _load(self, register: target.Register, digits: bytes) -> bytes:
        """What can not be changed may be written as it is: gdb writes all at once."""
        if digits == target.value(register, self.session.registers) or not register.source:
            return OK
        try:
            value = int.from_bytes(bytes.fromhex(digits.decode()), "little")
            self.session.guest.set_register(self.session.vcpu, register.source, value)
        except (KeyError, ValueError):
            return EINVAL
        return OK

    # --- memory

    def read(self, address: bytes, size: bytes) -> bytes:
        guest, vcpu, at = self.session.guest, self.session.vcpu, int(address, 16)
        length = min(int(size, 16), packets.MOST // 2)
        data = guest.peek(at, length, vcpu, kernel=True) or guest.peek(at, length, vcpu, kernel=False)
        return data.hex().encode() if data or not length else EFAULT

    def write(self, address: bytes, size: bytes, digits: bytes) -> bytes:
        return self._store(int(address, 16), int(size, 16), bytes.fromhex(digits.decode()))

    def write_binary(self, address: bytes, size: bytes, data: bytes) -> bytes:
        return self._store(int(address, 16), int(size, 16), packets.unescaped(data))

    def _store(self, address: int, size: int, data: bytes) -> bytes:
        if len(data) != size:
            return EINVAL
        try:
            if data:
                self.session.guest.write(address, data, self.session.vcpu)
        except GuestFault:
            return EFAULT
        return OK

    # --- breakpoints

    def insert(self, row: bytes, kind: bytes, address: bytes, length: bytes) -> bytes:
        points, number, at = self.session.machine.breakpoints, int(kind), int(address, 16)
        if row in self.points:
            return OK
        if number in WATCHES:
            made = points.watch(at, int(length, 16), WATCHES[number][0], self.domain, internal=True)
        else:
            made = points.at(at, self.domain, internal=True)
        self.points[row] = made
        return OK

    def remove(self, row: bytes) -> bytes:
        made = self.points.pop(row, None)
        if made is not None:
            self.session.machine.breakpoints.delete(made)
        return OK

    def forget(self) -> None:
        """All breakpoints, those of `monitor` too: nobody is there to see them hit."""
        self.points.clear()
        self.session.machine.breakpoints.clear()

    def kind_of(self, breakpoint: Breakpoint) -> int | None:
        """The number of its Z packet, or None for one that gdb has not made."""
        return next((row[0] - ord("0") for row, made in self.points.items() if made is breakpoint), None)

    # --- hv's own commands

    def monitor(self, digits: bytes) -> bytes:
        """`monitor COMMAND`: any command of `hv step` that does not run the guest."""
        session, before = self.session, self.session.keyboard
        self._said.clear()
        session.keyboard = by_gdb
        try:
            session.execute(bytes.fromhex(digits.decode()).decode("utf-8", "replace"))
        except HvError as error:
            self._said.append(str(error))
        finally:
            session.keyboard = before
            session.select(self.domain, session.vcpu)
        return "".join(f"{line}\n" for line in self._said).encode().hex().encode() or OK


def _part(document: bytes, offset: bytes, size: bytes) -> bytes:
    at = int(offset, 16)
    part = document[at : at + min(int(size, 16), packets.MOST // 2)]
    return (b"m" if at + len(part) < len(document) else b"l") + packets.escaped(part)


Handler = Callable[..., bytes]
HEX, BYTES = rb"([0-9a-fA-F]{1,16})", rb"((?:[0-9a-fA-F]{2})*)"


def _row(pattern: bytes, handler: Handler) -> tuple[re.Pattern[bytes], Handler]:
    return re.compile(pattern, re.DOTALL), handler


REQUESTS: tuple[tuple[re.Pattern[bytes], Handler], ...] = (
    _row(rb"qSupported(?::.*)?", Requests.supported),
    _row(rb"vCont\?", lambda own: b"vCont;c;C;s;S"),
    _row(rb"qAttached(?::.*)?", lambda own: b"1"),  # so that gdb's quit lets the guest go on
    _row(rb"qfThreadInfo", Requests.thread_list),
    _row(rb"qsThreadInfo", lambda own: b"l"),
    _row(rb"qC", Requests.current_thread),
    _row(rb"qThreadExtraInfo," + HEX, Requests.about_thread),
    _row(rb"H[gc](-?[0-9a-fA-F]{1,8})", Requests.choose),
    _row(rb"T" + HEX, Requests.alive),
    _row(rb"qXfer:features:read:target\.xml:" + HEX + rb"," + HEX, Requests.description),
    _row(rb"qXfer:exec-file:read:[0-9a-fA-F]*:" + HEX + rb"," + HEX, Requests.executable),
    _row(rb"vFile:setfs:.*", lambda own: b"F0"),
    _row(
        rb"vFile:open:" + BYTES + rb"," + HEX + rb"," + HEX, lambda own, path, flags, mode: own.file.open(path, flags)
    ),
    _row(rb"vFile:pread:" + HEX + rb"," + HEX + rb"," + HEX, lambda own, *numbers: own.file.read(*numbers)),
    _row(rb"vFile:fstat:" + HEX, lambda own, descriptor: own.file.status(descriptor)),
    _row(rb"vFile:close:.*", lambda own: b"F0"),
    _row(rb"g", Requests.registers),
    _row(rb"p" + HEX, Requests.register),
    _row(rb"P" + HEX + rb"=([0-9a-fA-Fx]+)", Requests.set_register),
    _row(rb"G([0-9a-fA-Fx]+)", Requests.set_registers),
    _row(rb"m" + HEX + rb"," + HEX, Requests.read),
    _row(rb"M" + HEX + rb"," + HEX + rb":" + BYTES, Requests.write),
    _row(rb"X" + HEX + rb"," + HEX + rb":(.*)", Requests.write_binary),
    _row(rb"Z(([0-4])," + HEX + rb"," + HEX + rb").*", Requests.insert),
    _row(rb"z([0-4],[0-9a-fA-F]{1,16},[0-9a-fA-F]{1,16}).*", Requests.remove),
    _row(rb"qRcmd," + BYTES, Requests.monitor),
)
