"""Guests that `hv fetch` has brought: where they are, and what each is started with.

A fetched guest is a folder of the cache with its files and `guest.json`, which names them with their checksums.
hv/testing/real_guests.py makes both. The cache is $HV_GUEST_CACHE, else $XDG_CACHE_HOME/hv/guests, else
~/.cache/hv/guests.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from hv.errors import ImageError

MANIFEST = "guest.json"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A fetched guest and what it is started with where nobody says otherwise."""

    name: str
    image: Path
    ramdisk: Path | None
    memory: str
    cmdline: str
    terminal: bool  # whether its first process looks at TERM, LINES and COLUMNS


def cache() -> Path:
    """The folder that holds one folder a guest, or a package that tests use."""
    named = os.environ.get("HV_GUEST_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hv" / "guests"


def find(name: str) -> Fetched | None:
    """The fetched guest of that name; None where there is none. ImageError where it is damaged."""
    folder = cache() / name
    if Path(name).name != name or not (folder / MANIFEST).is_file():
        return None
    try:
        row = json.loads((folder / MANIFEST).read_text())
        ramdisk = row["ramdisk"]
        return Fetched(
            name,
            folder / row["image"],
            ramdisk and folder / ramdisk,
            row["memory"],
            row["cmdline"],
            row["terminal"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise ImageError(f"{folder / MANIFEST}: cannot be read: hv fetch --again {name} brings it anew") from None
