"""The disk, vif and channel specifications of xl: xl-disk-configuration(5), xl-network-configuration(5), xl.cfg(5).

Rules:

1. A specification is read as xl reads it: positional and named parameters, deprecated prefixes too.
2. What hv can not do is refused with the remedy; what changes nothing here is a warning.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hv.errors import ConfigError

Warn = Callable[[str], None]
DEPRECATED_PREFIX = re.compile(r"(?:(?:tapdisk|tap2?|aio|ioemu|file|phy):)*(?:(raw|qcow2?|vhd|qed):)?(?=/)")
READ_ONLY = {"r": True, "ro": True, "w": False, "rw": False, "": False}
IGNORED_FLAGS = ("direct-io-safe", "trusted", "untrusted")
IGNORED_NAMED = ("script", "backendtype", "specification")
CONVERT = "qemu-img convert -O raw IMAGE IMAGE.raw makes a raw image of it"
XEN_OUI = "00:16:3e"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpec:
    """A disk: `target` is the image file, `vdev` the name in the guest, `number` the device number in XenStore."""

    target: str
    vdev: str
    number: int
    read_only: bool = False
    cdrom: bool = False
    discard: bool = True
    raw: bool = False  # said to be raw, whatever its content looks like


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


def disk(text: str, warn: Warn) -> DiskSpec:
    """One item of `disk=[…]`, for example "/images/root.raw,raw,xvda,rw"."""
    named, positional, flags = _split_disk(text)
    named = dict(zip(("target", "format", "vdev", "access"), positional, strict=False)) | named
    image_format = named.pop("format", "")
    _check_format(text, image_format)
    for key in IGNORED_NAMED:
        if key in named:
            warn(f"disk {text!r}: {key}={named.pop(key)} is ignored: hv has one backend of its own")
    target, vdev, access = (named.pop(key, "") for key in ("target", "vdev", "access"))
    cdrom = "cdrom" in flags or named.pop("devtype", "disk") == "cdrom"
    if vdev.endswith((":cdrom", ":disk")):
        vdev, _, kind = vdev.rpartition(":")
        cdrom = cdrom or kind == "cdrom"
    if unknown := [*named, *(flag for flag in flags if flag not in ("cdrom", "discard", "no-discard", *IGNORED_FLAGS))]:
        raise ConfigError(f"disk {text!r}: {unknown[0]} is unknown: write target,format,vdev,access, as in xl")
    if access not in READ_ONLY:
        raise ConfigError(f"disk {text!r}: access {access!r} is unknown: choose r or w")
    if not target:
        raise ConfigError(f"disk {text!r}: no image file is named: write target=FILE (an empty drive is not possible)")
    return DiskSpec(
        target=target,
        vdev=vdev,
        number=device_number(vdev),
        read_only=READ_ONLY[access] or cdrom,
        cdrom=cdrom,
        discard="no-discard" not in flags,
        raw=image_format == "raw",
    )


def _split_disk(text: str) -> tuple[dict[str, str], list[str], list[str]]:
    """Named parameters, positional ones and flags; target= takes the rest of the text."""
    named: dict[str, str] = {}
    positional: list[str] = []
    flags: list[str] = []
    prefix = DEPRECATED_PREFIX.match(text)
    if prefix and prefix.end():
        named["format"] = prefix[1] or "raw"
        text = text[prefix.end() :]
        parts = text.split(",")  # with a prefix the format is no positional parameter
        text = ",".join([parts[0], "", *parts[1:]])
    rest: str | None = text.strip()
    while rest is not None:
        word, comma, after = rest.partition(",")
        word = word.strip()
        if word.startswith("target="):
            named["target"] = rest.partition("=")[2].strip()
            break
        key, equals, value = word.partition("=")
        if equals:
            named[key] = value
        elif word in ("cdrom", "discard", "no-discard", *IGNORED_FLAGS):
            flags.append(word)
        else:
            positional.append(word)
        rest = after if comma else None
    if len(positional) > 4:
        raise ConfigError(f"disk {text!r}: {positional[4]!r} is too much: write target,format,vdev,access, as in xl")
    return named, positional, flags


def _check_format(text: str, image_format: str) -> None:
    if image_format in ("qcow", "qcow2", "vhd", "qed"):
        raise ConfigError(f"disk {text!r}: hv reads raw images only: {CONVERT}")
    if image_format not in ("", "raw"):
        raise ConfigError(f"disk {text!r}: format {image_format!r} is unknown: write raw")


def device_number(vdev: str) -> int:
    """The number in XenStore of a disk's name: xvda[N], hda[N], sda[N], dN[pM], or the number itself.

    Source: xen-vbd-interface(7); libxl__device_disk_dev_number.
    """
    if match := re.fullmatch(r"d(\d+)(?:p(\d+))?", vdev):
        return _virtual_number(vdev, int(match[1]), int(match[2] or 0))
    if re.fullmatch(r"0x[0-9a-f]+|\d+", vdev):
        return int(vdev, 0)
    match = re.fullmatch(r"(xvd|hd|sd)([a-z]{1,3})(\d{0,3})", vdev)
    if not match:
        raise ConfigError(f"{vdev!r} is no name of a disk: write xvda, xvdb, …, or sda, hda")
    kind, letters, partition = match[1], match[2], int(match[3] or 0)
    disk_number = 0
    for letter in letters:
        disk_number = disk_number * 26 + ord(letter) - ord("a") + 1
    disk_number -= 1
    if kind == "xvd":
        return _virtual_number(vdev, disk_number, partition)
    if kind == "sd" and disk_number < 16 and partition < 16:
        return 8 << 8 | disk_number << 4 | partition
    if kind == "hd" and disk_number < 4 and partition < 64:
        return (3, 22)[disk_number >> 1] << 8 | (disk_number & 1) << 6 | partition
    raise ConfigError(f"{vdev!r} is beyond what {kind}… can name: use xvda, xvdb, …")


def _virtual_number(vdev: str, disk_number: int, partition: int) -> int:
    if disk_number < 16 and partition < 16:
        return 202 << 8 | disk_number << 4 | partition
    if disk_number < 1 << 20 and partition < 256:
        return 1 << 28 | disk_number << 8 | partition
    raise ConfigError(f"{vdev!r} is beyond the disks that there can be: use xvda, xvdb, …")


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
