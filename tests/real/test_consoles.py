"""A second console in Debian's Linux."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from linux_devices import Linux

import hv
from hv.backends.channel import Channel
from hv.backends.console_device import ConsoleDevice


def test_two_consoles(linux_cloud: Path, busybox: bytes) -> None:
    """Found while the guest runs; each has its own input and output, and it can be pulled out."""
    with hv.Machine() as machine:
        sh = Linux(machine, linux_cloud, busybox).ready()
        console = ConsoleDevice(1, "second")
        sh.domain.devices.add(console)
        sh("while [ ! -c /dev/hvc1 ]; do sleep 0.1; done")
        sh("(stty raw -echo; while read -r line; do echo got:$line; done) < /dev/hvc1 > /dev/hvc1 &")
        sh("sleep 1")
        sh("echo by the first; echo by the second > /dev/hvc1")
        console.send("one line\nanother\n")
        machine.settle()
        assert sh("sleep 1; echo only here") == "only here"
        assert (console.state, console.error) == (4, None)
        assert bytes(console.output).replace(b"\r", b"") == b"by the second\ngot:one line\ngot:another\n"
        assert b"by the second" not in sh.domain.console.output.replace(b"echo by the second", b"")
        sh.domain.devices.remove(console, force=True)
        assert sh("sleep 1; echo alive") == "alive"


def test_channels(linux_cloud: Path, busybox: bytes, tmp_path: Path) -> None:
    """A socket and a pseudo-terminal of xl.cfg: programs of guest and host talk through them."""
    path = tmp_path / "agent"
    with hv.Machine() as machine:
        told: list[str] = []
        machine.warning_listeners.append(told.append)
        channels = [f"connection=socket, name=org.example.agent.1, path={path}", "connection=pty, name=shell"]
        sh = Linux(machine, linux_cloud, busybox, name="web", channels=channels).ready()
        sh("for i in 1 2; do while [ ! -c /dev/hvc$i ]; do sleep 0.1; done; done")
        sh("(stty raw -echo; read -r line; echo agent got $line) < /dev/hvc1 > /dev/hvc1 &")
        sh("(stty raw -echo; read -r line; echo shell got $line) < /dev/hvc2 > /dev/hvc2 &")
        sh("sleep 1")
        with socket.socket(socket.AF_UNIX) as agent:
            agent.settimeout(20)
            agent.connect(str(path))
            agent.send(b"a message\n")
            sh("sleep 1")
            assert agent.recv(100).strip() == b"agent got a message"
        device = sh.domain.devices[1]
        assert isinstance(device, Channel) and told == [f"channel shell of web is {device.tty}"]
        terminal = os.open(device.tty, os.O_RDWR | os.O_NOCTTY)
        os.write(terminal, b"a command\n")
        sh("sleep 1")
        assert os.read(terminal, 100).strip() == b"shell got a command"
        os.close(terminal)
    assert not path.exists() and not machine.inputs
