"""A domain's settings from an xl.cfg(5) file.

Rules:

1. Each setting that hv knows is a row of SETTINGS: its name, and the function that reads its value.
2. What xl knows and hv does not is a warning (hv.machine.xl_ignored); so is a name that nobody knows. A value that hv
   can not honour, where ignoring it would boot another machine than the one asked for, is a ConfigError.
3. Numbers are read as xl reads them, by strtol: 0x10 and 020 are 16.

Source: xl.cfg(5); tools/xl/xl_parse.c and libxlu_cfg.c of Xen 4.17.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from hv.errors import ConfigError, ImageError
from hv.machine import xl_cfg, xl_devices, xl_disk
from hv.machine.xl_cfg import Setting, Value
from hv.machine.xl_disk import Warn
from hv.machine.xl_ignored import NO_EFFECT

ACTIONS = (
    "destroy",
    "restart",
    "rename-restart",
    "preserve",
    "coredump-destroy",
    "coredump-restart",
    "soft-reset",
)
DEFAULT_ACTIONS = {
    "poweroff": "destroy",
    "reboot": "restart",
    "watchdog": "destroy",
    "crash": "destroy",
    "soft_reset": "soft-reset",
}
UINT32 = (1 << 32) - 1
NUMBER = re.compile(r"\s*[+-]?(0[xX][0-9a-fA-F]{1,16}|0[0-7]{0,20}|[1-9][0-9]{0,19})")
CONTROLS = frozenset(range(32)) - set(b"\t\n\r")


@dataclass(slots=True)
class Settings:
    """What a file asks for; `options` are arguments of `Machine.create` by name."""

    kernel: str
    options: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def looks_like_one(data: bytes) -> bool:
    """Whether an image's content is an xl.cfg file: text with settings."""
    return set(data[:4096]).isdisjoint(CONTROLS) and b"=" in data


def read(data: bytes, source: str, lines: Iterable[str] = ()) -> Settings:
    """The settings of a file's content, and of `lines` behind it; `source` is the file's name in messages."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    given = xl_cfg.parse(text, source)
    for line in lines:
        given = xl_cfg.parse(line, repr(line), given)
    return _Reader(given, source).read()


def from_mapping(settings: Mapping[str, Any], lines: Iterable[str] = ()) -> Settings:
    """The same from a mapping of names to strings, numbers and lists of these."""
    given = {name: Setting(_as_value(name, value), name) for name, value in settings.items()}
    for line in lines:
        given = xl_cfg.parse(line, repr(line), given)
    return _Reader(given, "settings").read()


def _as_value(name: str, value: Any) -> Value:
    if isinstance(value, (list, tuple)):
        return [_as_value(name, item) for item in value]
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (str, int, PurePath)):
        return str(value)
    raise ConfigError(f"{name} = {value!r} is not possible: give a string, a number or a list of them")


class _Reader:
    """One file's settings on their way to `Settings`."""

    def __init__(self, given: dict[str, Setting], source: str) -> None:
        self._given = given
        self._source = source
        self._result = Settings(kernel="")

    def fail(self, name: str, what: str) -> ConfigError:
        return ConfigError(f"{self._given[name].place}: {what}")

    def warn(self, what: str, name: str | None = None) -> None:
        place = self._source if name is None else self._given[name].place
        self._result.warnings.append(f"{place}: {what}")

    def text(self, name: str) -> str:
        value = self._given[name].value
        if isinstance(value, list):
            raise self.fail(name, f"{name} is a list: it takes one string or number")
        return value

    def number(self, name: str, low: int, high: int) -> int:
        if self._given[name].added:
            raise self.fail(name, f"{name} += is not possible: numbers are not added, write =")
        text = self.text(name)
        if not NUMBER.fullmatch(text):
            raise self.fail(name, f"{name} = {text[:40]!r} is not a number")
        digits = text.strip().lstrip("+-")
        value = int(digits, 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10)
        value = -value if "-" in text else value
        if not low <= value <= high:
            raise self.fail(name, f"{name} = {value} is not possible: choose {low} to {high}")
        return value

    def strings(self, name: str) -> list[str]:
        value = self._given[name].value
        items = value if isinstance(value, list) else [value]
        if any(isinstance(item, list) for item in items):
            raise self.fail(name, f"{name} takes a list of strings, not of lists")
        return [str(item) for item in items]

    def read(self) -> Settings:
        options = self._result.options
        for name in self._given:
            row = SETTINGS.get(name)
            if row is not None:
                row(self, name, options)
            elif name in NO_EFFECT:
                self.warn(f"{name} has no effect: {NO_EFFECT[name]}", name)
            else:
                self.warn(f"{name} is not known to hv, and ignored{_did_you_mean(name)}", name)
        self._command_line()
        return self._result

    def kernel(self, name: str) -> None:
        self._result.kernel = self.text(name)

    def _command_line(self) -> None:
        """As xl: cmdline, or else root and extra together."""
        root, extra = (self.text(name) if name in self._given else "" for name in ("root", "extra"))
        if "cmdline" in self._given:
            if root or extra:
                self.warn("root and extra are ignored: cmdline is there", "cmdline")
            line = self.text("cmdline")
        else:
            line = " ".join(part for part in (f"root={root}" if root else "", extra) if part)
        if line:
            self._result.options["cmdline"] = line


def _did_you_mean(name: str) -> str:
    near = difflib.get_close_matches(name, [*SETTINGS, *NO_EFFECT], 1, 0.75)
    return f": did you mean {near[0]}?" if near else ""


Row = Callable[[_Reader, str, dict[str, Any]], None]


def _type(reader: _Reader, name: str, options: dict[str, Any]) -> None:
    if reader.text(name) not in ("pv", "generic", "linux"):
        why = reader.fail(name, f'{name} = {reader.text(name)!r} is not possible: hv runs PV guests, type = "pv"')
        raise ImageError(str(why))  # nothing is wrong with the file: `hv test` goes on with the next


def _kernel(reader: _Reader, name: str, options: dict[str, Any]) -> None:
    reader.kernel(name)


def _text(option: str) -> Row:
    def row(reader: _Reader, name: str, options: dict[str, Any]) -> None:
        options[option] = reader.text(name)

    return row


def _number(option: str, low: int, high: int) -> Row:
    def row(reader: _Reader, name: str, options: dict[str, Any]) -> None:
        options[option] = reader.number(name, low, high)

    return row


def _memory(option: str) -> Row:
    def row(reader: _Reader, name: str, options: dict[str, Any]) -> None:
        options[option] = f"{reader.number(name, 1, 1 << 24)}M"

    return row


def _action(kind: str) -> Row:
    def row(reader: _Reader, name: str, options: dict[str, Any]) -> None:
        action = reader.text(name)
        if action not in ACTIONS:
            raise reader.fail(name, f"{name} = {action!r} is not possible: choose {', '.join(ACTIONS)}")
        options.setdefault("actions", {})[kind] = action

    return row


def _items(option: str, item: Callable[[str, Warn], Any]) -> Row:
    def row(reader: _Reader, name: str, options: dict[str, Any]) -> None:
        options[option] = [item(text, reader.warn) for text in reader.strings(name)]

    return row


def _read_later(reader: _Reader, name: str, options: dict[str, Any]) -> None:
    """Its value is looked at with others."""


def _bootloader(reader: _Reader, name: str, options: dict[str, Any]) -> None:
    raise reader.fail(
        name, 'bootloader is not run: name the kernel, or let GRUB for Xen load it (kernel = "grub-x86_64-xen.bin")'
    )


SETTINGS: dict[str, Row] = {
    "name": _text("name"),
    "type": _type,
    "builder": _type,
    "kernel": _kernel,
    "ramdisk": _text("ramdisk"),
    "memory": _memory("memory"),
    "maxmem": _memory("max_memory"),
    "vcpus": _number("vcpus", 1, 64),
    "maxvcpus": _number("max_vcpus", 1, 64),
    "cmdline": _read_later,
    "root": _read_later,
    "extra": _read_later,
    "disk": _items("disks", xl_disk.disk),
    "vif": _items("vifs", xl_devices.vif),
    "channel": _items("channels", xl_devices.channel),
    "on_poweroff": _action("poweroff"),
    "on_reboot": _action("reboot"),
    "on_watchdog": _action("watchdog"),
    "on_crash": _action("crash"),
    "on_soft_reset": _action("soft_reset"),
    "max_event_channels": _number("max_event_channels", 2, 131071),
    "max_grant_frames": _number("max_grant_frames", 1, UINT32),
    "max_grant_version": _number("max_grant_version", 1, 2),
    "max_maptrack_frames": _number("max_maptrack_frames", 0, UINT32),
    "cpu_weight": _number("weight", 1, 65535),
    "cap": _number("cap", 0, 6400),
    "bootloader": _bootloader,
}
