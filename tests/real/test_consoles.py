"""A second console in Debian's Linux."""

from __future__ import annotations

from pathlib import Path

from linux_devices import Linux

import hv
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
