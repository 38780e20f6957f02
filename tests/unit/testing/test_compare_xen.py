"""The comparison with real Xen, without Xen: what it reads, how it computes, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hv.errors import HvError
from hv.testing import compare_xen

OUTPUT = """\
BEGIN null_hypercall n=2048
BENCH null_hypercall n=2048 ns=213530 chk=536905728
BEGIN alu n=64
BENCH alu n=64 ns=0 chk=-3
BENCH torn n=5 ns=
"""


def side(*ns: int, chk: int = 7) -> Callable[[bytes, str], str]:
    """A side on which a row of 1000 operations takes these times, one in each round."""
    times: Iterator[int] = iter(ns)
    return lambda image, cmdline: f"BENCH {cmdline.split()[1]} n={cmdline.split()[0]} ns={next(times)} chk={chk}\n"


def test_rows_of_a_run() -> None:
    rows = compare_xen.parse(OUTPUT)
    assert rows == {
        "null_hypercall": compare_xen.Measured(2048, 213530, 536905728),
        "alu": compare_xen.Measured(64, 1, -3),
    }
    assert rows["null_hypercall"].rate == pytest.approx(9_591_158, rel=1e-6)


def test_medians_and_the_paired_ratio() -> None:
    rounds: list[str] = []
    sides = side(10_000, 20_000, 50_000), side(1_000, 4_000, 5_000)
    (row,) = compare_xen.compare(3, 1000, "null", report=rounds.append, sides=sides)
    assert rounds == ["round 1 of 3", "round 2 of 3", "round 3 of 3"]
    assert row.as_json() == {
        "name": "null",
        "xen": 5e7,
        "hv": 2.5e8,
        "ratio": 10.0,
        "rounds": {"xen": [1e8, 5e7, 2e7], "hv": [1e9, 2.5e8, 2e8]},
    }
    text = compare_xen.table([row], {"cpu": "Fast CPU", "hv": "0.1", "qemu": "7.2"})
    assert "CPU: Fast CPU; hv 0.1; Xen 4.17 in QEMU 7.2\n" in text
    assert "null  50.00 (20.00 to 100.00)" in " ".join(text.split("\n")[-1].split("  ")).replace("   ", "  ")
    assert text.endswith("10.00")


def test_different_work_is_an_error() -> None:
    with pytest.raises(HvError, match="null did not compute the same"):
        compare_xen.compare(1, 1000, "null", sides=(side(1), side(1, chk=8)))


def test_no_such_row() -> None:
    with pytest.raises(HvError, match="no row of the bench guest begins with 'nothing'"):
        compare_xen.compare(1, 1000, "nothing", sides=(lambda image, cmdline: "", lambda image, cmdline: ""))


def test_rows_of_the_real_guest_on_hv() -> None:
    """All rows but the chosen ones are left out."""
    rows = compare_xen.parse(compare_xen.on_hv(compare_xen.images.read("bench")[0], "100 mmuext"))
    assert list(rows) == ["mmuext_tlb_flush_local", "mmuext_invlpg_local", "mmuext_new_baseptr"]
    assert all(row.checksum == 0 for row in rows.values())


def test_json(tmp_path: Path) -> None:
    row = compare_xen.Row("null", [2e6], [8e6])
    compare_xen.write_json(tmp_path / "out.json", [row], {"cpu": "c"})
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["machine"] == {"cpu": "c"}
    assert document["rows"][0]["ratio"] == 4
    with pytest.raises(HvError, match="cannot be written: Is a directory"):
        compare_xen.write_json(tmp_path, [row], {})
