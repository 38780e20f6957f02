"""Looking closer changes nothing: every bundled guest, stepped or full of breakpoints, is as in a free run.

What is compared: the whole trace, byte for byte, output, exit code, the clock, and at each end of a boot the registers,
run states, counts of hypercalls, exceptions and upcalls, and the latest of them with their times.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_bundled import DOMAINS, HEADERS, MADE_FOR, NAMES

import hv
from hv.machine.stops import Outcome, Stopped

SINGLY = 1500  # instructions stepped one by one; then in strides
STRIDE = 499
Drive = Callable[[hv.Machine], None]


def picture(domain: hv.Domain) -> dict[str, Any]:
    guest = domain.guest
    vcpus = range(guest.nr_vcpus)
    return {
        "ticks": domain.engine.ticks,
        "registers": [guest.registers(i) for i in vcpus],
        "runstates": [guest.runstate(i) for i in vcpus],
        "counters": [guest.vcpu_counters(i) for i in vcpus],
        "hypercalls": guest.hypercall_counts,
        "calls": guest.last_calls(),
        "entries": guest.last_entries(),
    }


def observed(image: Path, drive: Drive) -> tuple[Any, ...]:
    """Everything that a run may not change, at each end of a boot."""
    ends: list[dict[str, Any]] = []
    trace: list[bytes] = []
    with hv.Machine() as machine:
        machine.trace.subscribe_raw(trace.append)
        domains = machine.create_together(image, DOMAINS[image.name], **MADE_FOR[image.name])
        for domain in domains:
            _record_ends(domain, ends)
        drive(machine)
        results = [(domain.exit_code, domain.console.output, domain.crash_report) for domain in domains]
        now = machine.now_ns
    return results, now, ends, b"".join(trace)


def _record_ends(domain: hv.Domain, ends: list[dict[str, Any]]) -> None:
    conclude = domain.conclude

    def recording(reboot_allowed: bool) -> None:
        ends.append(picture(domain))
        conclude(reboot_allowed)

    domain.conclude = recording  # type: ignore[method-assign]


def freely(machine: hv.Machine) -> None:
    assert machine.run(timeout=60) == "ended"


def stepped(machine: hv.Machine) -> None:
    done = 0
    while not isinstance(machine.step(1 if done < SINGLY else STRIDE, timeout=60), Outcome):
        done += 1
    assert all(domain.ended for domain in machine.domains)


def full_of_breakpoints(machine: hv.Machine) -> None:
    """Before and after every hypercall, at every symbol, event, upcall, exception, and on data."""
    domain, points = machine.domains[0], machine.breakpoints
    seen: set[str] = set()

    def look(hit: Any) -> None:
        seen.add(type(hit).__name__)
        assert hit.text

    for name in [*domain.symbols.names()][:40]:
        points.at(name, callback=look)
    for row in hv_rows():
        points.hypercall(row, callback=look)
        points.hypercall(row, after=True, callback=look)
    points.event(callback=look)
    points.upcall(callback=look)
    points.exception(callback=look)

    def watch_the_stack(hit: Any) -> None:
        if not watching:
            watching.append(points.watch(domain.registers()["rsp"] - 64, 72, "access", callback=look))

    watching: list[Any] = []
    points.at("main", callback=watch_the_stack)
    freely(machine)
    assert {"CallHit", "AddressHit", "AccessHit"} <= seen


def hv_rows() -> list[str]:
    from hv.abi.hypercalls import BY_NAME

    return list(BY_NAME)


def stops_everywhere(machine: hv.Machine) -> None:
    """The same, but the machine really stops at hypercalls and upcalls, and sees them all in their order."""
    for row in hv_rows():
        machine.breakpoints.hypercall(row)
    machine.breakpoints.upcall()
    last = -1
    while machine.run(timeout=60) == "stopped":
        assert isinstance(machine.stopped, Stopped) and machine.stopped.now_ns >= last
        last = machine.stopped.now_ns


@pytest.mark.parametrize("name", NAMES)
def test_nobody_notices(name: str, images: Path) -> None:
    free = observed(images / name, freely)
    assert free[2] and free[3]
    for drive in (stepped, full_of_breakpoints, stops_everywhere):
        assert observed(images / name, drive) == free, drive.__name__


def test_headers_are_all_here() -> None:
    assert len(HEADERS) == len(NAMES) > 20
