"""Real Xen in QEMU, where it can be had: in CI it must be."""

from __future__ import annotations

import os

import pytest

from hv.errors import HvError
from hv.testing import xen_in_qemu


@pytest.fixture(scope="session", autouse=True)
def real_xen() -> None:
    """QEMU and Xen's image are there; else CI fails, and a person's tests are skipped with the reason."""
    try:
        xen_in_qemu.find_qemu()
        xen_in_qemu.xen_image()
    except HvError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
