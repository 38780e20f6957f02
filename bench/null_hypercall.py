"""Null hypercalls on hv beside a plain Unicorn `syscall` hook in C, in one run.

    python bench/null_hypercall.py [--rounds N] [--count N]

Both are run in turn, ROUNDS times; the medians and the median of the paired ratios are printed, with their spread.
The guest is the bundled `bench`, timed by itself under the host clock and by the host under the virtual clock. Needs an
environment with hv and with unicorn's wheel (the build requirement), and a C compiler. The yardstick is a process of
its own in each round, hv a new machine in this one. Quote ratios, not nanoseconds; docs/bench.md has the method.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import hv

HERE = Path(__file__).resolve().parent


def build_yardstick(folder: Path) -> Path:
    spec = importlib.util.find_spec("unicorn")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("bench: the package unicorn==2.1.4 is needed for the yardstick: pip install unicorn==2.1.4")
    unicorn = Path(spec.submodule_search_locations[0])
    program = folder / "plain_hook"
    source, library = str(HERE / "plain_hook.c"), str(unicorn / "lib" / "libunicorn.a")
    include = str(unicorn / "include")
    subprocess.run(["cc", "-O2", "-o", str(program), f"-I{include}", source, library, "-lpthread", "-lm"], check=True)
    return program


def plain(program: Path, count: int) -> float:
    return float(subprocess.run([program, str(count)], capture_output=True, check=True, text=True).stdout)


def host_clock(count: int) -> float:
    """ns a call as the guest measures it."""
    with hv.Machine(clock="host") as machine:
        domain = machine.create("bench", cmdline=f"{count} null_hypercall")
        machine.run(timeout=600)
        found = re.search(rb"BENCH null_hypercall n=(\d+) ns=(\d+)", domain.console.output)
        assert found, domain.console.output
        return int(found[2]) / int(found[1])


def virtual_clock(count: int) -> float:
    """ns a call as the host sees it between the guest's lines."""
    marks: dict[bytes, float] = {}
    with hv.Machine() as machine:
        domain = machine.create("bench", cmdline=f"{count} null_hypercall")

        def mark(data: bytes) -> None:
            marks.setdefault(data.split(b"\n")[0], time.perf_counter_ns())

        domain.console.listeners.append(mark)
        machine.run(timeout=600)
    return (marks[b"BENCH "] - marks[b"BEGIN "]) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=1_000_000)
    options = parser.parse_args()
    rows: dict[str, list[float]] = {"plain hook": [], "hv, host clock": [], "hv, virtual clock": []}
    with tempfile.TemporaryDirectory() as folder:
        program = build_yardstick(Path(folder))
        for _ in range(options.rounds):
            rows["plain hook"].append(plain(program, options.count))
            rows["hv, host clock"].append(host_clock(options.count))
            rows["hv, virtual clock"].append(virtual_clock(options.count))
    for name, values in rows.items():
        ratio = statistics.median(p / v for p, v in zip(rows["plain hook"], values, strict=True))
        middle = statistics.median(values)
        print(
            f"{name:<18} {middle:7.1f} ns  {1000 / middle:6.1f} M/s  {ratio:5.2f} x plain"
            f"  (spread {min(values):.1f} to {max(values):.1f} ns)"
        )


if __name__ == "__main__":
    main()
