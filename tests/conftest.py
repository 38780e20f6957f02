"""Shared by all tests: the bundled guests, built from their sources, and Xen's headers where the system has none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))  # guest_kit

from guest_kit import build


@pytest.fixture(scope="session")
def bundled_guests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the image of every guest in guests/."""
    folder = tmp_path_factory.mktemp("bundled")
    build.build_all(folder, os.environ.get("CC", "cc"))
    return folder
