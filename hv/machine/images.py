"""Where a guest's image comes from: a path, or the name of a bundled or fetched guest."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hv.errors import ImageError
from hv.machine import fetched

LARGEST = 4 << 30  # of an image or a ramdisk: what comes by a pipe may have no end
BUNDLED = Path(__file__).resolve().parent.parent / "guests"  # not importlib.resources: it costs 20 ms of every start


@dataclass(frozen=True, slots=True)
class Guest:
    """A bundled guest: its name, what it shows, and how it must end."""

    name: str
    title: str
    summary: str
    expected: int
    vcpus: int
    domains: int
    pirqs: tuple[str, ...]
    output: str


def bundled() -> list[Guest]:
    """Every bundled guest, by name; empty where the package was not built."""
    index = BUNDLED / "index.json"
    if not index.is_file():
        return []
    rows = json.loads(index.read_text())
    return [
        Guest(
            row["name"],
            row["title"],
            row["summary"],
            row["exit"],
            row["vcpus"],
            row["domains"],
            tuple(row["pirqs"]),
            row["output"],
        )
        for row in rows
    ]


def bundled_guest(image: str | Path | bytes) -> Guest | None:
    """The bundled guest that `image` names, which says what it is made for; None for any other image."""
    if isinstance(image, bytes) or not _is_bundled(Path(image), str(image)):
        return None
    return next((guest for guest in bundled() if guest.name == str(image)), None)


def fetched_guest(image: str | Path | bytes) -> fetched.Fetched | None:
    """The fetched guest that `image` names, which says what it is started with; None for any other image."""
    if isinstance(image, bytes) or Path(image).is_file():
        return None
    return fetched.find(str(image))


def made_for(image: str | Path | bytes) -> dict[str, Any]:
    """What a bundled or fetched guest is started with where nobody says otherwise; nothing for any other image."""
    if bundled := bundled_guest(image):
        return {"vcpus": bundled.vcpus, "pirqs": bundled.pirqs}
    if guest := fetched_guest(image):
        defaults = {"memory": guest.memory, "cmdline": guest.cmdline, "ramdisk": guest.ramdisk}
        return {name: value for name, value in defaults.items() if value is not None}
    return {}


def _is_bundled(path: Path, name: str) -> bool:
    return path.name == name != "index.json" and not path.is_file() and (BUNDLED / path).is_file()


def _content(path: Path) -> bytes:
    """A file's content, or a pipe's; a device has no end, or nothing to run."""
    with path.open("rb") as file:
        if stat.S_ISCHR(os.fstat(file.fileno()).st_mode) and file.read(1):
            raise ImageError(f"{path}: is a device: name a file with an image")
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ImageError(f"{path}: is larger than {LARGEST >> 30} GiB: give hv a guest's kernel")
    return data


def read(image: str | Path) -> tuple[bytes, str]:
    """(content, name) of an image; ImageError with a sentence where there is none."""
    path = Path(image)
    try:
        if _is_bundled(path, str(image)):
            path = BUNDLED / path
        elif guest := fetched_guest(image):
            return guest.image.read_bytes(), guest.name
        return _content(path), path.name
    except FileNotFoundError:
        raise ImageError(
            f"{image}: no such file or guest: hv guests lists the bundled ones, hv fetch those of others"
        ) from None
    except IsADirectoryError:
        raise ImageError(f"{image}: is a directory: name an image inside it") from None
    except OSError as error:
        raise ImageError(f"{image}: cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise ImageError("the image's name holds a NUL character: name a file or a bundled guest") from None
