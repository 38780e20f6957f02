"""Debian's Linux with the drivers of Xen's block and network devices, at a prompt: what the tests of devices run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from test_linux import MOUNTS

import hv
from hv.builder import initramfs

PROMPT = "<%>"
NOTHING: Mapping[str, str] = {}
DRIVERS = {"xen_blkfront": "drivers/block/xen-blkfront.ko", "xen_netfront": "drivers/net/xen-netfront.ko"}
SHELL = f"stty -echo; export PS1='{PROMPT}'; exec sh\n"


def ramdisk(
    kernel: Path, busybox: bytes, parameters: str = "", script: str = SHELL, further: Mapping[str, str] = NOTHING
) -> bytes:
    """With the modules that belong to the kernel of that path, which lies in its unpacked package."""
    modules, wanted = next(kernel.parents[1].glob("lib/modules/*/kernel")), {**DRIVERS, **further}
    drivers = [f"insmod /{name}.ko {parameters if name == 'xen_blkfront' else ''}" for name in wanted]
    return initramfs.archive(
        [
            initramfs.program("init", "\n".join((MOUNTS, "mkdir -p /mnt", *drivers, script)).encode()),
            initramfs.program("bin/busybox", busybox),
            initramfs.link("bin/sh", "busybox"),
            initramfs.character_device("dev/console", 5, 1),
            *(initramfs.file(f"{name}.ko", (modules / path).read_bytes()) for name, path in wanted.items()),
        ]
    )


class Linux:
    """A domain at its prompt; call it with a command to get what that prints."""

    def __init__(
        self,
        machine: hv.Machine,
        kernel: Path,
        busybox: bytes,
        parameters: str = "",
        modules: Mapping[str, str] = NOTHING,
        **options: Any,
    ) -> None:
        given = {"memory": "256M", "cmdline": "console=hvc0 quiet", **options}
        initrd = ramdisk(kernel, busybox, parameters, further=modules)
        self.domain = machine.create(kernel, ramdisk=initrd, **given)

    def ready(self) -> Linux:
        """Run until the first prompt; several domains boot beside one another."""
        self.domain.console.expect(PROMPT, timeout=120)
        return self

    def start(self, command: str) -> None:
        """Type a command; `finish` waits for it."""
        self.domain.console.send(command + "\r")

    def finish(self, timeout: float = 90) -> str:
        """What it printed, without messages of the kernel."""
        found = self.domain.console.expect(re.compile(rb"(?s)(.*?)" + PROMPT.encode()), timeout=timeout)
        lines = found[1].decode().replace("\r", "").splitlines()
        return "\n".join(line for line in lines if not re.match(r"\[ *\d+\.\d+\] ", line))

    def __call__(self, command: str, timeout: float = 90) -> str:
        self.start(command)
        return self.finish(timeout)
