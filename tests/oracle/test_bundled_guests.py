"""Bundled guests do on real Xen, as its domain 0, what they do on hv as a domU: the same image, the same output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from guest_kit import build

from hv.testing import xen_in_qemu

NOT_AS_DOMAIN_0 = {
    "bench": "its figures are of this machine",
    "pingpong": "it needs two vCPUs, Xen has one here",
    "latency": "its times are those of hv's virtual clock",
    "sources": "it needs an interrupt line that nobody raises there",
    "store": "it talks to XenStore, which on a real host domain 0 serves",
    "share": "it is made for two domains",
    "ring": "it is made for two domains",
    "echo": "it is made for two domains",
    "neighbour": "it is made for two domains",
    "bench-pingpong": "it is made for two domains",
    "console-echo": "it reads its console's ring, which domain 0 does not have",
    "preempt": "its counts are those of hv's virtual clock",
}
# Guests that run on real Xen in QEMU only up to the line that begins so, and why.
ONLY_UP_TO = {
    "debug": ("single step and watchpoint", "QEMU's CPU goes on stepping inside Xen, for ever"),
}
# Lines that begin so differ, and why.
DIFFERENT_LINES = {
    "balloon": {"one more than the maximum": "domain 0 has no maximum"},
    "start_info": {
        "privileged": "domain 0 is",
        "the page tables lie behind the console page": "domain 0 has none",
        "console": "domain 0 has none",
        "store": "domain 0 has none",
        "clock": "the TSC is this machine's",
    },
    "runstate": {
        "the times of vCPU 0": "domain 0's vCPUs are not made at the same time",
        "slept": "real time passes: it may wake late",
        "vCPU 1 computed": "this CPU's speed",
        "vCPU 0 waited": "the same, and Xen's scheduler",
    },
    "timer": {"tick": "real time passes while it runs: a tick may be late, or seen twice"},
    "traps": {"int 0x81": "Debian's QEMU 7.2 has an error in the error code of `int n`"},
}
HEADERS = [build.read_header(source) for source in sorted(Path(build.ROOT).glob("*.s"))]
COMPARED = [header for header in HEADERS if header["name"] not in NOT_AS_DOMAIN_0.keys() | ONLY_UP_TO.keys()]


@pytest.mark.parametrize("guest", COMPARED, ids=[header["name"] for header in COMPARED])
def test_does_the_same_on_real_xen(guest: dict[str, Any], bundled_guests: Path) -> None:
    outcome = xen_in_qemu.run(bundled_guests / guest["name"], vcpus=guest["vcpus"])
    different = tuple(DIFFERENT_LINES.get(guest["name"], {}))

    def common(text: str) -> list[str]:
        return [line for line in text.splitlines() if not (different and line.startswith(different))]

    assert common(outcome.output) == common(guest["output"]), outcome.xen
    assert len(outcome.output.splitlines()) == len(guest["output"].splitlines())
    assert outcome.exit_code == guest["exit"], outcome.xen


@pytest.mark.parametrize("guest", [header for header in HEADERS if header["name"] in ONLY_UP_TO], ids=list(ONLY_UP_TO))
def test_does_the_same_as_far_as_qemu_can(guest: dict[str, Any], bundled_guests: Path) -> None:
    last, _ = ONLY_UP_TO[guest["name"]]
    expected = guest["output"].partition(last)[0]
    assert expected
    with xen_in_qemu.Session(bundled_guests / guest["name"], vcpus=guest["vcpus"]) as session:
        session.wait(lambda: last in session.output, timeout=60)
        assert session.output.partition(last)[0] == expected


def test_every_exception_is_of_a_guest() -> None:
    assert NOT_AS_DOMAIN_0.keys() | ONLY_UP_TO.keys() | DIFFERENT_LINES.keys() <= {header["name"] for header in HEADERS}
