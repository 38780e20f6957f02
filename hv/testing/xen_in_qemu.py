"""Real Xen 4.17 in QEMU's software emulation, with a guest as its domain 0: the oracle, and the peer for speed.

    outcome = xen_in_qemu.run("guest.elf", "command line")

Rules:

1. The guest is domain 0, because Xen starts no other domain by itself. It has no console ring: it prints by console_io.
2. What the guest prints and what Xen prints share one serial line. Xen's lines begin with "(XEN) " and are whole;
   what is left without them is the guest's, also where Xen spoke in the middle of a line.
3. QEMU is ended as soon as Xen says that domain 0 has ended. Only the process that was started here is ever ended.
4. Nothing is left on the disk: images and the machine's RAM are passed as anonymous files.

QEMU comes from $HV_QEMU or PATH; Xen from $HV_XEN (the image, also compressed), /boot, or Debian's package, which is
fetched into the cache of `debian_packages`.
"""

from __future__ import annotations

import gzip
import mmap
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from hv.errors import ConfigError, HvError, Timeout
from hv.testing import debian_packages

XEN_PACKAGE = "xen-hypervisor-4.17-amd64"
XEN_FILE = "boot/xen-4.17-amd64.gz"
XEN_OPTIONS = "console=com1 com1=115200,8n1 noreboot bootscrub=0"
_XEN_LINE = re.compile(rb"\(XEN\) [^\n]*\n")
_STARTED = b"(XEN) Freed "  # the last thing that Xen says before domain 0 runs
_ENDINGS = {
    re.compile(rb"\(XEN\) Hardware Dom0 halted[^\n]*\n"): ("powered off", 0),
    re.compile(rb"\(XEN\) Hardware Dom0 shutdown: rebooting[^\n]*\n"): ("rebooted", 0),
    re.compile(rb"\(XEN\) Hardware Dom0 crashed[^\n]*\n"): ("crashed", 6),
    re.compile(rb"\(XEN\) Hardware (?:Dom0|domain 0) [^\n]*\n"): ("ended", 6),
    re.compile(rb"\(XEN\) Panic on CPU[^\n]*\n"): ("took Xen with it", 6),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a guest printed, what Xen said, how it ended, and the exit code that `hv run` has for that."""

    output: str
    xen: str
    ending: str
    exit_code: int


def separate(serial: bytes) -> tuple[str, str]:
    """The guest's and Xen's part of what came by the serial line, both with plain line ends."""
    serial = serial.replace(b"\r\n", b"\n")
    guest = _XEN_LINE.sub(b"", serial)
    xen = b"".join(_XEN_LINE.findall(serial))
    return guest.decode(errors="replace"), xen.decode(errors="replace")


def ending(serial: bytes | bytearray) -> tuple[str, int] | None:
    """How domain 0 ended, and the exit code for it; None while it runs."""
    for pattern, result in _ENDINGS.items():
        if pattern.search(serial):
            return result
    return None


def find_qemu() -> str:
    """QEMU's program; ConfigError where there is none."""
    named = os.environ.get("HV_QEMU") or "qemu-system-x86_64"
    found = shutil.which(named)
    if found is None:
        raise ConfigError(
            f"{named} is not there: install Debian's package qemu-system-x86, or name the program in HV_QEMU"
        )
    return found


def xen_image() -> bytes:
    """Xen as QEMU can start it; an HvError with the remedy where it can not be had."""
    named = os.environ.get("HV_XEN")
    place = Path(named) if named else Path("/") / XEN_FILE
    if not named and not place.is_file():
        place = debian_packages.unpacked(XEN_PACKAGE) / XEN_FILE
    try:
        content = place.read_bytes()
        return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except (OSError, EOFError) as error:
        raise ConfigError(
            f"{place}: cannot be read as Xen's image ({error}): name one in HV_XEN, or remove the package's folder "
            "so that it is fetched again"
        ) from None


class Session:
    """Xen with a guest as domain 0, while it runs. `ram` is the machine's memory, if it was asked for.

    `memory` is the machine's in MiB, of which the guest gets a quarter.
    """

    def __init__(
        self,
        guest: bytes | Path | str,
        cmdline: str = "",
        *,
        ramdisk: Path | None = None,
        memory: int = 512,
        vcpus: int = 1,
        share_ram: bool = False,
    ) -> None:
        self.serial = bytearray()
        self.ram: mmap.mmap | None = None
        image = guest if isinstance(guest, bytes) else Path(guest).read_bytes()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        files = [_anonymous_file("xen", xen_image()), _anonymous_file("guest", image)]
        command = [find_qemu(), "-accel", "tcg", "-m", str(memory), "-display", "none", "-serial", "stdio"]
        options = f"{XEN_OPTIONS} dom0_mem={memory // 4}M dom0_max_vcpus={vcpus}"  # they share the one CPU
        command += ["-no-reboot", "-nic", "none", "-append", options]
        command += ["-kernel", f"/proc/self/fd/{files[0]}"]
        modules = f"/proc/self/fd/{files[1]} {cmdline.replace(',', ',,')}".rstrip()
        if ramdisk is not None:
            files.append(_anonymous_file("ramdisk", ramdisk.read_bytes()))
            modules += f",/proc/self/fd/{files[-1]}"
        command += ["-initrd", modules]
        if share_ram:
            files.append(os.memfd_create("ram"))
            os.ftruncate(files[-1], memory << 20)
            self.ram = mmap.mmap(files[-1], memory << 20)
            backend = f"memory-backend-file,id=ram,size={memory}M,share=on,mem-path=/proc/self/fd/{files[-1]}"
            command += ["-machine", "memory-backend=ram", "-object", backend]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors, pass_fds=files
            )
        finally:
            for file in files:
                os.close(file)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End QEMU."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    @property
    def output(self) -> str:
        """What the guest has printed until now."""
        return separate(bytes(self.serial))[0]

    def wait(self, until: Callable[[], bool], timeout: float) -> bool:
        """Read the serial line until something holds, the guest has ended, or the time is up; whether it held."""
        deadline = time.monotonic() + timeout
        while not until():
            if ending(self.serial) or not self._read(deadline - time.monotonic()):
                return until()
        return True

    def _read(self, patience: float) -> bool:
        """Take what came by the serial line; False where nothing came in time."""
        stream = self._process.stdout
        assert stream is not None
        if not select.select([stream], [], [], max(patience, 0))[0]:
            return False
        data = os.read(stream.fileno(), 65536)
        self.serial += data
        if not data:
            raise HvError(f"QEMU ended by itself: {self._complaint() or 'without a word'}")
        return True

    def _complaint(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        return " ".join(self._errors.read().decode(errors="replace").split())

    def outcome(self) -> Outcome:
        """How the guest ended. It must have."""
        how = ending(self.serial)
        assert how is not None
        return Outcome(*separate(bytes(self.serial)), *how)


def run(guest: bytes | Path | str, cmdline: str = "", *, vcpus: int = 1, timeout: float = 60) -> Outcome:
    """Run a guest as domain 0 to its end; hv.Timeout where it has none in time."""
    with Session(guest, cmdline, vcpus=vcpus) as session:
        if not session.wait(lambda: ending(session.serial) is not None, timeout):
            where = "its guest" if _STARTED in session.serial else "starting"
            raise Timeout(f"Xen in QEMU was still running {where} after {timeout:g} s")
        return session.outcome()


def _anonymous_file(name: str, content: bytes) -> int:
    file = os.memfd_create(name)
    with open(file, "wb", closefd=False) as stream:
        stream.write(content)
    return file
