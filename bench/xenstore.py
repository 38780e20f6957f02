"""XenStore's speed by test-xenstore's own clock (Debian's xen-utils-4.17): microseconds an operation, one client.

    python3 bench/xenstore.py [--rounds N] [--iterations N] [--peer SOCKET]

Columns: hv with an empty store; hv with 100,000 nodes and 10,000 watches of another client; and, with --peer, what
listens at SOCKET, such as Debian's xenstored. The services are asked in turn, N rounds. A time is the best of the
rounds' averages, a ratio that of the best, and in parentheses the median of the rounds' ratios: where the two differ
much, the machine was doing other things, and the figures say little.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hv.abi.io import xs_wire as xs  # noqa: E402
from hv.core.xenstore.wire import Packet, encode  # noqa: E402
from hv.testing.debian_packages import unpacked  # noqa: E402

NODES, WATCHES = 100_000, 10_000
LINE = re.compile(r"(.+?)\s*: avg:\s*(\d+) ns")


def start(path: Path, *options: str | Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-m", "hv", "xenstored", "--socket", path, *options], cwd=ROOT)
    while not path.exists():
        time.sleep(0.01)
    return process


def fill(path: Path) -> socket.socket:
    """Many nodes and watches; the client that holds the watches."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(os.fspath(path))

    def ask(kind: int, payloads: list[bytes]) -> None:
        client.sendall(b"".join(encode(Packet(kind, 0, 0, payload)) for payload in payloads))
        time.sleep(0)
        client.setblocking(False)
        deadline = time.monotonic() + 0.02
        while time.monotonic() < deadline:
            try:
                if client.recv(1 << 20):
                    deadline = time.monotonic() + 0.02
            except BlockingIOError:
                time.sleep(0.001)
        client.setblocking(True)

    for first in range(0, NODES, 500):
        ask(xs.XS_WRITE, [b"/many/%d/%d\0value" % (n // 100, n) for n in range(first, first + 500)])
    for first in range(0, WATCHES, 500):
        ask(xs.XS_WATCH, [b"/many/%d/%d\0%d\0" % (n // 100, n, n) for n in range(first, first + 500)])
    return client


def measure(path: Path, iterations: int) -> dict[str, float]:
    """One run of test-xenstore: microseconds by the name of the test."""
    program = unpacked("xen-utils-4.17") / "usr/lib/xen-4.17/bin/test-xenstore"
    folders = [unpacked(name) / "usr/lib/x86_64-linux-gnu" for name in ("libxenstore4", "libxentoolcore1")]
    environment = {**os.environ, "XENSTORED_PATH": str(path), "LD_LIBRARY_PATH": ":".join(map(str, folders))}
    run = subprocess.run([program, "-i", str(iterations)], env=environment, capture_output=True, text=True, check=True)
    return {name.strip(): int(ns) / 1000 for name, ns in LINE.findall(run.stdout)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--peer", type=Path, help="the socket of another service")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        empty, full = Path(folder) / "empty", Path(folder) / "full"
        services = [start(empty), start(full)]
        client = fill(full)
        paths = {"hv": empty, "hv, 100,000 nodes": full} | ({"peer": options.peer} if options.peer else {})
        results: dict[str, list[dict[str, float]]] = {name: [] for name in paths}
        for _ in range(options.rounds):
            for name, path in paths.items():
                results[name].append(measure(path, options.iterations))
        client.close()
        for service in services:
            service.send_signal(signal.SIGTERM)
            service.wait()
    print(f"{'us an operation':16}" + "".join(f"{name:>20}" for name in paths)
          + "".join(f"{title:>16}" for title in ("full/empty", "hv/peer")[: len(paths) - 1]))  # fmt: skip
    for test in results["hv"][0]:
        times = {name: [run[test] for run in runs] for name, runs in results.items()}
        line = f"{test:16}" + "".join(f"{min(values):20.1f}" for values in times.values())
        line += ratio(times["hv, 100,000 nodes"], times["hv"])
        print(line + (ratio(times["hv"], times["peer"]) if options.peer else ""))


def ratio(upper: list[float], lower: list[float]) -> str:
    paired = statistics.median(a / b for a, b in zip(upper, lower, strict=True))
    return f"{min(upper) / min(lower):9.2f} ({paired:.2f})"


if __name__ == "__main__":
    main()
