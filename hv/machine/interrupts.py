"""Simulated hardware that interrupts a guest at regular times: what `--pirq` and a bundled guest's header ask for.

A specification is NUMBER[:PART,...] with the parts `edge` (the default) or `level`, `every=TIME` and `count=N`:
"9:level,every=1ms,count=3" grants interrupt 9 and raises it three times, 1 ms apart. A level line goes down when the
guest says EOI. Without `every` nobody raises it but `Domain.raise_pirq`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hv.core.pirq import NR_PIRQS
from hv.errors import ConfigError
from hv.machine import duration

if TYPE_CHECKING:
    from hv.machine.domain import Domain


@dataclass(frozen=True, slots=True)
class Interrupt:
    """One specification."""

    pirq: int
    kind: str = "edge"
    every_ns: int = 0  # 0: nobody raises it by itself
    count: int | None = None  # None: for ever


def parse(text: str) -> Interrupt:
    """ConfigError for what is no specification."""
    number, _, rest = text.partition(":")
    kind, every, count = "edge", 0, None
    try:
        pirq = int(number)
        for part in rest.split(",") if rest else ():
            key, _, value = part.partition("=")
            if part in ("edge", "level"):
                kind = part
            elif key == "every":
                every = duration.parse(value) or 0
                if not every:
                    raise ValueError(part)
            elif key == "count":
                count = int(value)
            else:
                raise ValueError(part)
        if count is not None and (count < 1 or not every):
            raise ValueError("count")
        if not 0 < pirq < NR_PIRQS:
            raise ValueError(number)
    except ValueError:
        raise ConfigError(
            f"{text!r} is not an interrupt: write 9, 9:level or 9:edge,every=1ms,count=3 (1 to {NR_PIRQS - 1})"
        ) from None
    return Interrupt(pirq, kind, every, count)


class Source:
    """The device behind one interrupt of a domain."""

    def __init__(self, domain: Domain, interrupt: Interrupt) -> None:
        self._domain, self._interrupt = domain, interrupt
        self._left = interrupt.count
        domain.grant_pirq(interrupt.pirq, interrupt.kind, on_eoi=lambda: domain.lower_pirq(interrupt.pirq))
        if interrupt.every_ns:
            self._wait()

    def _wait(self) -> None:
        machine = self._domain.machine
        machine.at(machine.now_ns + self._interrupt.every_ns, self._tick)

    def _tick(self) -> None:
        if self._domain.ended:
            return
        self._domain.raise_pirq(self._interrupt.pirq)
        if self._left is not None:
            self._left -= 1
        if self._left != 0:
            self._wait()
