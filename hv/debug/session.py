"""One sitting of the debugger: a machine, the vCPU that is looked at, and how its stops are told.

Rules:

1. All that is said goes through `write`, in whole lines; nothing is printed elsewhere.
2. A mistake of the user's is an HvError with one sentence; the session goes on.
3. Only running commands let the guests run. Looking changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hv.debug.command import resolve
from hv.debug.recent import Recent
from hv.errors import ConfigError
from hv.machine import disassembly, expression
from hv.machine.stops import Crashed, Hit, Outcome, Stepped, Stop, Stopped

if TYPE_CHECKING:
    from hv.engine.machine import GuestDomain
    from hv.machine.breakpoints import Breakpoint
    from hv.machine.domain import Domain
    from hv.machine.machine import Machine

Writer = Callable[[str, str], None]  # (line, style): the styles are "stop", "here", "error", "" for plain


class Session:
    """`machine` has its domains already. `timeout`: host seconds for all runs together; `until_ns`: virtual time."""

    def __init__(
        self, machine: Machine, write: Writer, *, timeout: float | None = None, until_ns: int | None = None
    ) -> None:
        self.machine, self._write = machine, write
        self.domain, self.vcpu = machine.domains[0], 0
        self.over = False  # quit was typed
        self.outcome: str | None = None  # how the last run came back, in the words of `Machine.run_until`
        self.interrupted = False  # set from outside: come back from a run
        self.keyboard: Callable[[Callable[[], str]], str] = lambda go: go()  # around every run: who types meanwhile
        self.recall: tuple[str, int] | None = None  # what `x` without an address goes on with
        self._until_ns = until_ns
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._recent = Recent(machine)
        machine.stop_at_crash = True

    # --- talking

    def write(self, text: str = "", style: str = "") -> None:
        for line in text.split("\n"):
            self._write(line, style)

    def execute(self, line: str) -> None:
        """One command line; HvError with a sentence where it cannot be done."""
        line = line.strip()
        if line and not line.startswith("#"):
            row, rest = resolve(line)
            row.handler(self, rest)

    # --- the guest that is looked at

    @property
    def guest(self) -> GuestDomain:
        if self.domain.ended:
            raise ConfigError(f"{self.domain.name} has {self.domain.reason}: there is nothing left to look at")
        return self.domain.guest

    @property
    def registers(self) -> dict[str, Any]:
        return self.guest.registers(self.vcpu)

    def read(self, address: int, size: int) -> bytes:
        """What the code that runs could read, as much of it as there is."""
        return self.guest.peek(address, size, self.vcpu, kernel=bool(self.registers["kernel_mode"]))

    def value(self, text: str) -> int:
        """The value of an expression at the vCPU that is looked at."""
        if not text:
            raise ConfigError("an expression is missing: help expressions says what there is")
        if self.domain.ended:
            raise ConfigError(f"{self.domain.name} has {self.domain.reason}: its registers are gone")
        return expression.evaluate(text.removeprefix("*"), self.domain, self.vcpu)

    def place(self, address: int) -> str:
        name = self.domain.symbols.name(address)
        return f"{address:#x} <{name}>" if name else f"{address:#x}"

    def recent(self, count: int) -> list[str]:
        """The last events of the trace, as lines."""
        return self._recent.lines(count)

    def select(self, domain: Domain, vcpu: int) -> None:
        self.domain, self.vcpu = domain, vcpu

    # --- running

    def time_left(self) -> float | None:
        """The host's seconds that are left for all runs; None without a limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def run(self, until_ns: int | None = None) -> Stop:
        """Let the guests run until something stops them, or a time of the machine's clock."""
        self.interrupted = False
        limits = [limit for limit in (until_ns, self._until_ns) if limit is not None]

        def go() -> str:
            return self.machine.run_until(lambda: self.interrupted, self.time_left(), min(limits, default=None))

        self.outcome = self.keyboard(go)
        stopped = self.machine.stopped
        if self.outcome == "stopped" and stopped is not None:
            return stopped
        return Outcome(now_ns=self.machine.now_ns, outcome=self.outcome)

    def step(self, count: int | None, kind: str = "count") -> Stop:
        """Run the chosen vCPU by single instructions: so many, or until it returns (see `Engine.step_vcpu`)."""
        engine = self.machine.engine
        engine.step_vcpu(self.guest, self.vcpu, count, kind)
        try:
            return self.run()
        finally:
            engine.set_stepping(False)

    def run_to(self, address: int, holds: Callable[[Hit], bool]) -> Stop:
        """Run until the chosen vCPU stands at an address and the condition holds, or something else is the reason."""
        points = self.machine.breakpoints
        vcpu = self.vcpu
        made = points.at(address, self.domain, vcpu=vcpu, condition=holds, internal=True)
        try:
            stop = self.run()
        finally:
            points.delete(made)
        if isinstance(stop, Hit) and stop.breakpoint is made:
            return Stepped(now_ns=stop.now_ns, domain=stop.domain, vcpu=stop.vcpu)
        return stop

    # --- telling

    def report(self, stop: Stop) -> None:
        """Say why and where the machine stands, and look at that vCPU from now on."""
        if isinstance(stop, Stopped) and not stop.domain.ended:
            self.select(stop.domain, stop.vcpu)
        elif self.domain.ended or self.outcome == "satisfied":
            self._look_elsewhere()
        if isinstance(stop, Hit) and stop.note:
            self.write(stop.note, "error")
        if not isinstance(stop, Stepped):
            self.write(self._reason(stop), "error" if isinstance(stop, Crashed) else "stop")
        if not self.domain.ended:
            self.write(self.here(), "here")

    def _reason(self, stop: Stop) -> str:
        if isinstance(stop, Outcome) and stop.outcome == "satisfied":
            return "interrupted"
        if isinstance(stop, Outcome) and stop.outcome == "ended":
            return "; ".join(f"{domain.name} {domain.reason}" for domain in self.machine.domains)
        return stop.text

    def _look_elsewhere(self) -> None:
        """At who ran last, or at any domain that lives."""
        running = self.machine.engine.running
        living = [domain for domain in self.machine.domains if not domain.ended]
        for domain in living:
            if running is not None and domain.domid == running[0]:
                self.select(domain, running[1])
                return
        if living:
            self.select(living[0], 0)

    def here(self) -> str:
        """The instruction that is next, with whose it is and when."""
        rip = self.registers["rip"]
        where = f"[{self.domain.name} vCPU {self.vcpu}, {self.machine.now_ns} ns]"
        instruction = self.instruction(rip)
        text = disassembly.with_target(instruction, self.domain.symbols) if instruction else "(not an instruction)"
        return f"{where} {self.place(rip)}: {text}"

    def instruction(self, address: int) -> disassembly.Instruction | None:
        found = disassembly.decode(self.read(address, disassembly.LONGEST), address, 1)
        return found[0] if found else None

    def describe(self, point: Breakpoint) -> str:
        state = "" if point.enabled else ", disabled"
        times = f", hit {point.hits} time{'s' if point.hits != 1 else ''}" if point.hits else ""
        return f"{'temporary ' if point.once else ''}breakpoint {point.number}: {point.text}{state}{times}"
