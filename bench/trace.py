"""What a trace costs: the guest `bench` without one, and with each way to keep it.

    python bench/trace.py [--rounds N] [--count N] [ROW...]

All ways are run in turn, ROUNDS times, each in a new machine. Printed are medians: ns an operation, the ratio to the
run without a trace of the same round, and records a second while the trace is taken (with its writing to a file). Quote
ratios, and rates of a quiet machine; docs/trace.md has figures, docs/bench.md the method.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import hv
from hv.trace import files, sinks
from hv.trace.stats import Statistics

ROWS = ("null_hypercall", "ipi_send_upcall_iret", "mmu_update_single")
Attach = Callable[[hv.Machine, BinaryIO], None]


def nothing(machine: hv.Machine, file: BinaryIO) -> None:
    """No trace."""


def raw(machine: hv.Machine, file: BinaryIO) -> None:
    files.begin(file)
    machine.trace.subscribe_raw(file.write)


def callback(machine: hv.Machine, file: BinaryIO) -> None:
    machine.trace.subscribe(lambda event: None)


def one_in_a_thousand(machine: hv.Machine, file: BinaryIO) -> None:
    machine.trace.subscribe(sinks.open_sink("text", file).write, "error")


def summary(machine: hv.Machine, file: BinaryIO) -> None:
    machine.trace.subscribe(Statistics().add)


def written(name: str) -> Attach:
    def attach(machine: hv.Machine, file: BinaryIO) -> None:
        machine.trace.subscribe(sinks.open_sink(name, file).write)

    return attach


WAYS: dict[str, Attach] = {
    "off": nothing,
    "raw": raw,
    "callback": callback,
    "filter error": one_in_a_thousand,
    "stats": summary,
    **{name: written(name) for name in sinks.FORMATS},
}


def measured(row: str, count: int, attach: Attach, folder: str) -> float:
    """Host ns of the whole row."""
    marks: dict[bytes, float] = {}
    with hv.Machine() as machine, (Path(folder) / "trace").open("wb") as file:
        attach(machine, file)
        domain = machine.create("bench", cmdline=f"{count} {row}")

        def mark(data: bytes) -> None:
            marks.setdefault(data.split(b"\n")[0], time.perf_counter_ns())

        domain.console.listeners.append(mark)
        machine.run(timeout=600)
        file.flush()
    return marks[b"BENCH "] - marks[b"BEGIN "]


def records_of(row: str, count: int) -> int:
    """How many events a row has."""
    numbers: list[int] = []
    with hv.Machine() as machine:
        machine.trace.subscribe(lambda event: numbers.append(event.id), "note")
        machine.create("bench", cmdline=f"{count} {row}")
        machine.run(timeout=600)
    return max(numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"rows of the guest (default: {' '.join(ROWS)})")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=50_000)
    options = parser.parse_args()
    for row in options.rows or ROWS:
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(options.rounds):
                for way, attach in WAYS.items():
                    times[way].append(measured(row, options.count, attach, folder))
        events = records_of(row, options.count)
        print(f"{row}: {options.count} operations, {events} records")
        for way, values in times.items():
            ratio = statistics.median(v / off for v, off in zip(values, times["off"], strict=True))
            median = statistics.median(values)
            rate = "" if way == "off" else f"{events / median * 1e3:8.2f} M records/s"
            spread = f"{min(values) / options.count:.0f}..{max(values) / options.count:.0f}"
            print(f"  {way:<13} {median / options.count:9.1f} ns  {ratio:7.2f}-fold  {rate:<20}  ({spread})")


if __name__ == "__main__":
    main()
