"""Options that every command which boots guests shares."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from hv.cli.output import OutputFile
from hv.errors import ConfigError

Command = Callable[..., Any]
Decorator = Callable[[Any], Any]
SETTING = re.compile(r"[a-z][._0-9a-z]*\s*\+?=")


@dataclass(slots=True)
class GuestOptions:
    """The values of `guest_options`."""

    memory: str | None
    vcpus: int | None
    cmdline: str | None
    ramdisk: str | None
    name: str | None
    max_event_channels: int | None
    pirq: tuple[str, ...]
    disk: tuple[str, ...]
    vif: tuple[str, ...]
    clock: str | None
    timeout: float | None
    until: int | None
    hypervisor_log: str | None

    def creation(self) -> dict[str, Any]:
        """What `Machine.create` takes; None is what the image, its xl.cfg file or the default says."""
        names = ("memory", "vcpus", "cmdline", "ramdisk", "name", "max_event_channels")
        return {**{name: getattr(self, name) for name in names}, "pirqs": self.pirq or None}

    def settings(self) -> list[str]:
        """Devices by options come on top of those of a file, as lines of xl.cfg behind it."""
        return [
            f"{name} += ['{escaped(spec)}']"
            for name, specs in (("disk", self.disk), ("vif", self.vif))
            for spec in specs
        ]

    def open_log(self) -> OutputFile | None:
        """The hypervisor log's file; None is stderr."""
        return None if self.hypervisor_log is None else OutputFile(self.hypervisor_log, f"{self.hypervisor_log}:")


def escaped(text: str) -> str:
    """For a string of xl.cfg in single quotes."""
    return text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")


def with_settings(words: tuple[str, ...], options: GuestOptions) -> list[tuple[str, list[str]]]:
    """IMAGE KEY=VALUE… IMAGE…, as xl's own command line has it: (image, lines of xl.cfg) of each domain."""
    described: list[tuple[str, list[str]]] = []
    for word in words:
        if not SETTING.match(word) or Path(word).exists():
            described.append((word, options.settings()))
        elif described:
            described[-1][1].append(word)
        else:
            raise ConfigError(f"{word!r} stands before any IMAGE: write hv run IMAGE {word}")
    return described


def _number(ctx: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """nan passes every range."""
    if value is not None and math.isnan(value):
        raise click.BadParameter("nan is not a number of seconds", ctx, option)
    return value


OPTIONS = (
    click.option(
        "--memory",
        metavar="SIZE",
        help="Memory of each guest: 64M, 1G, or MiB (default: 64M, or what its xl.cfg says or a fetched guest needs).",
    ),
    click.option(
        "--vcpus",
        type=click.IntRange(1, 64),
        metavar="N",
        help="Virtual CPUs (default: 1, or what its xl.cfg says or a bundled guest is made for).",
    ),
    click.option(
        "--cmdline",
        metavar="STRING",
        help="The guest's command line (default: empty, or that of its xl.cfg or a fetched guest).",
    ),
    click.option(
        "--ramdisk",
        metavar="FILE",
        help="An initial ramdisk: a file or a fetched one (default: none, or that of its xl.cfg or a fetched guest).",
    ),
    click.option("--name", metavar="NAME", help="The domain's name (default: the image's)."),
    click.option(
        "--max-event-channels",
        type=click.IntRange(2, 131071),
        metavar="N",
        help="How many event channels a guest may have (default: 1023).",
    ),
    click.option(
        "--pirq",
        multiple=True,
        metavar="SPEC",
        help="A physical interrupt: 9, 9:level, 9:edge,every=1ms,count=3 (default: what a bundled guest is made for).",
    ),
    click.option(
        "--disk",
        multiple=True,
        metavar="SPEC",
        help="One more disk, as in xl.cfg: root.img,raw,xvda,rw (docs/devices.md).",
    ),
    click.option(
        "--vif", multiple=True, metavar="SPEC", help="One more network interface, as in xl.cfg: bridge=lan, or ''."
    ),
    click.option(
        "--clock",
        type=click.Choice(["virtual", "paced", "host"]),
        help="virtual: deterministic, idle time skipped (default); paced: idle follows the host (default at a "
        "terminal); host: the host's clock.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        callback=_number,
        metavar="S",
        help="Give up after S host seconds.",
    ),
    click.option("--until", type=click.IntRange(0, 1 << 61), metavar="NS", help="Stop at this virtual time in ns."),
    click.option("--hypervisor-log", metavar="FILE", help="Where the guests' console_io goes."),
)


def gathered(record: type, argument: str, rows: Iterable[Decorator], function: Command) -> Command:
    """Add options to a command; the function gets their values as one argument, an instance of a dataclass."""
    names = record.__dataclass_fields__  # type: ignore[attr-defined]

    def called(*args: Any, **values: Any) -> Any:
        values[argument] = record(**{name: values.pop(name) for name in names})
        return function(*args, **values)

    called.__doc__, called.__name__ = function.__doc__, function.__name__
    called.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]  # added before
    decorated: Command = called
    for row in reversed(list(rows)):
        decorated = row(decorated)
    return decorated


def guest_options(function: Command) -> Command:
    """Add the options; the function gets them as one `options` argument."""
    return gathered(GuestOptions, "options", OPTIONS, function)
