"""Instructions an event, counted by valgrind: they repeat to the digit, and hv's stay near those of the best C."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from guest_kit import ROOT, need_program

# Instructions an event when this was written (gcc 12), of hv's loop and of the best C; docs/bench.md has all of them.
RECORDED = {"scan_2level_64_clustered": (30.19, 18.51), "fifo_enqueue_dequeue_64": (190.47, 96.65)}
MORE = 1.1


@pytest.fixture(scope="module")
def counting() -> ModuleType:
    """The script; what it has counted once it knows."""
    need_program("valgrind", "valgrind")
    specification = importlib.util.spec_from_file_location("counting", ROOT / "bench" / "event_instructions.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("row", RECORDED)
def test_instructions_an_event(counting: ModuleType, row: str) -> None:
    ours, best = RECORDED[row]
    now = {what: counting.measure(f"{what}_{row}")["instructions"] for what in ("hv", "best")}
    assert now["hv"] / now["best"] <= ours / best * MORE, now


def test_they_repeat_to_the_digit(counting: ModuleType) -> None:
    name = "hv_fifo_enqueue_dequeue_64"
    assert counting.counted.__wrapped__(name, "hv") == counting.counted(name, "hv")
