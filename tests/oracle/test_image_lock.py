"""An image that hv has is refused by QEMU, and the other way round: both use the same locks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import hv
from hv.backends.image_file import ImageFile
from hv.testing import xen_in_qemu


def qemu(image: Path, mode: str) -> subprocess.Popen[str]:
    """QEMU with the image as a disk, its machine not started; it answers on stdin and stdout."""
    command = [xen_in_qemu.find_qemu(), "-S", "-display", "none", "-nodefaults", "-monitor", "stdio",
               "-drive", f"file={image},format=raw,if=none,id=d,readonly={'on' if mode == 'r' else 'off'}",
               "-device", "virtio-blk-pci,drive=d"]  # fmt: skip
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("ours", "theirs", "together"), [("w", "w", False), ("w", "r", False), ("r", "w", False),
                                                          ("r", "r", True)])  # fmt: skip
def test_both_ways(ours: str, theirs: str, together: bool, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(1 << 20))
    image = ImageFile(str(path), read_only=ours == "r")
    process = qemu(path, theirs)
    _, complaint = process.communicate("quit\n", timeout=60)
    assert (process.returncode == 0) == together, complaint
    assert together or 'Failed to get' in complaint
    image.close()
    process = qemu(path, theirs)
    assert process.stdin and process.stdout
    process.stdin.write("info status\n")  # it has the image when it answers
    process.stdin.flush()
    while "paused" not in process.stdout.readline():
        assert process.poll() is None
    try:
        if together:
            ImageFile(str(path), read_only=True).close()
        else:
            with pytest.raises(hv.ConfigError, match="is in use by another disk"):
                ImageFile(str(path), read_only=ours == "r")
    finally:
        process.communicate("quit\n", timeout=60)
    ImageFile(str(path)).close()
