"""Instructions and mispredicted branches for each event, counted by valgrind: figures that repeat to the digit.

    python bench/event_instructions.py [--json FILE] [--against FILE]

Needs valgrind. Each row runs in a process of its own, and only the loop of hv.bench.event_loops is counted; laying down
the images is counted alone and subtracted. With `--against`, the figures of an earlier `--json` stand beside, and a row
with more than 2 % more instructions ends it with 1.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SCANS = 64
ROWS = {  # name -> (ports, shape, FIFO, the loop)
    f"{what}_{name}": (ports, shape, fifo, what)
    for name, (ports, shape, fifo) in {
        "scan_2level_1": (1, "spread", False),
        "scan_2level_64_spread": (64, "spread", False),
        "scan_2level_64_clustered": (64, "clustered", False),
        "scan_2level_4096": (4096, "spread", False),
        "fifo_enqueue_dequeue_64": (64, "spread", True),
    }.items()
    for what in ("linux", "best", "hv")
}
SUMMARY = re.compile(r"Collected : (.*)")
MORE = 1.02


def work(name: str, what: str) -> None:
    """What runs under valgrind."""
    from hv.bench.event_loops import EventLoops
    from hv.bench.event_rows import images

    ports, shape, fifo, _ = ROWS[name]
    sets = images(ports, shape, SCANS)
    if fifo:
        EventLoops([[port or 1 for port in image] for image in sets], fifo=True).fifo_round(what, SCANS)
    else:
        EventLoops(sets).scan(what, SCANS)


@functools.cache
def counted(name: str, what: str) -> tuple[int, int]:
    """(instructions, mispredicted branches) of the loop."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--branch-sim=yes", f"--callgrind-out-file={folder}/out"]
        command += [f"--toggle-collect=*EventLoops_{loop}" for loop in ("_scan", "_fifo_round")]
        done = subprocess.run(
            [*command, sys.executable, __file__, "--work", name, what],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
    found = SUMMARY.search(done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"event_instructions: valgrind failed: {done.stderr[-500:]}")
    instructions, _, wrong, _, wrong_indirect = map(int, found[1].split())
    return instructions, wrong + wrong_indirect


def measure(name: str) -> dict[str, float]:
    ports, _, fifo, what = ROWS[name]
    loop, alone = counted(name, what), (0, 0) if fifo else counted(name, "load")
    return {
        "instructions": round((loop[0] - alone[0]) / (ports * SCANS), 2),
        "mispredicted": round((loop[1] - alone[1]) / (ports * SCANS), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"some of: {', '.join(ROWS)}")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--against", type=Path, metavar="FILE")
    parser.add_argument("--work", nargs=2, metavar=("ROW", "LOOP"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return 0
    if shutil.which("valgrind") is None:
        parser.error("valgrind is not installed: install Debian's package valgrind")
    before = json.loads(options.against.read_text()) if options.against else {}
    figures = {}
    worse = 0
    for name in options.rows or ROWS:
        figures[name] = measure(name)
        old = before.get(name)
        beside = f"  (before: {old['instructions']:.2f}, {old['mispredicted']:.3f})" if old else ""
        print(
            f"{name:<34} {figures[name]['instructions']:8.2f} instructions an event, "
            f"{figures[name]['mispredicted']:6.3f} mispredicted{beside}",
            flush=True,
        )
        worse += bool(old) and figures[name]["instructions"] > old["instructions"] * MORE
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
