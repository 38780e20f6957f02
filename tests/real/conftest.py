"""Guests that nobody here wrote, from Debian's packages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def grub_folder(debian_package: Callable[[str], Path]) -> Path:
    """GRUB's images for Xen: x86_64-xen (PV64), i386-xen (PV32) and i386-xen_pvh."""
    return debian_package("grub-xen-host") / "usr/lib/grub-xen"


@pytest.fixture(scope="session")
def grub(grub_folder: Path) -> Path:
    """GRUB as a PV64 guest."""
    return grub_folder / "grub-x86_64-xen.bin"
