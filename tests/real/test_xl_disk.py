"""Disk specifications in lockstep with xl's own parser, Debian's libxlutil: words in any order, right and wrong.

`trusted` and `untrusted` are left out: 4.17's libxlu_disk_l.l knows them, the library that is built refuses them.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hv
from hv.machine.xl_disk import device_number, disk

PACKAGES = ("libxenmisc4.17", "libyajl2", "libxencall1", "libxendevicemodel1", "libxenevtchn1", "libxenforeignmemory1",
            "libxengnttab1", "libxenhypfs1", "libxenstore4", "libxentoolcore1", "libxentoollog1")  # fmt: skip
FIRST = ("", "", "", "file:", "phy:", "raw:", "tap:aio:", "tap2:qcow2:", "ioemu:vhd:", "x:", "tapdisk:")
WORDS = ("a.raw", "/i/a.raw", "/i/a.qcow2", "", "", "raw", "qcow2", "vhd", "tar", "empty", "xvda", "hdc:cdrom",
         "xvdb:disk", "xvda:tape", "r", "w", "rw", "ro", "x", "cdrom", "discard", "no-discard", "direct-io-safe",
         "no-colo", "format=raw", "format=", "format=qcow2", "format=tar", "vdev=xvda", "vdev=xvdb",
         "vdev=", "access=r", "access=", "access=x", "devtype=cdrom", "devtype=disk", "devtype=tape", "backendtype=phy",
         "backendtype=x", "script=s", "backend=0", "target=a.raw", "target=a,b.raw", "target=", " raw", "\txvda",
         "specification=xen", "specification=x", "target=a.raw,")  # fmt: skip
USUAL = (("a.raw", "raw", "xvda", "w"), ("a.raw", "", "xvda"), ("vdev=xvda", "format=raw", "target=a.raw"), ())
COUNT = 20_000


@pytest.fixture(scope="module")
def xl(debian_package: Callable[[str], Path]) -> Iterator[Callable[[str], list[object] | None]]:
    """What xl says to a specification: see xl_disk_worker.py."""
    folders = [debian_package(name) / "usr/lib/x86_64-linux-gnu" for name in PACKAGES]
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, folders))}
    worker = [sys.executable, str(Path(__file__).with_name("xl_disk_worker.py"))]
    with subprocess.Popen(worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdin and process.stdout
        source, sink = process.stdout, process.stdin

        def ask(text: str) -> list[object] | None:
            sink.write(json.dumps(text) + "\n")
            sink.flush()
            answer: list[object] | None = json.loads(source.readline())
            return answer

        yield ask
        sink.close()


def ours(text: str) -> list[object] | None:
    """The same from hv, in xl's terms."""
    try:
        spec = disk(text, lambda _: None)
    except hv.ConfigError:
        return None
    return [spec.target, spec.vdev, "raw", not spec.read_only, spec.cdrom, spec.discard]


def expected(answer: list[object] | None) -> list[object] | None:
    """What hv has to say to what xl says: it has raw images only, no empty drives, and looks at the name at once."""
    if answer is None or answer[2] != "raw" or not answer[0]:
        return None
    try:
        device_number(str(answer[1]))
    except hv.ConfigError:
        return None
    return [*answer[:5], answer[5] is not False]


def test_lockstep(xl: Callable[[str], list[object] | None]) -> None:
    source = random.Random(1)
    accepted = 0
    for _ in range(COUNT):
        words = list(source.choice(USUAL))
        for _ in range(source.randrange(4)):
            words.insert(source.randrange(len(words) + 1), source.choice(WORDS))
        text = source.choice(FIRST) + ",".join(words)
        answer = expected(xl(text))
        assert ours(text) == answer, text
        accepted += answer is not None
    assert COUNT // 20 < accepted < COUNT
