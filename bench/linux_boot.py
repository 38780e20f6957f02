"""Debian's Linux from the start of the process to init's first line: hv beside real Xen 4.17 in QEMU, in turn.

    python bench/linux_boot.py [--rounds N] [--vcpus N]

Both boot the kernel and the ramdisk that `hv fetch debian-linux` has brought, with 256 MiB: hv as domU by `hv run`, Xen
in QEMU's software emulation as domain 0. The ramdisk gets another init, which writes its line to the kernel's log:
Debian's cloud kernel has no console of its own as domain 0, only the early one. Both have that.

A time is that on the wall from before the process is made until the line has come out of it, so the interpreter's
start, reading the kernel, and building the domain are in it, for Xen also QEMU's firmware and Xen's own start. Medians
over the rounds, the smallest and the largest, and the median of the rounds' own ratios. Needs QEMU and Xen's image, as
bench/compare_xen.py does. docs/linux.md has more.
"""

from __future__ import annotations

import argparse
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hv.builder import initramfs
from hv.errors import ConfigError, HvError, Timeout
from hv.machine import fetched
from hv.testing import compare_xen, xen_in_qemu

LINE = b"linux_boot: init is here"
INIT = b"#!/bin/busybox sh\necho %s > /dev/kmsg\nexec /bin/busybox sleep 1000\n" % LINE
CMDLINE = "console=hvc0 earlyprintk=xen"
MEMORY = 256
TIMEOUT = 120.0


def with_line(ramdisk: Path) -> bytes:
    """The ramdisk and, as the kernel takes several archives in a row, what stands in for its init."""
    nodes = [initramfs.program("init", INIT), initramfs.character_device("dev/kmsg", 1, 11)]
    return ramdisk.read_bytes() + initramfs.archive(nodes)


def on_hv(kernel: Path, ramdisk: Path, vcpus: int) -> float:
    """Seconds that `hv run` takes to the line."""
    command = [sys.executable, "-m", "hv", "run", str(kernel), "--ramdisk", str(ramdisk), "--cmdline", CMDLINE]
    command += ["--memory", f"{MEMORY}M", "--vcpus", str(vcpus)]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # pip compiles
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    start = time.perf_counter()
    with subprocess.Popen(command, env=kept, stdin=pipe, stdout=pipe, stderr=nowhere) as process:
        assert process.stdout is not None
        seen = b""
        try:
            while LINE not in seen:
                if not select.select([process.stdout], [], [], start + TIMEOUT - time.perf_counter())[0]:
                    raise Timeout(f"no line of init's on hv after {TIMEOUT:g} s")
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    raise HvError("the guest ended before its init: hv run debian-linux shows more")
                seen += data
            return time.perf_counter() - start
        finally:
            process.kill()


def on_xen(kernel: Path, ramdisk: Path, vcpus: int) -> float:
    """Seconds that QEMU with Xen takes to the line."""
    start = time.perf_counter()
    with xen_in_qemu.Session(kernel, CMDLINE, ramdisk=ramdisk, memory=4 * MEMORY, vcpus=vcpus) as session:
        if not session.wait(lambda: LINE in session.serial, TIMEOUT):
            raise HvError(f"no line of init's on Xen; the last it said: {session.output[-200:]!r}")
        return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often both are measured (default 5)")
    parser.add_argument("--vcpus", type=int, default=1, help="the guest's (default 1)")
    options = parser.parse_args()
    if options.rounds < 1 or options.vcpus < 1:
        parser.error("--rounds and --vcpus are at least 1")
    try:
        guest = fetched.find("debian-linux")
        if guest is None or guest.ramdisk is None:
            raise ConfigError("debian-linux is not there: hv fetch debian-linux brings it")
        host = compare_xen.machine_description()
        ours: list[float] = []
        theirs: list[float] = []
        with tempfile.NamedTemporaryFile() as made:
            made.write(with_line(guest.ramdisk))
            made.flush()
            for number in range(options.rounds):
                ours.append(on_hv(guest.image, Path(made.name), options.vcpus))
                theirs.append(on_xen(guest.image, Path(made.name), options.vcpus))
                print(f"round {number + 1}: hv {ours[-1]:.2f} s, Xen in QEMU {theirs[-1]:.2f} s", file=sys.stderr)
    except HvError as error:
        print(f"linux_boot: {error}", file=sys.stderr)
        return 2
    print(f"{host['cpu']}, hv {host['hv']}, QEMU {host['qemu']}, vCPUs: {options.vcpus}, rounds: {options.rounds}\n")
    print("| | median | spread |\n|---|---:|---:|")
    for name, values in (("hv, domU", ours), ("Xen 4.17 in QEMU, domain 0", theirs)):
        print(f"| {name} | {statistics.median(values):.2f} s | {min(values):.2f} to {max(values):.2f} s |")
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    print(f"\nXen in QEMU takes {ratio:.1f} times as long.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
