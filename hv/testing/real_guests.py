"""Guests that nobody here wrote, made ready to boot from the distribution's packages: what `hv fetch` brings.

A recipe is a row: which packages, which files of them, and what the guest is started with. A guest appears in the
cache complete or not at all. Checksums: apt compares a package with its signed lists, and guest.json keeps the SHA-256
of each file, so that a damaged one is noticed.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from hv.builder import initramfs
from hv.machine.fetched import MANIFEST, cache
from hv.testing import backports, debian_packages
from hv.testing.debian_packages import PackageError, Progress

INIT = """\
#!/bin/busybox sh
# The first process: file systems, drivers for what this machine has, then a shell on the console.
export PATH=/bin HOME=/root TERM=${TERM:-linux}
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox --install -s /bin
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmp /tmp
for device in /sys/bus/xen/devices/*/modalias; do
    [ -e "$device" ] || continue
    case $(cat "$device") in
        xen:vbd) modprobe -q xen-blkfront ;;
        xen:vif) modprobe -q xen-netfront ;;
    esac
done
hostname debian
[ -n "$COLUMNS" ] && stty -F /dev/hvc0 rows "$LINES" columns "$COLUMNS"
unset LINES COLUMNS
echo "hv: busybox $(uname -sr), $(nproc) CPU(s): poweroff ends it"
trap 'poweroff -f' USR2  # what busybox's poweroff, halt and reboot send to the first process
trap 'halt -f' USR1
trap 'reboot -f' TERM
setsid cttyhack sh -l &
wait  # a signal ends it, or the shell does
poweroff -f
"""
DRIVERS = ("drivers/block/xen-blkfront.ko", "drivers/net/xen-netfront.ko")
Maker = Callable[[Path, Progress | None], "Made"]


@dataclass(frozen=True, slots=True)
class Made:
    """What a recipe put into its folder: names of files there, and the packages that they are from."""

    image: str
    ramdisk: str | None
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A guest that can be fetched."""

    name: str
    title: str
    memory: str
    cmdline: str
    make: Maker


def fetch(recipe: Recipe, *, again: bool = False, progress: Progress | None = None) -> bool:
    """Bring a guest into the cache; False where it was there and whole. PackageError where it can not be had."""
    place = cache() / recipe.name
    if not again and is_whole(place):
        return False
    try:
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache(), prefix=f".{recipe.name}-") as temporary:
            folder = Path(temporary) / "guest"
            folder.mkdir()
            _write_manifest(folder, recipe, recipe.make(folder, progress))
            if place.exists():
                place.rename(Path(temporary) / "old")
            folder.rename(place)
    except OSError as error:
        raise PackageError(
            f"{cache()} cannot be written ({error.strerror}): set HV_GUEST_CACHE to another folder"
        ) from None
    return True


def is_whole(place: Path) -> bool:
    """Whether a fetched guest is there, with every file as it was made."""
    try:
        files = json.loads((place / MANIFEST).read_text())["files"]
        return all(_checksum(place / name) == checksum for name, checksum in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _write_manifest(folder: Path, recipe: Recipe, made: Made) -> None:
    manifest = {
        "name": recipe.name,
        "image": made.image,
        "ramdisk": made.ramdisk,
        "memory": recipe.memory,
        "cmdline": recipe.cmdline,
        "terminal": made.ramdisk is not None,  # INIT looks at it
        "packages": made.packages,
        "files": {path.name: _checksum(path) for path in sorted(folder.iterdir())},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- recipes


def _grub(folder: Path, progress: Progress | None) -> Made:
    with debian_packages.files("grub-xen-host", progress) as (root, version):
        shutil.copy(root / "usr/lib/grub-xen/grub-x86_64-xen.bin", folder)
    return Made("grub-x86_64-xen.bin", None, (version,))


def _busybox(folder: Path, progress: Progress | None) -> Made:
    nodes, version = _shell(progress)
    (folder / "initramfs.cpio").write_bytes(initramfs.archive(nodes))
    return Made("initramfs.cpio", None, (version,))


Apt = Callable[[str], AbstractContextManager[tuple[str, ...]]]  # the options of the apt that has a package


def _linux(package: str, apt: Apt = lambda _: nullcontext(())) -> Maker:
    def make(folder: Path, progress: Progress | None) -> Made:
        nodes, shell = _shell(progress)
        with (
            apt(package) as options,
            debian_packages.files(_newest(package, options), progress, options) as (root, version),
        ):
            kernels = sorted(root.glob("boot/vmlinuz-*"))
            if not kernels:
                raise PackageError(f"Debian's package {version} has no kernel in /boot: a newer hv may know it")
            shutil.copy(kernels[-1], folder / "vmlinuz")
            nodes += _drivers(root)
        (folder / "initramfs.cpio").write_bytes(initramfs.archive(nodes))
        return Made("vmlinuz", "initramfs.cpio", (version, shell))

    return make


def _newest(package: str, options: tuple[str, ...]) -> str:
    """The package with a kernel that a meta package stands for."""
    return debian_packages.dependency(package, "linux-image-", options)


def _shell(progress: Progress | None) -> tuple[list[initramfs.Node], str]:
    """busybox with an init that starts a shell, and the package's name with its version."""
    with debian_packages.files("busybox-static", progress) as (root, version):
        nodes = [
            initramfs.program("init", INIT.encode()),
            initramfs.program("bin/busybox", (root / "bin/busybox").read_bytes()),
            initramfs.link("bin/sh", "busybox"),
            initramfs.character_device("dev/console", 5, 1),
            initramfs.character_device("dev/null", 1, 3, 0o666),
            *(initramfs.folder(path) for path in ("proc", "sys", "tmp", "root")),
        ]
    return nodes, version


def _drivers(root: Path) -> list[initramfs.Node]:
    """The drivers of Xen's block and network devices, for modprobe; busybox takes them only as they are, not packed."""
    nodes = []
    for kernel in sorted(root.glob("lib/modules/*")):
        there = {}
        for driver in DRIVERS:
            for name, unpack in ((driver, bytes), (f"{driver}.xz", lzma.decompress)):
                if (kernel / "kernel" / name).is_file():
                    there[driver] = unpack((kernel / "kernel" / name).read_bytes())
        for driver, content in there.items():
            nodes.append(initramfs.file(f"lib/modules/{kernel.name}/kernel/{driver}", content))
        table = "".join(f"kernel/{driver}:\n" for driver in there)  # none depends on another module
        nodes.append(initramfs.file(f"lib/modules/{kernel.name}/modules.dep", table.encode()))
    return nodes


LINUX = "console=hvc0"
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("debian-linux", "Debian's cloud kernel, with busybox", "256M", LINUX, _linux("linux-image-cloud-amd64")),
        Recipe("debian-linux-generic", "Debian's kernel, with busybox", "256M", LINUX, _linux("linux-image-amd64")),
        Recipe(
            "debian-linux-backports",
            "the newest cloud kernel, of Debian's backports, with busybox",
            "256M",
            LINUX,
            _linux("linux-image-cloud-amd64", backports.apt),
        ),
        Recipe("debian-grub", "GRUB for Xen", "128M", "", _grub),
        Recipe("busybox-initramfs", "an initial ramdisk with a shell, for --ramdisk", "64M", "", _busybox),
    )
}
