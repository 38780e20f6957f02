"""Shared by all tests: the bundled guests, built from their sources, and Xen's headers where the system has none."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))  # guest_kit
os.environ["PATH"] += ":/usr/sbin:/sbin"  # mke2fs and debugfs, which Debian's users do not have there

from guest_kit import build  # noqa: E402

import hv  # noqa: E402
from hv.testing import debian_packages  # noqa: E402

# A program that a test starts finds the hv that is tested, wherever it is installed, not the checkout's sources.
os.environ.update(PYTHONPATH=str(Path(hv.__file__).resolve().parents[1]), PYTHONSAFEPATH="1")


@pytest.fixture(scope="session")
def bundled_guests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the image of every guest in guests/."""
    folder = tmp_path_factory.mktemp("bundled")
    build.build_all(folder, os.environ.get("CC", "cc"))
    return folder


@pytest.fixture(scope="session")
def debian_package() -> Callable[[str], Path]:
    """The unpacked files of a Debian package, by its name; the test fails where it can not be fetched."""

    def get(name: str) -> Path:
        try:
            return debian_packages.unpacked(name)
        except debian_packages.PackageError as error:
            pytest.fail(str(error), pytrace=False)

    return get


@pytest.fixture(autouse=True)
def xen_headers(request: pytest.FixtureRequest, debian_package: Callable[[str], Path]) -> None:
    """tests/abi compares with the headers of libxen-dev: of the system, of HV_XEN_HEADERS, or fetched."""
    wanted = request.node.path.is_relative_to(TESTS / "abi") and request.node.path.name == "test_against_headers.py"
    if wanted and "HV_XEN_HEADERS" not in os.environ and not Path("/usr/include/xen/xen.h").exists():
        os.environ["HV_XEN_HEADERS"] = str(debian_package("libxen-dev") / "usr/include")


@pytest.fixture(scope="session")
def libslirp(debian_package: Callable[[str], Path]) -> None:
    """The library of gateways: the host's, else that of Debian's package."""
    try:
        ctypes.CDLL("libslirp.so.0")
    except OSError:
        library = next(debian_package("libslirp0").glob("usr/lib/*/libslirp.so.0"))
        os.environ["HV_LIBSLIRP"] = str(library)
