"""Why and where a machine stands still: what `Machine.step` returns, and breakpoints give to conditions and callbacks.

Rules:

1. Every reason is a class of its own, with what is particular to it; `text` says it in words.
2. `names` are what a condition may use besides registers and symbols.
3. A `Stop` is a picture: it does not change when the machine goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hv.trace import decode, words

if TYPE_CHECKING:
    from hv.machine.breakpoints import Breakpoint
    from hv.machine.domain import Domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The machine stands at a time of its clock."""

    now_ns: int

    @property
    def text(self) -> str:
        return "stopped"

    @property
    def names(self) -> dict[str, int]:
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Stop):
    """Nobody stands at an instruction: "ended" (all), "idle", "until" or "timeout", as `Machine.run_until`."""

    outcome: str

    @property
    def text(self) -> str:
        return {
            "ended": "every domain has ended",
            "idle": "nothing can happen any more: every vCPU waits, no timer is armed and no input can come",
            "until": "the time asked for is reached",
            "timeout": "the time of the host is over",
        }.get(self.outcome, self.outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Stop):
    """A vCPU stands before an instruction."""

    domain: Domain
    vcpu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped(Stopped):
    """The instructions asked for have run."""

    @property
    def text(self) -> str:
        return "stepped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed(Stopped):
    """The domain has crashed and can still be looked at; it is taken down when the machine goes on."""

    reason: str

    @property
    def text(self) -> str:
        return f"{self.domain.name} {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit(Stopped):
    """A breakpoint was hit; `note` is why its condition could not be decided, or empty."""

    breakpoint: Breakpoint
    note: str = ""

    @property
    def what(self) -> str:
        return ""

    @property
    def text(self) -> str:
        return f"breakpoint {self.breakpoint.number}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressHit(Hit):
    """The instruction at an address is about to run."""

    address: int

    @property
    def what(self) -> str:
        return f"at {self.domain.symbols.name(self.address) or f'{self.address:#x}'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HypercallHit(Hit):
    """About a hypercall, or an element of a multicall: its number and its six registers."""

    number: int
    args: tuple[int, ...]

    @property
    def called(self) -> dict[str, int]:
        return {"number": self.number, **{f"arg{i}": value for i, value in enumerate(self.args, 1)}}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallHit(HypercallHit):
    """A hypercall is about to be made; `element` is its place in the multicall that is, counted from 1, or 0."""

    element: int

    @property
    def what(self) -> str:
        inside = f", element {self.element} of a multicall" if self.element else ""
        return f"before {decode.call_text(self.number, self.args)}{inside}"

    @property
    def names(self) -> dict[str, int]:
        return self.called


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnHit(HypercallHit):
    """A hypercall, or an element of a multicall, has its result. The machine stops once the guest goes on."""

    result: int

    @property
    def what(self) -> str:
        return f"after {decode.call_text(self.number, self.args)} = {words.result(self.result)}"

    @property
    def names(self) -> dict[str, int]:
        return {"result": self.result, **self.called}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventHit(Hit):
    """A port became pending; `vcpu` is whom it notifies."""

    port: int
    target: str  # what it is bound to, in words

    @property
    def what(self) -> str:
        return f"event on port {self.port} ({self.target})"

    @property
    def names(self) -> dict[str, int]:
        return {"port": self.port}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpcallHit(Hit):
    """The guest's event callback is entered; it was at `rip`."""

    rip: int

    @property
    def what(self) -> str:
        port = self.breakpoint.first
        return f"upcall{f' with port {port} pending' if port else ''}, from {self.domain.place(self.rip)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExceptionHit(Hit):
    """An exception or `int n` enters the guest, which was at `rip`."""

    vector: int
    error: int
    address: int  # of a page fault
    rip: int
    software: bool

    @property
    def what(self) -> str:
        text = decode.entry_text(self.vector, self.error, self.address, self.software)
        return f"{text}, from {self.domain.place(self.rip)}"

    @property
    def names(self) -> dict[str, int]:
        return {"vector": self.vector, "error": self.error, "address": self.address}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessHit(Hit):
    """Watched memory was read or written by the instruction at `rip`; the machine stands behind that."""

    address: int
    size: int
    write: bool
    rip: int
    old: bytes  # what was there at the last stop, and is now; empty where it could not be read
    new: bytes

    @property
    def what(self) -> str:
        access = "write" if self.write else "read"
        text = f"{access} of {self.size} bytes at {self.domain.place(self.address)}, by {self.domain.place(self.rip)}"
        values = [f"{int.from_bytes(value, 'little'):#x}" if value else "unreadable" for value in (self.old, self.new)]
        return f"{text}; {values[0]} -> {values[1]}" if values[0] != values[1] else f"{text}; {values[1]}"

    @property
    def names(self) -> dict[str, int]:
        old, new = int.from_bytes(self.old, "little"), int.from_bytes(self.new, "little")
        return {"address": self.address, "size": self.size, "old": old, "new": new}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostHit(Hit):
    """Something that hv's own side did for a domain, such as an operation of its store."""

    description: str

    @property
    def what(self) -> str:
        return self.description
