"""GRUB for Xen, as Debian ships it: to its prompt, commands by the console, and back."""

from __future__ import annotations

import io
import struct
import subprocess
from pathlib import Path

import pytest
from guest_kit import HV, ROOT, device_grants
from linux_devices import ramdisk
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

import hv
from hv.builder import bzimage
from hv.trace.decoders.devices import block_fields
from hv.trace.events import GrantUse, Hypercall, Note, PortEvent
from hv.trace.sinks import open_sink

BEFORE_PROMPT = 19_000_000  # ns of virtual time; the prompt comes 0.7 ms later


def run(image: Path, *options: str, keys: bytes = b"", timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
    """`hv run` in a process of its own with `keys` in a pipe."""
    command = [*HV, "run", str(image), "--timeout", "30", *options]
    return subprocess.run(command, cwd=ROOT, input=keys, capture_output=True, timeout=timeout)


def test_commands_by_the_api(grub: Path) -> None:
    with hv.Machine() as machine:
        domain = machine.create(grub, memory="128M")
        domain.console.expect("Welcome to GRUB!")
        domain.console.expect("grub> ")
        domain.console.send("echo hello\r")
        domain.console.expect("\n\rhello\n\r")
        domain.console.expect("grub> ")
        domain.console.send("ls\r")
        domain.console.expect("(memdisk) (proc)")
        domain.console.expect("grub> ")
        domain.console.send("cat (memdisk)/grub.cfg\r")
        domain.console.expect("pvboot-x86_64.elf")
        domain.console.expect("grub> ")
        domain.console.send("no-such-command\r")
        domain.console.expect("error: can't find command `no-such-command'.")
        domain.console.send("halt\r")
        assert machine.run(timeout=30) == "ended"
        assert (domain.reason, domain.exit_code) == ("powered off", 0)


def test_reboot_brings_a_new_prompt(grub: Path) -> None:
    with hv.Machine() as machine:
        domain = machine.create(grub)
        for count in range(3):
            domain.console.expect("Welcome to GRUB!")
            domain.console.expect("grub> ")
            assert domain.reboots == count
            domain.console.send("reboot\r")
        domain.console.expect("grub> ")
        domain.console.send("halt\r")
        machine.run(timeout=30)
        assert (domain.reboots, domain.exit_code) == (3, 0)


def all_at_once(grub: Path, keys: str) -> tuple[bytes, int, str]:
    """(console, ticks, how it ended) of a run whose input is there from the start."""
    with hv.Machine() as machine:
        domain = machine.create(grub)
        domain.console.send(keys)
        machine.run(timeout=60)
        return domain.console.output, machine.engine.ticks, domain.reason


def test_same_input_same_run(grub: Path) -> None:
    first = all_at_once(grub, "echo hello\rls\rhalt\r")
    assert b"\n\rhello\n\r" in first[0]
    assert first[2] == "powered off"
    assert all_at_once(grub, "echo hello\rls\rhalt\r") == first


def test_conversation_repeats_to_the_tick(grub: Path) -> None:
    """The same by `expect` and `send`: the guest is stopped where the pattern appears, not when the host looks."""

    def talk() -> list[int]:
        with hv.Machine() as machine:
            domain, ticks = machine.create(grub), []
            for keys in ("echo one\r", "echo two\r", "halt\r"):
                domain.console.expect("grub> ")
                ticks.append(machine.engine.ticks)
                domain.console.send(keys)
            machine.run(timeout=30)
            return [*ticks, machine.engine.ticks]

    assert talk() == talk()


@pytest.mark.parametrize("until", [1_000_003, BEFORE_PROMPT])
def test_stepped_run_is_the_free_run(until: int, grub: Path) -> None:
    """Five million instructions one by one come to the same registers at the same tick."""

    def state(stepping: bool) -> tuple[object, ...]:
        with hv.Machine() as machine:
            machine.engine.set_stepping(stepping)
            domain = machine.create(grub)
            assert machine.run(until_ns=until, timeout=120) == "until"
            counters = domain.guest.vcpu_counters(), domain.guest.hypercall_counts
            return machine.engine.ticks, domain.registers(), domain.console.output, counters

    assert state(True) == state(False)


def test_piped_input(grub: Path) -> None:
    done = run(grub, keys=b"echo hello\rhalt\r")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\n\rhello\n\r" in done.stdout


def test_input_from_a_file_twice(grub: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_bytes(b"ls\rhalt\r")
    command = [*HV, "run", "--timeout", "30", str(grub)]

    def once() -> tuple[int, bytes]:
        with keys.open("rb") as source:
            done = subprocess.run(command, cwd=ROOT, stdin=source, capture_output=True, timeout=60)
        return done.returncode, done.stdout

    code, output = once()
    assert code == 0
    assert b"(memdisk) (proc)" in output
    assert once() == (code, output)


def test_a_prompt_without_input_waits(grub: Path) -> None:
    """GRUB polls its console: it runs into the timeout."""
    done = run(grub, "--timeout", "1")
    assert done.returncode == 124
    assert done.stdout.endswith(b"grub> ")
    assert done.stderr == b"hv: grub-x86_64-xen.bin was still running after 1 s (--timeout)\n"


@pytest.mark.parametrize(("memory", "vcpus"), [("16M", 1), ("64M", 2), ("512M", 1), ("1G", 4)])
def test_memory_and_vcpus(memory: str, vcpus: int, grub: Path) -> None:
    with hv.Machine() as machine:
        domain = machine.create(grub, memory=memory, vcpus=vcpus)
        domain.console.expect("grub> ")
        domain.console.send("halt\r")
        machine.run(timeout=30)
        assert domain.exit_code == 0


def test_two_grubs_on_one_machine(grub: Path) -> None:
    with hv.Machine() as machine:
        domains = [machine.create(grub, name=name) for name in ("one", "two")]
        for domain in domains:
            domain.console.expect("grub> ")
            domain.console.send(f"echo this is {domain.name}\r")
        for domain in domains:
            domain.console.expect(f"\n\rthis is {domain.name}")
            domain.console.expect("grub> ")
            domain.console.send("halt\r")
        machine.run(timeout=30)
        assert [domain.exit_code for domain in domains] == [0, 0]


def test_traced_twice_alike(grub: Path, tmp_path: Path) -> None:
    """Keys from a pipe enter at the same moment of virtual time; what listens changes nothing."""
    traces = []
    for name in ("first", "second"):
        command = [*HV, "trace", str(grub), "--output", str(tmp_path / name), "--timeout", "60"]
        done = subprocess.run(command, cwd=ROOT, input=b"ls\rhalt\r", capture_output=True, timeout=90)
        assert done.returncode == 0
        traces.append((done.stdout, done.stderr, (tmp_path / name).read_text()))
    assert traces[0] == traces[1]
    output, _, trace = traces[0]
    assert run(grub, keys=b"ls\rhalt\r").stdout == output
    assert 'console input: "ls\\rhalt\\r", 8 bytes' in trace and "XenStore: DIRECTORY device/vbd" in trace


def partition(image: Path, tree: Path, size: int) -> Path:
    """A disk with an MBR whose first partition, from 1 MiB on, is an ext4 file system of `size` MiB with the tree."""
    first, sectors = 2048, size << 11
    entry = struct.pack("<B3sB3sII", 0x80, bytes(3), 0x83, bytes(3), first, sectors)
    with image.open("wb") as file:
        file.write(bytes(446) + entry + bytes(48) + b"\x55\xaa")
        file.truncate((first + sectors) << 9)
    command = ["mke2fs", "-q", "-t", "ext4", "-E", f"offset={first << 9}", "-d", tree, image, f"{size}M"]
    subprocess.run(command, check=True, capture_output=True)
    return image


def test_a_disk(grub: Path, tmp_path: Path) -> None:
    """GRUB's own driver, a ring of one page: it lists the partition and reads a file of it, and leaves the disk."""
    (tmp_path / "tree/boot").mkdir(parents=True)
    (tmp_path / "tree/hello.txt").write_text("a word from the disk\n")
    image = partition(tmp_path / "disk.img", tmp_path / "tree", 8)
    with hv.Machine() as machine:
        domain = machine.create(grub, disks=[f"{image},raw,xvda,r"])
        domain.console.expect("grub> ")
        domain.console.send("ls\r")
        domain.console.expect("(xen/xvda) (xen/xvda,msdos1)")
        domain.console.expect("grub> ")
        domain.console.send("ls -l (xen/xvda,msdos1)\r")
        domain.console.expect("Filesystem type ext*")
        domain.console.expect("Partition start at 1024KiB - Total size 8192KiB")
        domain.console.expect("grub> ")
        domain.console.send("ls (xen/xvda,msdos1)/\r")
        domain.console.expect("boot/ hello.txt")
        domain.console.expect("grub> ")
        domain.console.send("cat (xen/xvda,msdos1)/hello.txt\r")
        domain.console.expect("a word from the disk")
        domain.console.send("halt\r")
        machine.run(timeout=30)
        assert (domain.reason, domain.devices[0].error) == ("powered off", None)
        assert not device_grants(machine)


def test_a_disk_twice_alike(grub: Path, tmp_path: Path) -> None:
    """Requests take no time of the host's: two runs end at the same tick."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(range(256)) * 4096)

    def once() -> tuple[bytes, int]:
        with hv.Machine() as machine:
            domain = machine.create(grub, disks=[f"{image},raw,xvda,r"])
            domain.console.send("hexdump -n 4096 -s 5000 (xen/xvda)\rhalt\r")
            machine.run(timeout=60)
            assert domain.reason == "powered off"
            return domain.console.output, machine.engine.ticks

    first = once()
    assert b"88 89 8a 8b" in first[0]
    assert once() == first


def test_boots_linux_from_a_disk(grub: Path, linux_cloud: Path, busybox: bytes, tmp_path: Path) -> None:
    """GRUB loads a kernel and its ramdisk from a partition and becomes Linux, which mounts what it came from."""
    tree, image = tmp_path / "tree", tmp_path / "disk.img"
    tree.mkdir()
    kernel = bzimage.kernel(linux_cloud.read_bytes())  # GRUB knows no LZ4, and its own XZ is slow
    (tree / "vmlinux").write_bytes(kernel)
    (tree / "initrd").write_bytes(ramdisk(linux_cloud, busybox))
    partition(image, tree, len(kernel) // 2**20 + 32)
    with hv.Machine() as machine:
        domain = machine.create(grub, memory="256M", disks=[f"{image},raw,xvda,r"])
        for line in ("set root=(xen/xvda,msdos1)", "linux /vmlinux console=hvc0 quiet", "initrd /initrd", "boot"):
            domain.console.expect("grub> ", timeout=60)
            domain.console.send(f"{line}\r")
        domain.console.expect("<%>", timeout=120)
        domain.console.send("mount -t ext4 -o ro /dev/xvda1 /mnt; ls /mnt\r")
        domain.console.expect("vmlinux")
        assert domain.devices[0].error is None


def test_a_disk_in_the_trace(grub: Path, tmp_path: Path) -> None:
    """From GRUB's kick over the request, the grants mapped for it and its response to GRUB's event, and a timeline."""
    image, events, timeline = tmp_path / "disk.img", [], io.BytesIO()
    image.write_bytes(bytes(range(256)) * 4096)
    sink = open_sink("perfetto", timeline)
    with hv.Machine() as machine:
        domain = machine.create(grub, disks=[f"{image},raw,xvda,r"])
        domain.console.send("hexdump -n 512 -s 40960 (xen/xvda)\rhalt\r")
        with machine.trace.subscribe(events.append), machine.trace.subscribe(sink.write):
            machine.run(timeout=30)
    sink.close()
    by_id = {event.id: event for event in events}
    block = [event for event in events if isinstance(event, Note) and event.source == "block"]
    requests, responses = ([event for event in block if event.what == what] for what in ("request", "response"))
    assert len(requests) == len(responses) > 1
    for request, response in zip(requests, responses, strict=True):
        assert response.cause == request.id
        assert block_fields(response)["request"] == block_fields(request)["request"]
        assert block_fields(response)["status"] == "OKAY"
    assert any(block_fields(request)["sector"] <= 80 < block_fields(request)["sector"] + 8 for request in requests)
    read = next(request for request in requests if isinstance(by_id.get(request.cause), PortEvent))
    kick = by_id[read.cause]
    assert isinstance(kick, PortEvent) and kick.domain == 0
    send = by_id[kick.cause]
    assert isinstance(send, Hypercall) and send.op == "EVTCHNOP_send"
    effects = [event for event in events if event.cause == read.id]
    assert [event.what for event in effects if isinstance(event, Note)] == ["response"]
    mapped = [event for event in effects if isinstance(event, GrantUse) and not event.ended]
    assert mapped and all((event.domain, event.granter) == (0, domain.domid) for event in mapped)
    tells = [event for event in events if isinstance(event, PortEvent) and event.cause in {r.id for r in responses}]
    assert tells and all(event.domain == domain.domid for event in tells)
    trace = pb.Trace()
    trace.ParseFromString(timeline.getvalue())
    track = next(p.track_descriptor.uuid for p in trace.packet if p.track_descriptor.name == "disk xvda")
    slices = [p.track_event for p in trace.packet if p.track_event.track_uuid == track]
    assert [s.name for s in slices if s.type == pb.TrackEvent.TYPE_SLICE_BEGIN] == ["READ"] * len(requests)
    assert sum(s.type == pb.TrackEvent.TYPE_SLICE_END for s in slices) == len(requests)
    flows = {flow for s in slices for flow in s.flow_ids}
    assert any(p.track_event.name.startswith("event of port") and flows & set(p.track_event.flow_ids)
               for p in trace.packet)  # fmt: skip
