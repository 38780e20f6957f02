"""Disks in Debian's Linux: checksums, writes that stay, read-only, faults of the medium and of the backend, hotplug."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest_kit import HV, device_grants
from linux_devices import Linux, ramdisk

import hv
from hv.backends.block import Block
from hv.backends.image_file import ImageFile
from hv.machine.xl_disk import device_number

MIB = 1 << 20


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def tree(folder: Path) -> dict[str, bytes]:
    """Files of all sizes, the same in every run."""
    source = random.Random(8)
    files = {f"d{i % 3}/file{i}": source.randbytes(size) for i, size in enumerate((0, 1, 511, 4096, 70000, 1300000))}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return files


def ext4(image: Path, folder: Path, size: str = "32M") -> Path:
    """An image with a file system that holds the folder."""
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", folder, image, size], check=True, capture_output=True)
    return image


def file_in(image: Path, name: str) -> bytes:
    """A file of an image, read on the host."""
    return subprocess.run(["debugfs", "-R", f"cat {name}", image], check=True, capture_output=True).stdout


class Disks:
    """A guest of two vCPUs with a root file system, the same read-only, and a raw disk."""

    def __init__(self, machine: hv.Machine, kernel: Path, busybox: bytes, folder: Path) -> None:
        (folder / "tree").mkdir()
        self.files = tree(folder / "tree")
        self.root = ext4(folder / "root.img", folder / "tree")
        self.readonly = ext4(folder / "readonly.img", folder / "tree")
        self.raw = folder / "raw.img"
        self.raw.write_bytes(random.Random(9).randbytes(24 * MIB))
        self.sh = Linux(
            machine, kernel, busybox, "max_ring_page_order=2 max_queues=2", vcpus=2,
            disks=[f"{self.root},raw,xvda,rw", f"{self.readonly},raw,xvdb,r", f"{self.raw},raw,xvdc,rw"],
        ).ready()  # fmt: skip
        self.machine, self.devices = machine, self.sh.domain.devices


@pytest.fixture(scope="module")
def disks(linux_cloud: Path, busybox: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disks]:
    """One guest for the tests below: they are steps of one story, in this order."""
    with hv.Machine() as machine:
        yield Disks(machine, linux_cloud, busybox, tmp_path_factory.mktemp("disks"))


def test_connected_as_asked(disks: Disks) -> None:
    for device in disks.devices:
        assert isinstance(device, Block)
        assert device.state == 4 and device.error is None
        assert len(device.queues) == 2 and device.queues[0].ring.size == 128  # four pages of 112-byte slots


def test_checksums_are_the_hosts(disks: Disks) -> None:
    assert disks.sh("mount -t ext4 /dev/xvda /mnt; cd /mnt; echo $?") == "0"
    for name, content in disks.files.items():
        assert disks.sh(f"md5sum < {name}").split()[0] == md5(content)
    whole = disks.sh("dd if=/dev/xvdc bs=1M iflag=direct 2> /dev/null | md5sum")  # indirect requests
    assert whole.split()[0] == md5(disks.raw.read_bytes())
    part = disks.sh("dd if=/dev/xvdc bs=512 skip=12345 count=77 iflag=direct 2> /dev/null | md5sum")
    assert part.split()[0] == md5(disks.raw.read_bytes()[12345 * 512 : 12422 * 512])


def test_writes_reach_the_image(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes: list[int] = []
    monkeypatch.setattr(os, "fdatasync", flushes.append)
    disks.sh("seq 1 30000 > new; sync")
    assert flushes
    assert disks.sh("dmesg | grep -c 'op failed'") == "0"  # else Linux would do without flushes from then on
    assert file_in(disks.root, "/new") == b"".join(b"%d\n" % i for i in range(1, 30001))
    disks.sh("dd if=/dev/zero of=/dev/xvdc bs=64k seek=3 count=5 oflag=direct 2> /dev/null")
    data = disks.raw.read_bytes()
    assert data[3 << 16 : 8 << 16] == bytes(5 << 16) and data[8 << 16] == random.Random(9).randbytes(24 * MIB)[8 << 16]


def test_read_only_is_refused(disks: Disks) -> None:
    before = md5(disks.readonly.read_bytes())
    assert "read-only" in disks.sh("mkdir -p /ro; mount -t ext4 -o rw /dev/xvdb /ro 2>&1; touch /ro/x 2>&1").lower()
    assert "not permitted" in disks.sh("dd if=/dev/zero of=/dev/xvdb count=1 2>&1")
    assert disks.sh("cat /sys/block/xvdb/ro") == "1"
    assert md5(disks.readonly.read_bytes()) == before


def test_discard(disks: Disks) -> None:
    disks.sh("dd if=/dev/urandom of=junk bs=1M count=8 2> /dev/null; sync")
    used = os.stat(disks.root).st_blocks
    assert disks.sh("rm junk; sync; fstrim /mnt; echo $?").splitlines()[-1] == "0"
    assert os.stat(disks.root).st_blocks < used - 8000


def test_errors_of_the_medium_reach_the_guest(disks: Disks) -> None:
    """The image shrinks under the disk: reads behind its new end fail, others do not; the device lives."""
    whole = disks.raw.read_bytes()
    os.truncate(disks.raw, 8 * MIB)
    assert "Input/output error" in disks.sh("dd if=/dev/xvdc of=/dev/null bs=4k skip=4000 count=1 iflag=direct 2>&1")
    assert "1+0 records out" in disks.sh("dd if=/dev/xvdc of=/dev/null bs=4k skip=1 count=1 iflag=direct 2>&1")
    disks.raw.write_bytes(whole)


def test_full_medium_reaches_the_guest(disks: Disks) -> None:
    """The host lets the image grow no further (RLIMIT_FSIZE): writes there fail, others do not; the device lives."""
    size = disks.raw.stat().st_size
    os.truncate(disks.raw, 8 * MIB)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MIB, resource.RLIM_INFINITY))
    try:
        full = disks.sh("dd if=/dev/zero of=/dev/xvdc bs=4k seek=4000 count=1 oflag=direct conv=notrunc 2>&1")
        assert "error" in full.lower() or "no space" in full.lower()
        assert "1+0 records out" in disks.sh("dd if=/dev/zero of=/dev/xvdc bs=4k count=1 oflag=direct 2>&1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        os.truncate(disks.raw, size)
    assert "1+0 records out" in disks.sh("dd if=/dev/zero of=/dev/xvdc bs=4k seek=4000 count=1 oflag=direct 2>&1")


def test_backend_killed_and_reconnected(disks: Disks) -> None:
    """Requests of the time without a backend are answered by the next one."""
    disk = disks.devices[2]
    for _ in range(3):
        disk.kill()
        disks.sh.start("dd if=/dev/xvdc bs=1M count=4 iflag=direct 2> /dev/null | md5sum")
        disks.machine.run(until_ns=disks.machine.now_ns + 300_000_000)
        disk.reconnect()
        assert disks.sh.finish().split()[0] == md5(disks.raw.read_bytes()[: 4 * MIB])


def test_corrupt_ring_costs_the_disk_only(disks: Disks, tmp_path: Path) -> None:
    extra = tmp_path / "extra.img"
    extra.write_bytes(bytes(MIB))
    disk = Block(ImageFile(str(extra)), "xvde", device_number("xvde"))
    disks.devices.add(disk)
    assert disks.sh("sleep 1; cat /sys/block/xvde/size") == "2048"
    disk._pages[0].view[0:4] = b"\xff\xff\xff\x7f"  # req_prod: as a guest would write it
    disk._guarded(disk.serve)
    assert "req_prod" in (disk.error or "") and disk.state == 5
    assert disks.sh("sleep 1; dd if=/dev/xvda of=/dev/null bs=4k count=1 2>&1").splitlines()[-1].startswith("1+0")
    disks.devices.remove(disk, force=True)
    disk.close()


def test_unplug_and_plug(disks: Disks, tmp_path: Path) -> None:
    """The guest lets go of a disk that it does not use, and finds a new one, twenty times."""
    image = tmp_path / "hot.img"
    for turn in range(20):
        image.write_bytes(turn.to_bytes(1, "little") * MIB)
        disk = disks.sh.domain.attach("disk", f"{image},raw,xvdd,rw")
        content = disks.sh("while [ ! -b /dev/xvdd ]; do sleep 0.1; done; dd if=/dev/xvdd bs=1M 2> /dev/null | md5sum")
        assert content.split()[0] == md5(image.read_bytes())
        disks.sh.domain.detach("xvdd")
        assert disks.sh("while [ -b /dev/xvdd ]; do sleep 0.1; done; echo gone") == "gone"
        assert not disk.attached
        ImageFile(str(image)).close()  # it is free again


def test_unplugged_while_it_is_mounted(disks: Disks, tmp_path: Path) -> None:
    """Linux gives it up at once: reading fails from then on, and all else goes on."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/f").write_bytes(random.Random(1).randbytes(MIB))
    image = ext4(tmp_path / "i", tmp_path / "tree", "8M")
    disk = disks.sh.domain.attach("disk", f"{image},raw,xvdd,rw")
    disks.sh("while [ ! -b /dev/xvdd ]; do sleep 0.1; done; mkdir -p /hot; mount -t ext4 /dev/xvdd /hot")
    assert disks.sh("ls /hot").split()[0] == "f"
    disks.sh.domain.detach("xvdd")
    assert "error" in disks.sh("sleep 1; md5sum < /hot/f 2>&1").lower()
    assert not disk.attached
    ImageFile(str(image)).close()
    assert disks.sh("umount /hot; while [ -b /dev/xvdd ]; do sleep 0.1; done; echo gone").splitlines()[-1] == "gone"


def test_pulled_out(disks: Disks, tmp_path: Path) -> None:
    """Surprise removal of a disk that nobody has mounted: the guest finds it gone, and finds the next one there."""
    image = tmp_path / "i"
    image.write_bytes(bytes(MIB))
    for _ in range(5):
        disk = disks.sh.domain.attach("disk", f"{image},raw,xvdd,rw")
        assert disks.sh("while [ ! -b /dev/xvdd ]; do sleep 0.1; done; cat /sys/block/xvdd/size") == "2048"
        disks.sh.domain.detach(disk, force=True)
        assert disks.sh("while [ -b /dev/xvdd ]; do sleep 0.1; done; echo gone") == "gone"


def test_resize(disks: Disks, tmp_path: Path) -> None:
    """The guest sees the new size of a disk in use, and reaches what is there now."""
    image = tmp_path / "grows.img"
    image.write_bytes(bytes(MIB) + b"x" * 100)  # what is no whole sector is not there
    disk = disks.sh.domain.attach("disk", f"{image},raw,xvdd,rw")
    assert isinstance(disk, Block)
    assert disks.sh("while [ ! -b /dev/xvdd ]; do sleep 0.1; done; cat /sys/block/xvdd/size") == "2048"
    with image.open("r+b") as file:
        file.truncate(3 * MIB)
        file.seek(2 * MIB)
        file.write(b"new ground")
    disk.resize()
    assert disks.sh("sleep 1; cat /sys/block/xvdd/size") == "6144"
    assert disks.sh("dd if=/dev/xvdd bs=1M skip=2 count=1 2> /dev/null | head -c 10") == "new ground"
    disks.sh.domain.detach("xvdd")
    assert disks.sh("while [ -b /dev/xvdd ]; do sleep 0.1; done; echo gone") == "gone"


def test_guest_destroyed_in_the_middle(disks: Disks) -> None:
    """Requests in flight; nothing stays mapped, the images are free again, another guest would find its memory."""
    disks.sh.start("while true; do dd if=/dev/zero of=/dev/xvdc bs=64k oflag=direct; done 2> /dev/null")
    disks.machine.run(until_ns=disks.machine.now_ns + 20_000_000)
    disks.sh.domain.destroy()
    assert not device_grants(disks.machine)
    ImageFile(str(disks.raw)).close()
    ImageFile(str(disks.root)).close()


def test_flushed_data_survives_kill_9(linux_cloud: Path, busybox: bytes, tmp_path: Path) -> None:
    """`hv run` of an xl.cfg file is killed as soon as the guest has synced."""
    (tmp_path / "tree").mkdir()
    image = ext4(tmp_path / "root.img", tmp_path / "tree")
    (tmp_path / "initrd").write_bytes(ramdisk(linux_cloud, busybox))
    (tmp_path / "g.cfg").write_text(
        f"kernel = '{linux_cloud}'\nramdisk = 'initrd'\nmemory = 256\nextra = 'console=hvc0 quiet'\n"
        f"disk = [ '{image},raw,xvda,rw' ]\n"
    )
    process = subprocess.Popen([*HV, "run", "g.cfg"], cwd=tmp_path, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdin and process.stdout
    process.stdin.write(b"mount -t ext4 /dev/xvda /mnt; seq 1 20000 > /mnt/n; sync; echo IS''SYNCED; sleep 99999\r")
    process.stdin.flush()
    output = b""
    deadline = time.monotonic() + 120
    while b"ISSYNCED" not in output and time.monotonic() < deadline:
        output += os.read(process.stdout.fileno(), 65536)
    process.kill()
    process.wait()
    assert b"ISSYNCED" in output, output[-2000:]
    subprocess.run(["e2fsck", "-fy", image], capture_output=True)  # the journal
    assert file_in(image, "/n") == b"".join(b"%d\n" % i for i in range(1, 20001))


def test_without_persistent_grants(linux_cloud: Path, busybox: bytes, tmp_path: Path) -> None:
    """Every request's pages are mapped and unmapped; none stays."""
    image = tmp_path / "i"
    image.write_bytes(random.Random(5).randbytes(8 * MIB))
    with hv.Machine() as machine:
        sh = Linux(machine, linux_cloud, busybox)
        disk = Block(ImageFile(str(image)), "xvda", device_number("xvda"))
        disk.persistent = False
        sh.domain.devices.add(disk)
        sh.ready()
        whole = sh("dd if=/dev/xvda bs=1M iflag=direct 2> /dev/null | md5sum")
        assert whole.split()[0] == md5(image.read_bytes())
        assert len(device_grants(machine)) == 1  # the ring
        sh("dd if=/dev/zero of=/dev/xvda bs=128k count=3 oflag=direct 2> /dev/null")
        assert image.read_bytes()[: 3 << 17] == bytes(3 << 17)


def test_one_writable_image_two_guests(linux_cloud: Path, busybox: bytes, tmp_path: Path) -> None:
    image = tmp_path / "i"
    image.write_bytes(bytes(MIB))
    with hv.Machine() as machine:
        machine.create("hello", disks=[f"{image},raw,xvda,rw"])
        for mode in ("rw", "r"):
            with pytest.raises(hv.ConfigError, match="is in use by another disk"):
                machine.create("hello", disks=[f"{image},raw,xvda,{mode}"])
        code = f"import hv; hv.Machine().create('hello', disks=['{image},raw,xvda,rw'])"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "is in use by another disk" in other.stderr
