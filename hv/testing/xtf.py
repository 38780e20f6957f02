"""The Xen Test Framework's result protocol.

A test prints exactly one line `Test result: SUCCESS|SKIP|ERROR|FAILURE` and powers off; anything else is a crash.
Results are ordered, and have the exit codes of XTF's own runner.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hv.machine.machine import Machine

CODES = {"SUCCESS": 0, "SKIP": 3, "ERROR": 4, "FAILURE": 5, "CRASH": 6}
_RESULT = re.compile(rb"^Test result: (SUCCESS|SKIP|ERROR|FAILURE)\r?$", re.MULTILINE)
DEFAULT_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """How a test ended."""

    name: str
    detail: str
    console: str

    @property
    def code(self) -> int:
        return CODES[self.name]


def judge(console: bytes, ending: str, exit_code: int | None) -> Result:
    """The result of a finished test from its console and how its domain ended."""
    text = console.decode(errors="replace")
    lines = _RESULT.findall(console)
    if exit_code != 0:
        return Result("CRASH", f"the domain {ending}", text)
    if len(lines) != 1:
        return Result("CRASH", "no result line" if not lines else f"{len(lines)} result lines", text)
    return Result(lines[0].decode(), "", text)


def run(
    machine: Machine, image: str, timeout: float | None = None, until_ns: int | None = None, **options: Any
) -> Result:
    """Run one test as the only domain of `machine`; `options` are those of `Machine.create`."""
    domain = machine.create(image, **options)
    limit = timeout or DEFAULT_TIMEOUT
    outcome = machine.run_until(lambda: False, limit, until_ns)
    if domain.ended:
        return judge(domain.console.output, domain.reason, domain.exit_code)
    why = {"timeout": f"timeout after {limit:g} s", "idle": "it waits for nothing"}.get(outcome, "stopped by --until")
    return Result("CRASH", why, domain.console.output.decode(errors="replace"))
