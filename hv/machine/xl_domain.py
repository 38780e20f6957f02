"""A domain's settings from an xl.cfg(5) file.

Rules:

1. Each setting that hv knows is a row of SETTINGS: its name, and the function that reads its value.
2. What xl knows and hv does not is a warning; so is a name that nobody knows. A value that hv can not honour, where
   ignoring it would boot another machine than the one asked for, is a ConfigError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hv.errors import ConfigError
from hv.machine import xl_cfg, xl_devices
from hv.machine.xl_cfg import Setting

ACTIONS = (
    "destroy",
    "restart",
    "rename-restart",
    "preserve",
    "coredump-destroy",
    "coredump-restart",
)
DEFAULT_ACTIONS = {"poweroff": "destroy", "reboot": "restart", "watchdog": "destroy", "crash": "destroy"}
UINT32 = (1 << 32) - 1
CONTROLS = frozenset(range(32)) - set(b"\t\n\r")


@dataclass(slots=True)
class Settings:
    """What a file asks for; `options` are arguments of `Machine.create` by name."""

    kernel: str
    options: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def looks_like_one(data: bytes) -> bool:
    """Whether an image's content is an xl.cfg file: text with settings."""
    if not set(data[:4096]).isdisjoint(CONTROLS) or b"=" not in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def read(data: bytes, source: str) -> Settings:
    """The settings of a file's content; `source` is its name in messages."""
    return _Reader(xl_cfg.parse(data.decode(), source), source).read()


class _Reader:
    """One file's settings on their way to `Settings`."""

    def __init__(self, given: dict[str, Setting], source: str) -> None:
        self._given = given
        self._source = source
        self._result = Settings(kernel="")

    def fail(self, name: str, what: str) -> ConfigError:
        return ConfigError(f"{self._source}:{self._given[name].line}: {what}")

    def warn(self, what: str) -> None:
        self._result.warnings.append(f"{self._source}: {what}")

    def text(self, name: str) -> str:
        value = self._given[name].value
        if isinstance(value, list):
            raise self.fail(name, f"{name} is a list: it takes one string or number")
        return value

    def number(self, name: str, low: int, high: int) -> int:
        text = self.text(name)
        try:
            value = int(text, 0) if not text.isdigit() else int(text)
        except ValueError:
            raise self.fail(name, f"{name} = {text!r} is not a number") from None
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
                self.warn(f"{name} has no effect: {NO_EFFECT[name]}")
            else:
                self.warn(f"{name} is not known to hv, and ignored")
        if not self._result.kernel:
            raise ConfigError(f"{self._source}: kernel is missing: name the image that hv boots, kernel = \"FILE\"")
        self._command_line()
        return self._result

    def kernel(self, name: str) -> None:
        self._result.kernel = self.text(name)

    def _command_line(self) -> None:
        """As xl: cmdline, or else root and extra together."""
        root, extra = (self.text(name) if name in self._given else "" for name in ("root", "extra"))
        if "cmdline" in self._given:
            if root or extra:
                self.warn("root and extra are ignored: cmdline is there")
            line = self.text("cmdline")
        else:
            line = " ".join(part for part in (f"root={root}" if root else "", extra) if part)
        if line:
            self._result.options["cmdline"] = line


Row = Callable[[_Reader, str, dict[str, Any]], None]


def _type(reader: _Reader, name: str, options: dict[str, Any]) -> None:
    if reader.text(name) not in ("pv", "generic", "linux"):
        raise reader.fail(name, f"{name} = {reader.text(name)!r} is not possible: hv runs PV guests, type = \"pv\"")


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


def _disks(reader: _Reader, name: str, options: dict[str, Any]) -> None:
    options["disks"] = [xl_devices.disk(text, reader.warn) for text in reader.strings(name)]


def _vifs(reader: _Reader, name: str, options: dict[str, Any]) -> None:
    options["vifs"] = [xl_devices.vif(text, reader.warn) for text in reader.strings(name)]


def _read_later(reader: _Reader, name: str, options: dict[str, Any]) -> None:
    """Its value is looked at with others."""


def _bootloader(reader: _Reader, name: str, options: dict[str, Any]) -> None:
    raise reader.fail(
        name, "bootloader is not run: name the kernel, or let GRUB for Xen load it (kernel = \"grub-x86_64-xen.bin\")"
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
    "cmdline": _read_later,
    "root": _read_later,
    "extra": _read_later,
    "disk": _disks,
    "vif": _vifs,
    "on_poweroff": _action("poweroff"),
    "on_reboot": _action("reboot"),
    "on_watchdog": _action("watchdog"),
    "on_crash": _action("crash"),
    "max_event_channels": _number("max_event_channels", 2, 131071),
    "max_grant_frames": _number("max_grant_frames", 1, UINT32),
    "max_grant_version": _number("max_grant_version", 1, 2),
    "max_maptrack_frames": _number("max_maptrack_frames", 0, UINT32),
    "cpu_weight": _number("weight", 1, 65535),
    "bootloader": _bootloader,
}
NO_EFFECT = {
    "maxvcpus": "all of vcpus are there from the start",
    "cpus": "there is one processor",
    "cpus_soft": "there is one processor",
    "cap": "a domain may use what the others leave",
    "pool": "there is one pool",
    "uuid": "it is made of the name, so that runs repeat",
    "vfb": "there is no screen",
    "pci": "there are no PCI devices",
    "localtime": "the clock is in UTC",
    "tsc_mode": "the TSC is the machine's clock",
    "e820_host": "memory begins at 0",
    "seclabel": "there are no labels",
}
