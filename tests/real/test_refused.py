"""Real images that hv does not run are refused by one sentence, and so are broken ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from guest_kit import HV

import hv

REFUSED = (
    ("grub-i386-xen_pvh.bin", "PVH only (PHYS32_ENTRY): not supported yet; give hv a PV64 kernel"),
    ("grub-i386-xen.bin", "PV32/32-bit guests are not supported: build the guest for x86-64"),
)


@pytest.mark.parametrize(("name", "sentence"), REFUSED)
def test_other_kinds_of_guest(name: str, sentence: str, grub_folder: Path) -> None:
    with hv.Machine() as machine:
        with pytest.raises(hv.ImageError) as error:
            machine.create(grub_folder / name)
        assert str(error.value) == f"{name}: {sentence}"
        assert machine.domains == []
    command = [*HV, "run", str(grub_folder / name)]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", f"hv: {name}: {sentence}\n")


def test_truncated(grub: Path) -> None:
    """Cut anywhere in its headers or segments it is refused; nothing of the machine is used up."""
    data = grub.read_bytes()
    with hv.Machine() as machine:
        free = machine.engine.create_domain(1000, 1, 0).populate(0)
        for size in (*range(0, 1200, 37), 4096, 5000, 100_000, len(data) // 2, len(data) * 9 // 10):
            with pytest.raises(hv.ImageError) as error:
                machine.create(data[:size])
            assert "\n" not in str(error.value)
            assert str(error.value).startswith("image: ")
        assert machine.domains == []
        assert machine.engine.create_domain(1001, 1, 0).populate(0) in range(free - 8, free)


def test_too_little_memory(grub: Path) -> None:
    with hv.Machine() as machine:
        with pytest.raises(
            hv.ImageError, match=r"does not fit in 4M of memory, it needs \d+M: give it more with --memory"
        ):
            machine.create(grub, memory="4M")
        assert machine.domains == []
