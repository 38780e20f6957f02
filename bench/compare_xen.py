"""The bench guest on hv and on real Xen 4.17 in QEMU, in turn: rates side by side, and their ratio.

    python bench/compare_xen.py [--rounds N] [--count N] [--rows START] [--json FILE]

Needs QEMU and Xen's image: Debian's package qemu-system-x86, and xen-hypervisor-4.17-amd64, which is fetched into the
cache and not installed. docs/bench.md has the method and a table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hv.errors import HvError
from hv.testing import compare_xen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (default 5)")
    parser.add_argument("--count", type=int, default=500_000, help="n of the fastest rows (default 500000)")
    parser.add_argument("--rows", default="", metavar="START", help="only rows whose names begin so")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, in operations a second")
    options = parser.parse_args()
    if options.rounds < 1 or options.count < 1:
        parser.error("--rounds and --count are at least 1")
    try:
        machine = compare_xen.machine_description()
        rows = compare_xen.compare(
            options.rounds, options.count, options.rows, report=lambda text: print(text, file=sys.stderr)
        )
        print(compare_xen.table(rows, machine))
        if options.json:
            compare_xen.write_json(options.json, rows, machine)
    except HvError as error:
        print(f"compare_xen: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
