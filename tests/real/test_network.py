"""Networks of Debian's Linux: two domains from xl.cfg files, hotplug, faults, and the way out to the host's servers."""

from __future__ import annotations

import hashlib
import random
import socket
import socketserver
import struct
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest_kit import HV, device_grants
from linux_devices import Linux, ramdisk

import hv
from hv.backends.net import Vif
from hv.backends.packet import Packet

MIB = 1 << 20


@pytest.fixture(scope="module")
def pair(linux_cloud: Path, busybox: bytes) -> Iterator[tuple[Linux, Linux]]:
    """Two guests on one switch, addresses 10.0.0.1 and 10.0.0.2; the first has two vCPUs and queues."""
    with hv.Machine() as machine:
        guests = [
            Linux(machine, linux_cloud, busybox, name=name, vifs=[""], vcpus=vcpus)
            for name, vcpus in (("a", 2), ("b", 1))
        ]
        for number, guest in enumerate(guests, start=1):
            guest.ready()(f"ip addr add 10.0.0.{number}/24 dev eth0; ip link set eth0 up")
        yield guests[0], guests[1]


def copied(sender: Linux, receiver: Linux, mib: int = 4, address: str = "10.0.0.2") -> tuple[str, str]:
    """The checksums of both sides of a TCP connection."""
    receiver.start("nc -l -p 99 | md5sum")
    receiver.domain.machine.run(until_ns=receiver.domain.machine.now_ns + 300_000_000)
    sender(f"dd if=/dev/urandom of=/tmp/f bs=1M count={mib} 2> /dev/null")
    sent = sender(f"nc {address} 99 < /tmp/f; md5sum < /tmp/f")
    sums = sent.split()[0], receiver.finish().split()[0]
    assert len(sums[0]) == 32, sent
    return sums


def test_ping(pair: tuple[Linux, Linux]) -> None:
    a, b = pair
    assert "3 packets received" in a("ping -c 3 10.0.0.2")
    assert "2 packets received" in b("ping -c 2 -s 6000 10.0.0.1")  # fragments


def test_copy_by_tcp(pair: tuple[Linux, Linux]) -> None:
    sent, received = copied(*pair)
    assert sent == received
    for guest in pair:
        assert [device.error for device in guest.domain.devices] == [None]
    assert len(pair[0].domain.devices[0].queues) == 2  # type: ignore[attr-defined]


def test_copy_over_ipv6(pair: tuple[Linux, Linux], monkeypatch: pytest.MonkeyPatch) -> None:
    """Large segments and blank checksums of IPv6 are taken and given; finished, Linux finds their sums right."""
    for number, guest in enumerate(pair, start=1):
        guest(f"ip addr add fd00::{number}/64 dev eth0; sleep 2")
    seen: list[Packet] = []
    vif = pair[1].domain.devices[0]
    assert isinstance(vif, Vif)
    deliver = vif.deliver

    def watched(packet: Packet) -> None:
        seen.append(packet)
        deliver(packet)

    monkeypatch.setattr(vif, "deliver", watched)
    sent, received = copied(*pair, address="fd00::2")
    assert sent == received
    assert any(packet.ipv6 and packet.gso and packet.blank for packet in seen)


def test_copy_without_offloads(pair: tuple[Linux, Linux], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes neither large segments nor blank checksums gets finished frames; Linux checks their sums."""
    vif = pair[1].domain.devices[0]
    monkeypatch.setattr(vif, "_gso", frozenset())
    monkeypatch.setattr(vif, "_blank", frozenset())
    for address in ("10.0.0.2", "fd00::2"):
        sent, received = copied(*pair, mib=1, address=address)
        assert sent == received


def test_backend_killed_and_reconnected(pair: tuple[Linux, Linux]) -> None:
    a, b = pair
    for _ in range(3):
        vif = b.domain.devices[0]
        vif.kill()
        assert "0 packets received" in a("ping -c 1 -W 1 10.0.0.2")
        vif.reconnect()
        assert "1 packets received" in a("ping -c 1 10.0.0.2")


def test_broken_ring_costs_one_interface(pair: tuple[Linux, Linux]) -> None:
    """The guest whose ring is broken loses its interface; plugged in again it is back; the neighbour goes on."""
    a, b = pair
    vif = b.domain.devices[0]
    assert isinstance(vif, Vif)
    vif._pages[0].view[0:4] = b"\xff\xff\xff\x7f"  # req_prod of its transmit ring
    vif._guarded(vif.serve)
    assert "req_prod" in (vif.error or "")
    assert "0 packets received" in a("ping -c 1 -W 1 10.0.0.2")
    b.domain.devices.remove(vif, force=True)
    b("while [ -e /sys/class/net/eth0 ]; do sleep 0.1; done")
    b.domain.devices.add(Vif(vif.switch, vif.mac))
    b("while [ ! -e /sys/class/net/eth0 ]; do sleep 0.1; done; ip addr add 10.0.0.2/24 dev eth0; ip link set eth0 up")
    assert "1 packets received" in a("ping -c 1 10.0.0.2")


def test_neighbour_destroyed_in_the_middle(pair: tuple[Linux, Linux]) -> None:
    a, b = pair
    machine = a.domain.machine
    b.start("nc -l -p 99 > /dev/null")
    machine.run(until_ns=machine.now_ns + 200_000_000)
    a.start("dd if=/dev/zero bs=1M count=64 2> /dev/null | nc 10.0.0.2 99 &")
    a.finish()
    machine.run(until_ns=machine.now_ns + 20_000_000)
    b.domain.destroy()
    assert "0 packets received" in a("ping -c 1 -W 1 10.0.0.2; kill %1")
    assert all(domid == a.domain.domid for domid, _ in device_grants(machine))


# --- two files, as users have them


def packets(capture: bytes) -> list[bytes]:
    assert struct.unpack_from("<IHH", capture) == (0xA1B23C4D, 2, 4)
    found, at = [], 24
    while at < len(capture):
        size = struct.unpack_from("<I", capture, at + 8)[0]
        found.append(capture[at + 16 : at + 16 + size])
        at += 16 + size
    return found


def test_two_files(linux_cloud: Path, busybox: bytes, tmp_path: Path) -> None:
    """`hv run a.cfg b.cfg`: disks and a network; b fetches a file of a's disk by TCP and writes it to its own."""
    content = random.Random(3).randbytes(3 * MIB)
    for name, data in (("a", content), ("b", b"")):
        tree = tmp_path / name
        tree.mkdir()
        (tree / "data").write_bytes(data)
        command = ["mke2fs", "-q", "-t", "ext4", "-d", tree, tmp_path / f"{name}.img", "16M"]
        subprocess.run(command, check=True, capture_output=True)
    work = {
        "a": "nc -l -p 99 < /mnt/data; ping -c 1 10.0.0.2",
        "b": "while ! ping -c 1 -W 1 10.0.0.1; do :; done; sleep 1\nnc 10.0.0.1 99 > /mnt/data; md5sum /mnt/data",
    }
    for number, name in enumerate("ab", start=1):
        script = (
            f"mount -t ext4 /dev/xvda /mnt; ip addr add 10.0.0.{number}/24 dev eth0; ip link set eth0 up\n"
            f"{work[name]}\numount /mnt; poweroff -f\n"
        )
        (tmp_path / f"{name}.cfg").write_text(
            f"name = '{name}'\nkernel = '{linux_cloud}'\nramdisk = '{name}.rd'\nmemory = 256\n"
            f"cmdline = 'console=hvc0 quiet'\n"
            f"disk = [ '{name}.img,raw,xvda,rw' ]\nvif = [ 'bridge=lan' ]\n"
        )
        (tmp_path / f"{name}.rd").write_bytes(ramdisk(linux_cloud, busybox, script=script))
    command = [*HV, "run", "a.cfg", "b.cfg", "--console", "a=a.log", "--console", "b=b.log", "--pcap", "lan.pcap",
               "--timeout", "150", "--list"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True)
    logs = {name: (tmp_path / f"{name}.log").read_text() for name in "ab"}
    assert done.returncode == 0, (done.stderr, logs)
    assert hashlib.md5(content).hexdigest() in logs["b"]
    read = subprocess.run(["debugfs", "-R", "cat /data", tmp_path / "b.img"], check=True, capture_output=True).stdout
    assert read == content
    frames = packets((tmp_path / "lan.pcap").read_bytes())
    assert len(frames) > 2000 and max(map(len, frames)) == 1514  # large segments appear as a cable would see them
    carried = sum(len(frame) - 66 for frame in frames if frame[12:14] == b"\x08\0" and frame[23] == 6)
    assert carried >= len(content)


# --- the way out


class Server(socketserver.ThreadingTCPServer):
    """On the host's loopback: says a text, and counts who has come."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Reply)
        self.port = self.server_address[1]
        self.visitors = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Reply(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Server)
        self.server.visitors += 1
        self.request.sendall(b"a word of the host\n" * 10000)


@pytest.mark.usefixtures("libslirp")
def test_servers_are_reached_only_when_allowed(linux_cloud: Path, busybox: bytes) -> None:
    with Server() as named, Server() as other, hv.Machine(clock="paced") as machine:
        gateway = machine.network.gateway(allow=[f"127.0.0.1:{named.port}"])
        guest = Linux(machine, linux_cloud, busybox, vifs=[""]).ready()
        assert "lease of 10.0.2.15 obtained" in guest("ip link set eth0 up; udhcpc -i eth0 -n -q -s /bin/true 2>&1")
        guest("ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2")
        assert "1 packets received" in guest("ping -c 1 10.0.2.2")
        reply = guest(f"nc 10.0.2.2 {named.port} < /dev/null | md5sum")
        assert reply.split()[0] == hashlib.md5(b"a word of the host\n" * 10000).hexdigest()
        assert guest(f"nc -w 1 127.0.0.1 {other.port} < /dev/null 2> /dev/null | wc -c") == "0"
        for target, port in (("10.0.2.2", other.port), ("192.0.2.1", named.port)):
            before = machine.now_ns
            assert "refused" in guest(f"nc {target} {port} < /dev/null 2>&1")
            assert machine.now_ns - before < 900_000_000  # at once: nobody waits for a second SYN
        assert "refused" in guest("nslookup -type=a a.test 10.0.2.3 2>&1")
        assert "0 packets received" in guest("ping -c 1 -W 1 192.0.2.1")
        assert (named.visitors, other.visitors) == (1, 0)
        assert gateway.refused > 0
        named.shutdown()
        other.shutdown()


@pytest.mark.usefixtures("libslirp")
def test_a_forwarded_port_leads_to_a_guest(linux_cloud: Path, busybox: bytes) -> None:
    """The host's own client reads what a guest serves; the guest has learned its address by DHCP."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with hv.Machine(clock="paced") as machine:
        machine.network.gateway(forward=[f"{port}-:80"])
        guest = Linux(machine, linux_cloud, busybox, vifs=[""]).ready()
        guest("ip link set eth0 up; udhcpc -i eth0 -n -q -s /bin/true; ip addr add 10.0.2.15/24 dev eth0")
        guest("echo a word of the guest > /tmp/word; httpd -h /tmp")
        read: list[bytes] = []

        def fetch() -> None:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/word", timeout=30) as answer:
                read.append(answer.read())

        client = threading.Thread(target=fetch)
        client.start()
        while client.is_alive():
            machine.run(until_ns=machine.now_ns + 50_000_000)
        client.join()
    assert read == [b"a word of the guest\n"]
