"""Throughput of disks and networks as Debian's Linux sees it: `python bench/devices.py [block] [net] [--clock MODE]`.

Method: a guest is booted to its shell, which then runs one command a row: dd with O_DIRECT on /dev/xvda (an image that
lies in the host's page cache), or busybox's wget of a file from another guest, whose httpd sends it by sendfile. The
row's time is from the key that starts the command to the output that follows it: the processor time of the host that hv
used, emulation of the guest included, and the machine's time. With `--clock virtual`, the default, the latter is what
the guest itself would measure. Medians of three runs.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/real")]

from linux_devices import Linux  # noqa: E402

import hv  # noqa: E402
from hv.testing import debian_packages  # noqa: E402

RUNS = 3
MIB = 1 << 20
BLOCK = {  # row: (dd's arguments, bytes, requests)
    "sequential read, 1 MiB a call": ("if=/dev/xvda of=/dev/null bs=1M count=256 iflag=direct", 256 * MIB, None),
    "sequential write, 1 MiB a call": ("if=/dev/zero of=/dev/xvda bs=1M count=256 oflag=direct", 256 * MIB, None),
    "read, 4 KiB a call": ("if=/dev/xvda of=/dev/null bs=4k count=8000 iflag=direct", 8000 * 4096, 8000),
    "write, 4 KiB a call": ("if=/dev/zero of=/dev/xvda bs=4k count=8000 oflag=direct", 8000 * 4096, 8000),
}


def kernel() -> Path:
    cached = sorted(debian_packages.cache().glob("linux-image-[0-9]*-cloud-amd64/boot/vmlinuz-*"))
    if cached:
        return cached[-1]
    package = debian_packages.dependency("linux-image-cloud-amd64", "linux-image-")
    return next(debian_packages.unpacked(package).glob("boot/vmlinuz-*"))


def timed(guest: Linux, command: str) -> tuple[float, float]:
    """(s of the host's processor, s of the machine's clock) of a command."""
    machine = guest.domain.machine
    host, virtual = time.process_time(), machine.now_ns
    output = guest(command, timeout=300)
    if re.search("error|refused", output, re.IGNORECASE):
        sys.exit(f"{command}: {output}")
    return time.process_time() - host, (machine.now_ns - virtual) / 1e9


def show(row: str, times: list[tuple[float, float]], size: int, requests: int | None) -> None:
    cells = []
    for name, seconds in zip(("host", "virtual"), map(statistics.median, zip(*times, strict=True)), strict=True):
        rate = f"{requests / seconds / 1000:7.1f} k/s" if requests else f"{size / seconds / 1e6:7.0f} MB/s"
        cells.append(f"{rate} {name}")
    print(f"{row:<32}  {'   '.join(cells)}", flush=True)


def block(clock: str, vmlinuz: Path, busybox: bytes, folder: Path) -> None:
    image = folder / "disk.img"
    with image.open("wb") as file:
        for _ in range(256):
            file.write(bytes(MIB))
    with hv.Machine(clock=clock) as machine:
        driver = "max_ring_page_order=2 max_indirect_segments=256"
        guest = Linux(machine, vmlinuz, busybox, driver, disks=[f"{image},raw,xvda,rw"]).ready()
        for row, (arguments, size, requests) in BLOCK.items():
            show(row, [timed(guest, f"dd {arguments} 2>&1") for _ in range(RUNS)], size, requests)


def net(clock: str, vmlinuz: Path, busybox: bytes) -> None:
    with hv.Machine(clock=clock) as machine:
        guests = [Linux(machine, vmlinuz, busybox, name=name, vifs=[""]) for name in "ab"]
        for number, guest in enumerate(guests, start=1):
            guest.ready()(f"ip addr add 10.0.0.{number}/24 dev eth0; ip link set eth0 up; sleep 1")
        sender, receiver = guests
        size = 64 * MIB
        sender(f"mount -o remount,size=100m /tmp; dd if=/dev/zero of=/tmp/f bs=1M count={size // MIB}; httpd -h /tmp")
        times = [timed(receiver, "wget -q -O /dev/null http://10.0.0.1/f 2>&1") for _ in range(RUNS)]
        show("TCP between two guests", times, size, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="block|net", default=["block", "net"])
    parser.add_argument("--clock", choices=["virtual", "host"], default="virtual")
    options = parser.parse_args()
    vmlinuz, busybox = kernel(), (debian_packages.unpacked("busybox-static") / "bin/busybox").read_bytes()
    print(f"clock {options.clock}, medians of {RUNS}")
    if "block" in options.what:
        with tempfile.TemporaryDirectory() as folder:
            block(options.clock, vmlinuz, busybox, Path(folder))
    if "net" in options.what:
        net(options.clock, vmlinuz, busybox)


if __name__ == "__main__":
    main()
