"""Rates of the bench guest on hv beside those on real Xen in QEMU: the same image, in turn, timed by itself.

Both run on this machine, round by round, so that what else the machine does hits both alike. A row's rate is the median
over the rounds, its spread the smallest and the largest; the ratio is the median of the rounds' own ratios. Rows whose
checksums differ did not do the same, and are an error.
"""

from __future__ import annotations

import json
import platform
import re
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hv.errors import ConfigError, HvError
from hv.machine import images
from hv.machine.machine import Machine
from hv.testing import xen_in_qemu
from hv.version import __version__

_ROW = re.compile(r"^BENCH (\S+) n=(\d+) ns=(\d+) chk=(-?\d+)$", re.MULTILINE)
TIMEOUT = 600.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of one run."""

    count: int
    ns: int
    checksum: int

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.count / self.ns * 1e9


@dataclass(slots=True)
class Row:
    """A row's rates in operations a second, one for each round."""

    name: str
    xen: list[float] = field(default_factory=list)
    hv: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return statistics.median(ours / theirs for ours, theirs in zip(self.hv, self.xen, strict=True))

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "xen": statistics.median(self.xen),
            "hv": statistics.median(self.hv),
            "ratio": self.ratio,
            "rounds": {"xen": self.xen, "hv": self.hv},
        }


def parse(output: str) -> dict[str, Measured]:
    """The rows that a run of the bench guest printed, by name."""
    return {name: Measured(int(n), max(int(ns), 1), int(chk)) for name, n, ns, chk in _ROW.findall(output)}


def on_hv(image: bytes, cmdline: str) -> str:
    """What the guest prints on hv with the host's clock."""
    with Machine(clock="host") as machine:
        domain = machine.create(image, cmdline=cmdline)
        machine.run(timeout=TIMEOUT)
        if domain.exit_code != 0:
            raise HvError(f"the bench guest {domain.reason or 'did not end'} on hv: run hv run bench to see more")
        return domain.console.output.decode(errors="replace")


def on_xen(image: bytes, cmdline: str) -> str:
    """What the guest prints as domain 0 of Xen in QEMU."""
    outcome = xen_in_qemu.run(image, cmdline, timeout=TIMEOUT)
    if outcome.exit_code != 0:
        raise HvError(f"the bench guest {outcome.ending} on Xen: {outcome.xen.splitlines()[-1]}")
    return outcome.output


def compare(
    rounds: int,
    count: int,
    names: str = "",
    *,
    report: Callable[[str], None] = lambda text: None,
    sides: tuple[Callable[[bytes, str], str], Callable[[bytes, str], str]] = (on_xen, on_hv),
) -> list[Row]:
    """Measure all rows whose names begin with `names`; `report` is told before each round."""
    image, _ = images.read("bench")
    cmdline = f"{count} {names}".rstrip()
    rows: dict[str, Row] = {}
    for number in range(rounds):
        report(f"round {number + 1} of {rounds}")
        theirs, ours = (parse(side(image, cmdline)) for side in sides)
        if not ours or ours.keys() != theirs.keys():
            raise ConfigError(f"no row of the bench guest begins with {names!r}: hv run bench shows their names")
        for name, measured in ours.items():
            if (measured.count, measured.checksum) != (theirs[name].count, theirs[name].checksum):
                raise HvError(f"{name} did not compute the same on hv ({measured}) and on Xen ({theirs[name]})")
            row = rows.setdefault(name, Row(name))
            row.xen.append(theirs[name].rate)
            row.hv.append(measured.rate)
    return list(rows.values())


def machine_description() -> dict[str, str]:
    """What the figures belong to."""
    version = subprocess.run([xen_in_qemu.find_qemu(), "--version"], capture_output=True, text=True).stdout
    qemu = version.splitlines()[0].removeprefix("QEMU emulator version ")
    return {**host_description(), "qemu": qemu}


def host_description() -> dict[str, str]:
    """The machine and the hv that figures belong to."""
    return {"cpu": _cpu_model(), "hv": __version__}


def _cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def table(rows: list[Row], machine: dict[str, str]) -> str:
    """For people: millions of operations a second, with the spread over the rounds."""
    width = max(len(row.name) for row in rows)
    lines = [
        f"CPU: {machine['cpu']}; hv {machine['hv']}; Xen 4.17 in QEMU {machine['qemu']}",
        "million operations a second: median (smallest to largest)",
        f"{'':{width}}  {'Xen in QEMU':>26}  {'hv':>26}   ratio",
    ]
    for row in rows:
        xen, ours = (_rates(values) for values in (row.xen, row.hv))
        lines.append(f"{row.name:<{width}}  {xen:>26}  {ours:>26}  {row.ratio:6.2f}")
    return "\n".join(lines)


def _rates(values: list[float]) -> str:
    middle, low, high = (value / 1e6 for value in (statistics.median(values), min(values), max(values)))
    digits = 4 if middle < 0.1 else 3 if middle < 1 else 2
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def write_json(path: Path, rows: list[Row], machine: dict[str, str]) -> None:
    """All figures, in operations a second."""
    document = {"machine": machine, "rows": [row.as_json() for row in rows]}
    try:
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
