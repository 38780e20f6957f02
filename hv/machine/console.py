"""A domain's console as the API shows it, and the rule for what a guest says by console_io.

Rules:

1. Ring output goes to `output` and to every listener, byte for byte.
2. console_io goes to the hypervisor log. But a guest that never writes to its ring has no other voice: its console_io
   is held for HOLD_NS of virtual time, and if the ring stays unused until then, or until the end, it becomes console
   output.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from hv.errors import DomainEnded, Timeout

if TYPE_CHECKING:
    from hv.backends.console import ConsoleBackend
    from hv.machine.domain import Domain

HOLD_NS = 10_000_000
Pattern = str | bytes | re.Pattern[str] | re.Pattern[bytes]


class Console:
    """The console of one domain, across its reboots."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._output = bytearray()
        self._consumed = 0
        self._held = bytearray()
        self._held_since: int | None = None
        self.listeners: list[Callable[[bytes], None]] = []
        self.backend: ConsoleBackend | None = None

    @property
    def output(self) -> bytes:
        """Everything the guest has written so far."""
        return bytes(self._output)

    def write(self, data: bytes) -> None:
        """Output of the guest."""
        self._domain.machine.trace.flush()
        self._output += data
        for listener in self.listeners:
            listener(data)

    def ring_output(self, data: bytes) -> None:
        """Output by the ring: what is still held from console_io was meant for the log only."""
        self._domain.machine.trace.note(self._domain.domid, "console", "output", data)
        self._release_held(to_console=self._held_long_enough())
        self.write(data)

    def hypervisor_output(self, data: bytes, now_ns: int) -> None:
        """Output by console_io."""
        self._domain.machine.trace.note(self._domain.domid, "console", "log", data)
        if self.backend is not None and self.backend.used:
            self._domain.machine.log(self._domain, data)
            return
        if self._held_since is None:
            self._held_since = now_ns
        self._held += data
        self.look_at_held()

    def look_at_held(self, *, idle: bool = False) -> None:
        """Make held output the console's where its time is over, or where nothing else can happen."""
        if self._held and (idle or self._held_long_enough()):
            self._release_held(to_console=True)

    def _held_long_enough(self) -> bool:
        return self._held_since is not None and self._domain.machine.now_ns - self._held_since > HOLD_NS

    def end(self) -> None:
        """The guest is gone: what is still held becomes the console's, unless the guest has used its ring."""
        self._release_held(to_console=self.backend is None or not self.backend.used)

    def _release_held(self, *, to_console: bool) -> None:
        held, self._held = bytes(self._held), bytearray()
        if held and to_console:
            self.write(held)
        elif held:
            self._domain.machine.log(self._domain, held)

    def send(self, text: str | bytes) -> None:
        """Type into the guest's console; nothing is added (Enter is "\\r")."""
        data = text.encode() if isinstance(text, str) else bytes(text)
        if self.backend is None or self._domain.ended:
            raise DomainEnded(self._domain.reason, self._domain)
        trace = self._domain.machine.trace
        with trace.as_effect_of(trace.note(self._domain.domid, "console", "input", data)):
            self.backend.feed(data)
        self._domain.machine.settle()

    def expect(self, pattern: Pattern, timeout: float = 30) -> re.Match[bytes]:
        """Run the machine until `pattern` appears in output not yet consumed; consume up to its end.

        A str or bytes pattern is literal. Timeout after `timeout` host seconds; DomainEnded if it can never come.
        """
        compiled = _compile(pattern)
        overlap = None if isinstance(pattern, re.Pattern) else max(len(compiled.pattern), 1) - 1
        found: re.Match[bytes] | None = None
        start = self._consumed

        def satisfied() -> bool:
            nonlocal found, start
            found = compiled.search(self._output, start)
            if found is None and overlap is not None:  # what was searched is not searched again: a guest can say much
                start = max(start, len(self._output) - overlap)
            return found is not None

        if not satisfied():
            outcome = self._run_until_output(satisfied, timeout)
            if not satisfied():
                self._give_up(pattern, outcome, timeout)
        assert found is not None
        self._consumed = found.end()
        return found

    def _run_until_output(self, satisfied: Callable[[], bool], timeout: float) -> str:
        """Run; stop at the output that satisfies, in virtual time, whatever the host's speed."""
        machine = self._domain.machine

        def stop_at_once(_: bytes) -> None:
            if satisfied():
                machine.engine.stop()

        self.listeners.append(stop_at_once)
        try:
            return machine.run_until(lambda: satisfied() or self._domain.ended, timeout)
        finally:
            self.listeners.remove(stop_at_once)

    def _give_up(self, pattern: Pattern, outcome: str, timeout: float) -> None:
        tail = self.output[self._consumed :][-200:].decode(errors="replace")
        if self._domain.ended:
            raise DomainEnded(self._domain.reason, self._domain)
        if outcome == "idle":
            raise Timeout(f"{pattern!r} can not appear any more: every vCPU waits for nothing; last output: {tail!r}")
        stop = self._domain.machine.stopped
        if outcome == "stopped" and stop is not None:
            raise Timeout(f"{pattern!r} did not appear before the machine stopped: {stop.text}")
        raise Timeout(f"{pattern!r} did not appear within {timeout:g} s; last output: {tail!r}")


def _compile(pattern: Pattern) -> re.Pattern[bytes]:
    if isinstance(pattern, re.Pattern):
        source = pattern.pattern.encode() if isinstance(pattern.pattern, str) else pattern.pattern
        return re.compile(source, pattern.flags & ~re.UNICODE)
    return re.compile(re.escape(pattern.encode() if isinstance(pattern, str) else bytes(pattern)))
