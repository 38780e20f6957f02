"""Files of Debian packages: fetched without installation when first needed, kept in a cache folder.

Rules:

1. The cache is $HV_GUEST_CACHE, else $XDG_CACHE_HOME/hv/guests, else ~/.cache/hv/guests; a package that is there is
   used as it is, without the network.
2. A package appears in the cache complete or not at all, also when two processes fetch it at once.
3. What can not be had is a PackageError, whose sentence names the remedy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from hv.errors import HvError


class PackageError(HvError):
    """A package that can not be had; one sentence with the remedy."""


def cache() -> Path:
    """The folder that holds one folder a package."""
    named = os.environ.get("HV_GUEST_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hv" / "guests"


def unpacked(name: str) -> Path:
    """The folder with the files of a package; PackageError where it can not be fetched."""
    place = cache() / name
    if place.is_dir():
        return place
    try:
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache(), prefix=f".{name}-") as folder:
            _fetch(name, Path(folder))
            try:
                (Path(folder) / "root").rename(place)
            except OSError:
                if not place.is_dir():  # otherwise somebody else was faster, and theirs is as good
                    raise
    except OSError as error:
        raise PackageError(
            f"{cache()} cannot be written ({error.strerror}): set HV_GUEST_CACHE to another folder"
        ) from None
    return place


def _fetch(name: str, folder: Path) -> None:
    remedy = (
        f"run `apt-get update` with network access, or unpack the package with `dpkg -x` into {cache() / name}"
        " (HV_GUEST_CACHE names another cache)"
    )
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise PackageError(f"Debian's package {name} is needed, and there is no {tool} to fetch it: {remedy}")
    fetched = subprocess.run(
        ["apt-get", "download", name], cwd=folder, capture_output=True, text=True, errors="replace"
    )
    packages = list(folder.glob("*.deb"))
    if fetched.returncode or len(packages) != 1:
        lines = [line for line in fetched.stderr.splitlines() if line.startswith("E: ")]
        why = lines[-1].removeprefix("E: ") if lines else "apt-get download failed"
        raise PackageError(f"Debian's package {name} cannot be fetched ({why}): {remedy}")
    unpack = subprocess.run(
        ["dpkg", "-x", packages[0], folder / "root"], capture_output=True, text=True, errors="replace"
    )
    if unpack.returncode:
        raise PackageError(f"Debian's package {name} cannot be unpacked ({unpack.stderr.strip()}): {remedy}")
