"""What `pip install .` takes from an earlier build of the same checkout."""

import subprocess
import sys
from pathlib import Path

from guests import build


def test_modules_that_are_gone_are_not_installed(tmp_path: Path) -> None:
    """After `git pull`: hv imports every module that it finds among its hypercalls."""
    gone = [tmp_path / "hv" / name for name in ("hypercalls/gone.py", "engine/gone.cpython-311.so", "guests/gone")]
    for file in gone:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=build.ROOT.parent, check=True, capture_output=True)
    assert not any(file.exists() for file in gone)
    assert (tmp_path / "hv" / "guests" / "hello").exists()
