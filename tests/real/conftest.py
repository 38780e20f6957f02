"""Guests that nobody here wrote, from Debian's packages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hv.machine import fetched
from hv.testing import debian_packages, real_guests


@pytest.fixture(scope="session")
def grub_folder(debian_package: Callable[[str], Path]) -> Path:
    """GRUB's images for Xen: x86_64-xen (PV64), i386-xen (PV32) and i386-xen_pvh."""
    return debian_package("grub-xen-host") / "usr/lib/grub-xen"


@pytest.fixture(scope="session")
def grub(grub_folder: Path) -> Path:
    """GRUB as a PV64 guest."""
    return grub_folder / "grub-x86_64-xen.bin"


def debian_kernel(package: str, debian_package: Callable[[str], Path]) -> Path:
    """The newest kernel of a meta package like linux-image-amd64; one that the cache has already is as good."""
    flavour = package.removeprefix("linux-image")
    cached = sorted(debian_packages.cache().glob(f"linux-image-[0-9]*[0-9]{flavour}/boot/vmlinuz-*"))
    if cached:
        return cached[-1]
    folder = debian_package(debian_packages.dependency(package, "linux-image-"))
    return next(folder.glob("boot/vmlinuz-*"))


@pytest.fixture(scope="session")
def linux_cloud(debian_package: Callable[[str], Path]) -> Path:
    """Debian's kernel for virtual machines: its payload is LZ4."""
    return debian_kernel("linux-image-cloud-amd64", debian_package)


@pytest.fixture(scope="session")
def linux_generic(debian_package: Callable[[str], Path]) -> Path:
    """Debian's kernel for everything: its payload is XZ."""
    return debian_kernel("linux-image-amd64", debian_package)


@pytest.fixture(scope="session")
def linux_newest() -> Path:
    """The kernel of Debian's backports, as `hv fetch` brings it; one that is there already is as good."""
    recipe = real_guests.RECIPES["debian-linux-backports"]
    try:
        real_guests.fetch(recipe)
    except debian_packages.PackageError as error:
        pytest.fail(str(error), pytrace=False)
    found = fetched.find(recipe.name)
    assert found is not None
    return found.image


@pytest.fixture(scope="session")
def busybox(debian_package: Callable[[str], Path]) -> bytes:
    """The program."""
    return (debian_package("busybox-static") / "bin/busybox").read_bytes()
