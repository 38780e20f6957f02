"""Throughput of disks and networks as Debian's Linux sees it: `python bench/devices.py [block] [net] [--clock MODE]`.

Method: a guest is booted to its shell, which then runs one command a row: dd with O_DIRECT on /dev/xvda (an image that
lies in the host's page cache); busybox's wget of a file from another guest, whose httpd sends it by sendfile; or the
kernel's packet generator, whose 60-byte UDP packets another guest gets: its row counts those that arrived. The row's
time is from the key that starts the command to the output that follows it: the processor time of the host that hv used,
emulation of the guest included, and the machine's time. With `--clock virtual`, the default, the latter is what the
guest itself would measure. Medians of three runs. `--share` also prints how much of the processor time a network row
spends in hv's backend.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/real")]

from linux_devices import Linux  # noqa: E402

import hv  # noqa: E402
from hv.backends.net import Vif  # noqa: E402
from hv.backends.net_queue import Queue  # noqa: E402
from hv.testing import debian_packages  # noqa: E402

RUNS = 3
MIB = 1 << 20
BLOCK = {  # row: (dd's arguments, bytes, requests)
    "sequential read, 1 MiB a call": ("if=/dev/xvda of=/dev/null bs=1M count=256 iflag=direct", 256 * MIB, None),
    "sequential write, 1 MiB a call": ("if=/dev/zero of=/dev/xvda bs=1M count=256 oflag=direct", 256 * MIB, None),
    "read, 4 KiB a call": ("if=/dev/xvda of=/dev/null bs=4k count=8000 iflag=direct", 8000 * 4096, 8000),
    "write, 4 KiB a call": ("if=/dev/zero of=/dev/xvda bs=4k count=8000 oflag=direct", 8000 * 4096, 8000),
}


PACKETS = 50_000
PKTGEN = {"pktgen": "net/core/pktgen.ko"}


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
        guest("cd /sys/block/xvda/queue; echo 4 > max_sectors_kb; echo 2 > nomerges")  # no request is larger
        ahead = [timed(guest, "dd if=/dev/xvda of=/dev/null bs=1M count=32 2>&1") for _ in range(RUNS)]
        show("read ahead, 4 KiB a request", ahead, 32 * MIB, 32 * MIB // 4096)


class Share:
    """Which part of the processor time is the backend's: from a transmit event to its return, receivers included."""

    def __init__(self) -> None:
        self._inside = 0.0
        transmit = Queue.transmit

        def timed_transmit(queue: Queue) -> None:
            start = time.process_time()
            transmit(queue)
            self._inside += time.process_time() - start

        Queue.transmit = timed_transmit  # type: ignore[method-assign]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        inside, begin = self._inside, time.process_time()
        yield
        print(f"{'':<32}  the backend: {(self._inside - inside) / (time.process_time() - begin):.0%}", flush=True)


def net(clock: str, vmlinuz: Path, busybox: bytes, measure: Callable[[], AbstractContextManager[None]]) -> None:
    with hv.Machine(clock=clock) as machine:
        guests = [Linux(machine, vmlinuz, busybox, modules=PKTGEN, name=name, vifs=[""]) for name in "ab"]
        for number, guest in enumerate(guests, start=1):
            guest.ready()(f"ip addr add 10.0.0.{number}/24 dev eth0; ip link set eth0 up; sleep 1")
        sender, receiver = guests
        size = 64 * MIB
        sender(f"mount -o remount,size=100m /tmp; dd if=/dev/zero of=/tmp/f bs=1M count={size // MIB}; httpd -h /tmp")
        with measure():
            times = [timed(receiver, "wget -q -O /dev/null http://10.0.0.1/f 2>&1") for _ in range(RUNS)]
        show("TCP between two guests", times, size, None)
        with measure():
            packets(sender, receiver)


def packets(sender: Linux, receiver: Linux) -> None:
    """Small ones, as many as there can be."""
    vif = receiver.domain.devices[0]
    assert isinstance(vif, Vif)
    orders = [f"count {PACKETS}", f"dst_mac {vif.mac_text}", "dst 10.0.0.2", "pkt_size 60", "delay 0"]
    sender("echo add_device eth0 > /proc/net/pktgen/kpktgend_0")
    for order in orders:
        sender(f"echo {order} > /proc/net/pktgen/eth0")
    times, arrived = [], []
    for _ in range(RUNS):
        before = int(receiver("cat /sys/class/net/eth0/statistics/rx_packets"))
        times.append(timed(sender, "echo start > /proc/net/pktgen/pgctrl"))
        arrived.append(int(receiver("cat /sys/class/net/eth0/statistics/rx_packets")) - before)
    show("60-byte packets between two", times, 0, round(statistics.median(arrived)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="block|net", default=["block", "net"])
    parser.add_argument("--clock", choices=["virtual", "host"], default="virtual")
    parser.add_argument("--share", action="store_true")
    options = parser.parse_args()
    vmlinuz, busybox = kernel(), (debian_packages.unpacked("busybox-static") / "bin/busybox").read_bytes()
    print(f"clock {options.clock}, medians of {RUNS}")
    if "block" in options.what:
        with tempfile.TemporaryDirectory() as folder:
            block(options.clock, vmlinuz, busybox, Path(folder))
    if "net" in options.what:
        net(options.clock, vmlinuz, busybox, Share() if options.share else nullcontext)


if __name__ == "__main__":
    main()
