"""The bundled guests, built anew from their sources, so that an older installed package cannot mislead."""

import os
import sys
from pathlib import Path

import pytest

from hv.abi import emit

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # guests is no installed package

from guests import build  # noqa: E402


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all images and index.json."""
    emit.write(ROOT / "guests" / "include", "xen.inc", emit.assembler_include())
    folder = tmp_path_factory.mktemp("guests")
    build.build_all(folder, os.environ.get("CC", "cc"))
    return folder
