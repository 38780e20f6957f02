"""The vif and channel specifications of xl: xl-network-configuration(5), xl.cfg(5). Disks: hv/machine/xl_disk.py.

Rules:

1. A specification is read as xl reads it.
2. What hv can not do is refused with the remedy; what changes nothing here is a warning.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hv.errors import ConfigError
from hv.machine.xl_disk import Warn

XEN_OUI = "00:16:3e"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSpec:
    """A channel: what the guest knows it by, and the path of its socket; None is a pseudo-terminal."""

    name: str
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VifSpec:
    """A network interface: six bytes of address, the switch it is plugged into, its number, keys shown in XenStore."""

    mac: bytes | None = None
    bridge: str = "xenbr0"
    name: str | None = None
    devid: int | None = None
    mtu: int = 1500
    trusted: bool = True
    shown: tuple[tuple[str, str], ...] = ()


def channel(text: str, warn: Warn) -> ChannelSpec:
    """One item of `channel=[…]`: "connection=socket, name=org.example.agent, path=/tmp/agent", or connection=pty."""
    found: dict[str, str] = {}
    for word in text.split(","):
        key, equals, value = (part.strip() for part in word.partition("="))
        if not equals or "=" in value:
            raise ConfigError(f"channel {text!r}: {word.strip()!r} is no setting: write KEY=VALUE, with commas between")
        if key == "backend":
            warn(f"channel {text!r}: backend={value} is ignored: hv is the backend")
        elif key in ("name", "connection", "path"):
            found[key] = value
        else:
            warn(f"channel {text!r}: {key} is unknown and ignored")
    connection, name, path = (found.get(key) for key in ("connection", "name", "path"))
    if connection not in ("pty", "socket"):
        raise ConfigError(f"channel {text!r}: its connection is {connection!r}: choose connection=pty or socket")
    if not name:
        raise ConfigError(f"channel {text!r}: it has no name by which the guest could find it: write name=NAME")
    if connection == "socket" and not path:
        raise ConfigError(f"channel {text!r}: a socket has a path: write path=PATH")
    return ChannelSpec(name=name, path=path if connection == "socket" else None)


def vif(text: str, warn: Warn) -> VifSpec:
    """One item of `vif=[…]`, for example "mac=00:16:3e:00:00:01,bridge=lan"; "" takes all defaults."""
    found: dict[str, Any] = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        key, equals, value = word.partition("=")
        if not equals and key in ("trusted", "untrusted"):
            found["trusted"] = key == "trusted"
        elif equals and key in VIF_KEYS:
            found |= VIF_KEYS[key](text, value)
        elif equals and (key in VIF_IGNORED or key.startswith("colo_")):
            warn(f"vif {text!r}: {key} is ignored: {VIF_IGNORED.get(key, 'hv has no replication')}")
        else:
            raise ConfigError(f"vif {text!r}: {word} is unknown: hv knows {', '.join(VIF_KEYS)}")
        if key in VIF_SHOWN:
            found.setdefault("shown", {})[key] = value
    return VifSpec(**{**found, "shown": tuple(found.get("shown", {}).items())})


def _bridge(text: str, value: str) -> dict[str, Any]:
    if not value:
        raise ConfigError(f"vif {text!r}: the bridge has no name: write bridge=lan, or leave it out")
    return {"bridge": value}


def _vif_type(text: str, value: str) -> dict[str, Any]:
    if value != "vif":
        raise ConfigError(f"vif {text!r}: type {value!r} is for guests with emulated devices: leave it out")
    return {}


def _number(name: str, least: int, most: int) -> Callable[[str, str], dict[str, Any]]:
    def parse(text: str, value: str) -> dict[str, Any]:
        if not re.fullmatch(r"[0-9]{1,6}", value) or not least <= int(value) <= most:
            raise ConfigError(f"vif {text!r}: {name} {value!r} is no number from {least} to {most}")
        return {name: int(value)}

    return parse


VIF_KEYS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "mac": lambda text, value: {"mac": _mac(text, value)},
    "bridge": _bridge,
    "vifname": lambda _, value: {"name": value},
    "type": _vif_type,
    "devid": _number("devid", 0, 65535),
    "mtu": _number("mtu", 68, 65535 - 18),
    "ip": lambda *_: {},
}
VIF_SHOWN = ("ip", "gatewaydev")  # in XenStore, for who asks
VIF_IGNORED = {
    "script": "hv's switches need none",
    "model": "it is for guests with emulated devices",
    "rate": "hv's switches have no limit",
    "gatewaydev": "hv's switches do not route",
    "netdev": "hv's switches do not route",
    "backend": "hv's backends are in domain 0",
    "forwarddev": "hv has no replication",
    "accel": "xl ignores it too",
}


def _mac(text: str, value: str) -> bytes:
    parts = value.split(":")
    try:
        mac = bytes(int(part, 16) for part in parts)
    except ValueError:
        mac = b""
    if len(mac) != 6 or mac[0] & 1:
        raise ConfigError(f"vif {text!r}: {value!r} is no address of one interface: write {XEN_OUI}:XX:XX:XX")
    return mac


def default_mac(domain: str, index: int) -> bytes:
    """The same address for the same name and number, so that runs repeat; within Xen's own range."""
    digest = zlib.crc32(f"{domain}:{index}".encode())
    return bytes.fromhex(XEN_OUI.replace(":", "")) + (digest & 0x7FFFFF).to_bytes(3, "big")
