"""Where each domain's console goes: `--console NAME=FILE` or `NAME=stdio`; without any, all go to stdout.

The keyboard belongs to the first domain, or to the one that `stdio` names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hv.cli.output import GUEST_OUTPUT, OutputFile
from hv.errors import ConfigError

if TYPE_CHECKING:
    from hv.machine.domain import Domain

STDIO = "stdio"
Sink = Callable[[bytes], None]


def parse(options: tuple[str, ...]) -> dict[str, str]:
    """{name: file or "stdio"}."""
    routes: dict[str, str] = {}
    for option in options:
        name, equals, target = option.partition("=")
        if not name or not equals or not target:
            raise ConfigError(f"--console {option!r} is not possible: write NAME=FILE or NAME={STDIO}")
        if name in routes:
            raise ConfigError(f"--console {name} is there twice: each console has one place")
        routes[name] = target
    for target in routes.values():
        if list(routes.values()).count(target) > 1:
            raise ConfigError(f"--console: only one console can have {target}")
    return routes


def connect(domains: list[Domain], routes: dict[str, str]) -> Domain:
    """Give each domain's console its place; the domain that the keyboard belongs to."""
    names = {domain.name: domain for domain in domains}
    for name in routes.keys() - names.keys():
        raise ConfigError(f"--console {name}: there is no such domain; here are {', '.join(sorted(names))}")
    for domain in domains:
        target = routes.get(domain.name, STDIO)
        domain.console.listeners.append(_sink(target))
    return next((names[name] for name, target in routes.items() if target == STDIO), domains[0])


def _sink(target: str) -> Sink:
    file = OutputFile(1, GUEST_OUTPUT) if target == STDIO else OutputFile(target, f"--console: {target}")

    def write(data: bytes) -> None:
        file.write(data)

    return write
