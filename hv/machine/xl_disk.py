"""xl's language for disks: xl-disk-configuration(5).

Rules:

1. A specification is read as xl reads it, word by word: settings and flags by their form wherever they stand, all else
   is the next positional parameter that has no value yet; `target=` takes the rest of the text.
2. What hv can not do is refused with the remedy; what changes nothing here is a warning.

Source: tools/libs/util/libxlu_disk_l.l and libxlu_disk.c of Xen 4.17; libxl__device_disk_dev_number for the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from hv.errors import ConfigError

Warn = Callable[[str], None]
FORMATS = ("raw", "qcow", "qcow2", "vhd", "qed", "empty")
PREFIX = re.compile(r"(raw|qcow2?|vhd|iscsi|e?nbd|drbd|tapdisk|tap2?|aio|ioemu|file|phy):")
UNKNOWN_PREFIX = re.compile(r"[a-z][a-z0-9]*:(?![a-z0-9])")
SCRIPTED = ("iscsi", "nbd", "enbd", "drbd")
READ_ONLY = {"r": True, "ro": True, "w": False, "rw": False, "": False}
FLAGS: dict[str, tuple[str, bool]] = {
    "cdrom": ("cdrom", True),
    "discard": ("discard", True),
    "no-discard": ("discard", False),
    "direct-io-safe": ("direct-io-safe", True),
    "trusted": ("trusted", True),
    "untrusted": ("trusted", False),
    "colo": ("colo", True),
    "no-colo": ("colo", False),
}
CHOICES = {
    "devtype": ("cdrom", "disk"),
    "backendtype": ("phy", "tap", "qdisk", "standalone"),
    "specification": ("xen", "virtio"),
    "format": ("", *FORMATS),
    "access": tuple(READ_ONLY),
}
STRINGS = ("vdev", "script", "backend")
IGNORED = ("script", "backendtype", "backend")
POSITIONAL = ("target", "format", "vdev", "access")
CONVERT = "qemu-img convert -O raw IMAGE IMAGE.raw makes a raw image of it"
INT_MAX = 0x7FFFFFFF


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


def disk(text: str, warn: Warn) -> DiskSpec:
    """One item of `disk=[…]`, for example "/images/root.raw,raw,xvda,rw"."""
    words = _Words(text)
    given, flags = words.given, words.flags
    for key in IGNORED:
        if key in given:
            warn(f"disk {text!r}: {key}={given[key]} is ignored: hv has one backend of its own")
    cdrom = flags.get("cdrom", False)
    target = given.get("target", "")
    if not target or given.get("format") == "empty":
        raise words.mistake("no image file is named: write target=FILE (an empty drive is not possible)")
    image_format = given.get("format", "")
    if image_format not in ("", "raw"):
        raise words.mistake(f"hv reads raw images only: {CONVERT}")
    if given.get("specification", "xen") != "xen":
        raise words.mistake("specification=virtio is not possible: hv has Xen's own disks only, leave it out")
    if flags.get("colo"):
        raise words.mistake("colo is not possible: hv has no replication, leave it out")
    vdev = given.get("vdev")
    if vdev is None:
        raise words.mistake("it has no name in the guest: write vdev=xvda")
    return DiskSpec(
        target=target,
        vdev=vdev,
        number=device_number(vdev),
        read_only=cdrom or READ_ONLY[given.get("access", "")],
        cdrom=cdrom,
        discard=flags.get("discard", True),
        raw=image_format == "raw",
    )


class _Words:
    """What a specification says: `given` settings by name, and `flags`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.given: dict[str, str] = {}
        self.flags: dict[str, bool] = {}
        self._prefixed = False
        self._access_placed = False
        rest = text
        while rest := rest.lstrip(" \t\n"):
            rest = self._word(rest)

    def mistake(self, what: str) -> ConfigError:
        return ConfigError(f"disk {self.text!r}: {what}")

    def _word(self, rest: str) -> str:
        """Take the first word of the rest; what is left then."""
        if match := PREFIX.match(rest):
            self._prefix(match[1])
            return rest[match.end() :]
        if UNKNOWN_PREFIX.match(rest):
            raise self.mistake(f"{rest.partition(':')[0]}: is an unknown prefix: leave it out")
        if rest.startswith("target="):
            self._string("target", rest.partition("=")[2].removesuffix(","))
            return ""
        word, _, after = rest.partition(",")
        if word in FLAGS:
            name, value = FLAGS[word]
            self.flags[name] = value
        elif "=" in word:
            self._setting(*word.split("=", 1))
        else:
            self._positional(word)
        return after

    def _prefix(self, name: str) -> None:
        self._prefixed = True
        if name in FORMATS:
            self._choice("format", name)
        elif name in SCRIPTED:
            raise self.mistake(f"{name}: needs a script, and hv runs none: attach it on the host, and name its device")

    def _setting(self, key: str, value: str) -> None:
        if key == "devtype":
            self._choice(key, value)
            self.flags["cdrom"] = value == "cdrom"
        elif key in CHOICES:
            self._choice(key, value)
        elif key in STRINGS:
            self._string(key, value)
        elif key.startswith(("colo-", "active-disk", "hidden-disk")):
            raise self.mistake(f"{key} belongs to COLO, which hv does not have: leave it out")
        else:
            raise self.mistake(f"{key} is unknown: write target,format,vdev,access, as in xl")

    def _choice(self, key: str, value: str) -> None:
        if value not in CHOICES[key]:
            choices = ", ".join(filter(None, CHOICES[key]))
            raise self.mistake(f"{key} {value!r} is unknown: choose {choices}")
        if key == "format":
            value = value or "raw"
            if self.given.get(key, value) != value:
                raise self.mistake("its format is given twice: write it once")
        self.given[key] = value

    def _string(self, key: str, value: str) -> None:
        if self.given.get(key):
            raise self.mistake(f"its {key} is given twice: write it once")
        self.given[key] = value

    def _positional(self, word: str) -> None:
        given = self.given
        if "target" not in given:
            self._string("target", word)
        elif "format" not in given and not self._prefixed:
            if given["target"] or not self._typed_name(word):
                self._choice("format", word)
            else:
                given["format"] = "empty"
        elif "vdev" not in given:
            if not self._typed_name(word):
                self._string("vdev", word)
        elif not self._access_placed:
            self._access_placed = True
            self._choice("access", word)
        else:
            raise self.mistake(f"{word!r} is too much: write {','.join(POSITIONAL)}, as in xl")

    def _typed_name(self, word: str) -> bool:
        """`hdc:cdrom`: a name with what it is."""
        name, colon, kind = word.rpartition(":")
        if not colon:
            return False
        if kind not in CHOICES["devtype"]:
            raise self.mistake(f"{kind!r} is no kind of disk: write cdrom or disk")
        self._string("vdev", name)
        self.flags["cdrom"] = kind == "cdrom"
        return True


def device_number(vdev: str) -> int:
    """The number in XenStore of a disk's name: xvda[N], hda[N], sda[N], dNpM, or the number itself."""
    if match := re.fullmatch(r"d(0x[0-9a-f]+|\d+)p(0x[0-9a-f]+|\d+)", vdev):
        disk_number, partition = _c_number(match[1]), _c_number(match[2])
        if disk_number is not None and partition is not None and disk_number < 1 << 20 and partition < 256:
            return _virtual_number(disk_number, partition)
    if match := re.fullmatch(r"xvd([a-z]{1,5})([1-9]\d{0,2})?", vdev):
        disk_number, partition = _letters(match[1]), int(match[2] or 0)
        if disk_number < 1 << 20 and partition < 256:
            return _virtual_number(disk_number, partition)
    if (number := _c_number(vdev)) is not None and number <= INT_MAX:
        return number
    if match := re.fullmatch(r"(hd[a-d]|sd[a-p])([1-9]\d?)?", vdev):
        disk_number, partition = ord(match[1][2]) - ord("a"), int(match[2] or 0)
        if vdev.startswith("hd") and partition < 64:
            return (3, 22)[disk_number >> 1] << 8 | (disk_number & 1) << 6 | partition
        if vdev.startswith("sd") and partition < 16:
            return 8 << 8 | disk_number << 4 | partition
    raise ConfigError(f"{vdev!r} is no name of a disk: write xvda, xvdb, …, or sda, hda")


def _virtual_number(disk_number: int, partition: int) -> int:
    if disk_number < 16 and partition < 16:
        return 202 << 8 | disk_number << 4 | partition
    return 1 << 28 | disk_number << 8 | partition


def _letters(text: str) -> int:
    number = 0
    for letter in text:
        number = number * 26 + ord(letter) - ord("a") + 1
    return number - 1


def _c_number(text: str) -> int | None:
    """A number as strtoul reads it with base 0: hexadecimal after 0x, octal after 0; None where it is none."""
    for pattern, base in ((r"0x[0-9a-fA-F]+", 16), (r"0[0-7]*", 8), (r"[1-9][0-9]*", 10)):
        if re.fullmatch(pattern, text):
            return int(text, base)
    return None
