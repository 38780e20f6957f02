"""Debian's Linux as a PV guest: to a shell that computes, with one vCPU and four, and all that a toolstack asks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hv
from hv.abi import sched
from hv.builder import initramfs
from hv.machine.domain import BOOT_EPOCH

MOUNTS = """#!/bin/sh
/bin/busybox mkdir -p /proc /sys /tmp /sbin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t tmpfs tmp /tmp
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
export PATH=/bin
"""
SHELL = MOUNTS + "stty -echo; export PS1='<%>'; exec sh\n"
NR_PROCESSES = 200
# Forks, execs, pipes, files in tmpfs, signals, maps: about 200 processes, and nothing that depends on anything outside.
WORK = (
    MOUNTS
    + r"""
cd /tmp
count=0
while [ $count -lt 40 ]; do
    seq 1 $((count * 50)) | sort -r | md5sum > sum.$count
    dd if=/bin/busybox of=copy.$count bs=4k count=$count skip=$count 2> /dev/null
    count=$((count + 1))
done
cat sum.* copy.* | sha256sum
trap 'echo caught USR1' USR1
(sleep 1; kill -USR1 $$; exit 3) &
child=$!
wait; wait $child; echo "child $?"
sh -c 'kill -SEGV $$'; echo "status $?"
awk 'BEGIN { for (i = 0; i < 20000; i++) s += i * i; print s }'
find / -xdev -type f | wc -l
ls /tmp | wc -l
rm -rf /tmp/*
grep -E 'processes' /proc/stat
cat /proc/uptime
poweroff -f
"""
)


def ramdisk(busybox: bytes, init: str) -> bytes:
    return initramfs.archive(
        [
            initramfs.program("init", init.encode()),
            initramfs.program("bin/busybox", busybox),
            initramfs.link("bin/sh", "busybox"),
            initramfs.program("sbin/poweroff", b"#!/bin/sh\nexec /bin/busybox poweroff -f\n"),
            initramfs.program("sbin/reboot", b"#!/bin/sh\nexec /bin/busybox reboot -f\n"),
            initramfs.character_device("dev/console", 5, 1),
        ]
    )


class Shell:
    """A guest at its prompt."""

    def __init__(self, machine: hv.Machine, kernel: Path, busybox: bytes, **options: Any) -> None:
        self.machine = machine
        given = {"memory": "256M", "cmdline": "console=hvc0 quiet", **options}
        self.domain = machine.create(kernel, ramdisk=ramdisk(busybox, SHELL), **given)
        self.domain.console.expect("<%>", timeout=90)

    def __call__(self, command: str) -> str:
        """What a command prints, messages of the kernel left out."""
        console = self.domain.console
        begin = len(console.output)
        console.send(command + "\r")
        found = console.expect("<%>", timeout=60)
        lines = console.output[begin : found.start()].decode().replace("\r", "").splitlines()
        return "\n".join(line for line in lines if not re.match(r"\[ *\d+\.\d+\] ", line))

    def until(self, command: str, expected: str) -> None:
        """A command, again and again for 10 s of the guest's time, until it prints what is expected."""
        for _ in range(20):
            if self(command) == expected:
                return
            self("sleep 0.5")
        pytest.fail(f"{command!r} prints {self(command)!r}, not {expected!r}")


@contextmanager
def shell(kernel: Path, busybox: bytes, **options: Any) -> Iterator[Shell]:
    with hv.Machine() as machine:
        yield Shell(machine, kernel, busybox, **options)


def computes(sh: Shell, busybox: bytes, vcpus: int) -> None:
    assert sh("echo $((6 * 7))") == "42"
    assert sh("nproc") == str(vcpus)
    assert sh("sha256sum < /bin/busybox").split()[0] == hashlib.sha256(busybox).hexdigest()
    assert sh("cat /sys/hypervisor/type") == "xen"
    assert sh("cat /sys/devices/system/clocksource/clocksource0/current_clocksource") == "xen"


def time_is_right(sh: Shell) -> None:
    """The wall clock is hv's, and hours later still: the TSC and system time are one clock."""
    for hours in (0, 5):
        sh(f"sleep {hours}h")
        now = float(sh("cut -d' ' -f1 /proc/uptime"))
        assert sh("date -u +%s") == str(BOOT_EPOCH + sh.machine.now_ns // 10**9)
        assert abs(now - sh.machine.now_ns / 1e9) < 2  # Linux counts from its own start
    assert "clocksource: timekeeping watchdog" not in sh("dmesg")


def nothing_is_lost_on_the_console(sh: Shell) -> None:
    """A megabyte out and a hundred kilobytes in, byte for byte."""
    sh("yes 0123456789abcde | head -c 1048576 > /tmp/big")
    assert sh("cat /tmp/big").replace("\n", "") == "0123456789abcde" * 65536
    lines = "".join(f"line {i:07}\n" for i in range(8000))
    sh.domain.console.send("sha256sum\r" + lines.replace("\n", "\r") + "\x04")
    found = sh.domain.console.expect(re.compile(rb"([0-9a-f]{64})  -"), timeout=60)
    assert found[1].decode() == hashlib.sha256(lines.encode()).hexdigest()
    sh.domain.console.expect("<%>", timeout=60)


def test_one_vcpu(linux_cloud: Path, busybox: bytes) -> None:
    """Computing, time, memory by the balloon, suspend and resume, SysRq, and an orderly end."""
    with shell(linux_cloud, busybox, cmdline="console=hvc0") as sh:
        toolstack, machine = sh.domain.toolstack, sh.machine
        computes(sh, busybox, 1)

        before = machine.now_ns
        assert int(sh("a=$(date +%s); sleep 60; echo $(($(date +%s) - a))")) == 60
        assert 60 <= (machine.now_ns - before) / 1e9 < 60.1
        time_is_right(sh)
        nothing_is_lost_on_the_console(sh)

        total = "awk '/MemTotal/ { print int($2 / 1024 / 20) }' /proc/meminfo"
        usual = int(sh(total))
        toolstack.set_memory("156M")
        sh.until(total, str(usual - 5))
        assert sh.domain.guest.nr_pages == 156 * 256
        toolstack.set_memory("256M")
        sh.until(total, str(usual))
        with pytest.raises(hv.HvError, match="at most 256M"):
            toolstack.set_memory("1G")

        sh("kept=17")
        for _ in range(2):
            toolstack.shutdown("suspend")
            assert machine.run(timeout=60) == "ended"
            assert (sh.domain.reason, sh.domain.exit_code) == ("suspended", 0)
            with pytest.raises(hv.HvError, match="there is nobody to ask"):
                toolstack.sysrq("h")
            toolstack.resume()
            assert sh("sleep 1; echo $kept") == "17"

        toolstack.sysrq("h")
        sh.domain.console.expect("sysrq: HELP")
        toolstack.shutdown()
        assert machine.run(timeout=60) == "ended"
        assert (sh.domain.reason, sh.domain.exit_code) == ("powered off", 0)


def waits_for_spinlocks(sh: Shell) -> None:
    """A vCPU that waits for one whose holder has lost the processor polls (SCHEDOP_poll), and the holder kicks it."""
    polled: set[int] = set()

    def see(call: Any) -> None:
        if call.registers[0] == sched.SCHEDOP_poll:
            (port,) = (int.from_bytes(piece.data, "little") for piece in call.memory if piece.nested)
            polled.add(port)

    watching = sh.machine.trace.subscribe(see, filter="sched_op")
    write = "dd if=/dev/zero of=/tmp/file$i bs=4k count=600 2> /dev/null; rm /tmp/file$i"
    sh(f"for i in 1 2 3 4 5 6 7 8; do (while [ ! -e /tmp/stop ]; do {write}; done) & done")
    assert sh.machine.run_until(lambda: len(polled) >= 2, timeout=60) == "satisfied"
    watching.close()
    sh("> /tmp/stop; wait")
    kicks = [sh.domain.guest.port_events(port)[3] for port in polled]
    assert all(kicks), (polled, kicks)


def test_four_vcpus(linux_cloud: Path, busybox: bytes) -> None:
    """All online, interrupts between them, one that is taken away and comes back, steal time; then a reboot."""
    with shell(linux_cloud, busybox, vcpus=4) as sh:
        sh.machine.reboot_limit = 0
        online = "cat /sys/devices/system/cpu/online"
        computes(sh, busybox, 4)
        assert sh(online) == "0-3"
        for kind in ("timer", "resched", "callfunc", "callfuncsingle"):
            rows = sh(f"grep ' {kind}[0-3]$' /proc/interrupts").splitlines()
            assert len(rows) == 4 and all(any(int(n) for n in row.split()[1:5]) for row in rows), rows

        # Four busy loops share one processor: each vCPU runs a quarter of the time, the rest is stolen.
        sh("for i in 1 2 3 4; do sh -c 'while :; do :; done' & busy=\"$busy $!\"; done")
        times = "awk '/^cpu / { print $2 + $4, $9 }' /proc/stat"
        before = [int(n) for n in sh(times).split()]
        sh("sleep 0.5")
        used, stolen = (int(n) - old for n, old in zip(sh(times).split(), before, strict=True))
        assert 40 <= used <= 70 and 2.5 <= stolen / used <= 3.5, (used, stolen)  # hundredths of a second
        sh("kill $busy; wait")

        waits_for_spinlocks(sh)

        sh.domain.toolstack.set_vcpus(3)
        sh.until(online, "0-2")
        sh.domain.toolstack.set_vcpus(4)
        sh.until("echo 1 > /sys/devices/system/cpu/cpu3/online; " + online, "0-3")
        sh.domain.toolstack.shutdown("suspend")
        assert sh.machine.run(timeout=60) == "ended" and sh.domain.reason == "suspended"
        sh.domain.toolstack.resume()
        assert sh("nproc") == "4"
        sh.domain.toolstack.shutdown("reboot")
        sh.machine.run(timeout=60)
        assert (sh.domain.reason, sh.domain.exit_code) == ("rebooted", 0)


def test_generic_kernel(linux_generic: Path, busybox: bytes) -> None:
    with shell(linux_generic, busybox, vcpus=4) as sh:
        computes(sh, busybox, 4)
        sh.domain.console.send("poweroff -f\r")
        assert sh.machine.run(timeout=60) == "ended"
        assert sh.domain.exit_code == 0


@pytest.mark.parametrize("vcpus", [1, 4])
def test_newest_kernel(vcpus: int, linux_newest: Path, busybox: bytes) -> None:
    with shell(linux_newest, busybox, vcpus=vcpus) as sh:
        computes(sh, busybox, vcpus)
        assert int(sh("uname -r").split(".")[0]) >= 6 and sh("uname -r") > "6.1.999"
        sh.domain.console.send("poweroff -f\r")
        assert sh.machine.run(timeout=60) == "ended"
        assert sh.domain.exit_code == 0


def test_panic(linux_cloud: Path, busybox: bytes) -> None:
    """The report has the kernel's own last words."""
    with shell(linux_cloud, busybox) as sh:
        sh.domain.console.send("echo c > /proc/sysrq-trigger\r")
        assert sh.machine.run(timeout=60) == "ended"
        assert sh.domain.exit_code == 6
        report = sh.domain.crash_report or ""
        assert "crashed: the guest said so (SCHEDOP_shutdown, reason crash)" in report
        assert "Kernel panic - not syncing: sysrq triggered crash" in sh.domain.console.output.decode()
        assert "last lines of the console:" in report and "Kernel Offset: disabled" in report


def test_after_an_end(linux_cloud: Path, busybox: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """on_crash with a core and another boot, on_reboot and on_poweroff against the usual."""
    monkeypatch.chdir(tmp_path)
    actions = {"crash": "coredump-restart", "reboot": "destroy", "poweroff": "preserve"}
    for command, reason in (("reboot -f", "rebooted"), ("poweroff -f", "powered off")):
        with shell(linux_cloud, busybox, name="web", actions=actions, vcpus=2) as sh:
            if command == "reboot -f":
                sh("sleep 100 & kept=17")
                sh.domain.toolstack.sysrq("c")
                sh.domain.console.expect("<%>", timeout=90)
                assert sh.domain.reboots == 1 and (tmp_path / "web.core").read_bytes()[:4] == b"\x7fELF"
                assert sh("echo ${kept:-nothing}; nproc") == "nothing\n2"
            sh.domain.console.send(command + "\r")
            assert sh.machine.run(timeout=60) == "ended"
            assert (sh.domain.reason, sh.domain.exit_code) == (reason, 0)
            assert sh.domain.preserved == (command == "poweroff -f")


def work(kernel: Path, busybox: bytes) -> tuple[bytes, int, dict[int, int], str]:
    """One run of the script: console, clock, hypercalls by number, and a digest of the whole trace."""
    with hv.Machine() as machine:
        digest, sizes = hashlib.blake2b(), [0]

        def take(records: bytes) -> None:
            digest.update(records)
            sizes[0] += len(records)

        machine.trace.subscribe_raw(take)
        disk = ramdisk(busybox, WORK)
        domain = machine.create(kernel, memory="256M", cmdline="console=hvc0", ramdisk=disk, vcpus=4)
        calls: dict[int, int] = {}
        while not domain.ended:
            calls = domain.guest.hypercall_counts
            machine.run(timeout=90, until_ns=machine.now_ns + 10**9)
        assert domain.exit_code == 0
        machine.trace.flush()
        assert sizes[0] > 1 << 20
        return domain.console.output, machine.engine.ticks, calls, digest.hexdigest()


def test_processes_twice_alike(linux_cloud: Path, busybox: bytes) -> None:
    """A script of 200 processes on four vCPUs does the same twice: console, clock, hypercalls, every traced event."""
    first = work(linux_cloud, busybox)
    output = first[0]
    found = re.search(rb"processes (\d+)", output)
    assert found is not None and int(found[1]) > NR_PROCESSES, output[-800:]
    for line in (b"caught USR1", b"child 3", b"status 139", b"2666466670000"):
        assert line in output, line
    assert work(linux_cloud, busybox) == first
