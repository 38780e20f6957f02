"""Files of Debian packages: fetched without installation when first needed, kept in a cache folder.

Rules:

1. The cache is that of fetched guests (hv/machine/fetched.py); a package that is there is used as it is, without the
   network.
2. A package appears in the cache complete or not at all, also when two processes fetch it at once.
3. What can not be had is a PackageError, whose sentence names the remedy.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hv.errors import HvError
from hv.machine.fetched import cache

Progress = Callable[[str, int, int], None]  # is told a package's name, how many of its bytes are there, and of how many
LOOKS = 0.1  # seconds between two of them


class PackageError(HvError):
    """A package that can not be had; one sentence with the remedy."""


def unpacked(name: str) -> Path:
    """The folder with the files of a package; PackageError where it can not be fetched."""
    place = cache() / name
    if place.is_dir():
        return place
    try:
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache(), prefix=f".{name}-") as folder:
            _fetch(name, Path(folder), None, ())
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


@contextmanager
def files(name: str, progress: Progress | None = None, options: tuple[str, ...] = ()) -> Iterator[tuple[Path, str]]:
    """The folder with the files of a package while they are needed, and its name and version; nothing is kept.

    `options` are for apt's programs, here and below: of another apt than the system's, for example.
    """
    try:
        cache().mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=cache(), prefix=f".{name}-")
    except OSError as error:
        raise PackageError(
            f"{cache()} cannot be written ({error.strerror}): set HV_GUEST_CACHE to another folder"
        ) from None
    with temporary as folder:
        package = _fetch(name, Path(folder), progress, options)
        yield Path(folder) / "root", package.stem


def dependency(name: str, prefix: str, options: tuple[str, ...] = ()) -> str:
    """The package that a meta package stands for: the first it depends on whose name begins with `prefix`."""
    need(("apt-cache",), name)
    asked = subprocess.run(["apt-cache", *options, "depends", name], capture_output=True, text=True, errors="replace")
    found = re.search(rf"^\s*Depends: ({re.escape(prefix)}\S+)$", asked.stdout, re.MULTILINE)
    if found is None:
        raise PackageError(f"Debian's package {name} is not known here: {_remedy(name)}")
    return found[1]


def _remedy(name: str) -> str:
    return (
        f"run `apt-get update` with network access, or unpack the package with `dpkg -x` into {cache() / name}"
        " (HV_GUEST_CACHE names another cache)"
    )


def need(tools: tuple[str, ...], name: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            raise PackageError(
                f"Debian's package {name} is needed, and there is no {tool} to fetch it: {_remedy(name)}"
            )


def _fetch(name: str, folder: Path, progress: Progress | None, options: tuple[str, ...]) -> Path:
    """Bring a package into `folder` and its files into `root` there; the package's file."""
    need(("apt-get", "dpkg"), name)
    total = _size(name, options) if progress else 0
    process = subprocess.Popen(
        ["apt-get", *options, "download", name],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        errors="replace",
    )
    while True:
        try:
            _, errors = process.communicate(timeout=LOOKS if progress else None)
            break
        except subprocess.TimeoutExpired:
            if progress:
                progress(name, sum(path.stat().st_size for path in folder.glob("*.deb")), total)
    packages = list(folder.glob("*.deb"))
    if process.returncode or len(packages) != 1:
        lines = [line for line in errors.splitlines() if line.startswith("E: ")]
        why = lines[-1].removeprefix("E: ") if lines else "apt-get download failed"
        raise PackageError(f"Debian's package {name} cannot be fetched ({why}): {_remedy(name)}")
    unpack = subprocess.run(
        ["dpkg", "-x", packages[0], folder / "root"], capture_output=True, text=True, errors="replace"
    )
    if unpack.returncode:
        raise PackageError(f"Debian's package {name} cannot be unpacked ({unpack.stderr.strip()}): {_remedy(name)}")
    return packages[0]


def _size(name: str, options: tuple[str, ...]) -> int:
    """How many bytes a package has, by apt's lists; 0 where they do not say."""
    question = ["apt-get", *options, "--print-uris", "download", name]
    asked = subprocess.run(question, capture_output=True, text=True, errors="replace")
    found = re.search(r"^'\S+' \S+ (\d+) ", asked.stdout, re.MULTILINE)
    return int(found[1]) if found else 0
