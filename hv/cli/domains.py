"""The table of domains, as `xl list` prints it: at the end with `hv run --list`, at any time on SIGUSR1."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

    from hv.machine.domain import Domain
    from hv.machine.machine import Machine

TITLES = ("Name", "ID", "Mem", "VCPUs", "State", "Time(s)", "Ends")


def table(machine: Machine) -> str:
    """A line for each domain: name, domid, MiB, vCPUs, xl's letters, s of processor time, how it ended."""
    rows = [TITLES, *map(_row, machine.domains)]
    width = max(len(row[0]) for row in rows)
    return "\n".join(
        f"{name:<{width}}  {domid:>5} {memory:>6} {vcpus:>5}  {state:<6}  {seconds:>8}  {end}".rstrip()
        for name, domid, memory, vcpus, state, seconds, end in rows
    )


def _row(domain: Domain) -> tuple[str, ...]:
    config = domain.config
    fixed = domain.name, str(domain.domid), str(config.memory >> 20), str(config.vcpus)
    if domain.ended and not domain.preserved:
        return (*fixed, "------", "-", domain.reason)
    return (*fixed, _letters(domain), f"{domain.cpu_ns / 1e9:.1f}", domain.reason if domain.ended else "")


def _letters(domain: Domain) -> str:
    """r running (or ready to), b blocked, p paused, s shut down, c crashed, as in xl(1)."""
    guest = domain.guest
    states = [guest.vcpu_state(vcpu) for vcpu in range(guest.nr_vcpus)]
    flags = {
        "r": not domain.ended and not guest.paused and "runnable" in states,
        "b": not domain.ended and "runnable" not in states,
        "p": guest.paused,
        "s": domain.ended and not guest.crashed,
        "c": domain.ended and guest.crashed,
        "d": False,
    }
    return "".join(letter if on else "-" for letter, on in flags.items())


def show(machine: Machine) -> None:
    print(table(machine), file=sys.stderr)


def show_on_signal(machine: Machine) -> None:
    """Print the table whenever SIGUSR1 comes."""

    def handler(number: int, frame: FrameType | None) -> None:
        show(machine)

    signal.signal(signal.SIGUSR1, handler)
