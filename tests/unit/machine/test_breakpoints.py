"""Breakpoints, watchpoints and steps through the Python interface: what stops the machine, where, and what it says."""

from typing import Any

import pytest
from guest_kit import assemble

import hv
from hv.machine.stops import (
    AccessHit,
    AddressHit,
    CallHit,
    Crashed,
    EventHit,
    ExceptionHit,
    HostHit,
    Outcome,
    ReturnHit,
    Stepped,
    UpcallHit,
)

# A loop of ten rounds that writes `counter`; a block that runs on into the next page; a fault that a handler skips.
GUEST = """
main:   hypercall set_trap_table, $table
        mov     $10, %ebx
1:      call    round
        dec     %ebx
        jnz     1b
        jmp     edge
        .globl  round
round:  incq    counter
        mov     counter, %rax
        ret
        .globl  after
after:  hypercall xen_version, $XENVER_version
        .globl  fault
fault:  ud2
        .globl  good
good:   ret
        entry   on_ud, skip
skip:   addq    $2, frame_rip(%rdi)
        ret
        .balign 4096
        .skip   4096 - 3
edge:   nop
        nop
        nop
        .globl  beyond
beyond: nop
        jmp     after
        .data
        .balign 8
        .globl  counter
counter: .quad  0
table:  trap    6, 0, on_ud
        trap    0, 0, 0
"""


@pytest.fixture
def machine() -> Any:
    with hv.Machine() as machine:
        machine.create(assemble(GUEST))
        yield machine


def stops(machine: hv.Machine) -> list[Any]:
    found = []
    while machine.run(timeout=20) == "stopped":
        found.append(machine.stopped)
    return found


def test_an_address(machine: hv.Machine) -> None:
    domain = machine.domains[0]
    made = machine.breakpoints.at("round")
    found = stops(machine)
    assert [type(stop) for stop in found] == [AddressHit] * 10 and made.hits == 10
    assert found[0].text == "breakpoint 1: at round" and found[0].domain is domain
    assert domain.exit_code == 0


def test_an_address_that_a_block_of_the_page_before_runs_into(machine: hv.Machine) -> None:
    machine.breakpoints.at("beyond")
    machine.breakpoints.at(machine.domains[0].symbols.address("beyond") - 1, once=True)
    assert [stop.breakpoint.number for stop in stops(machine)] == [2, 1]


@pytest.mark.parametrize(
    ("condition", "hits"),
    [("rbx == 3", 1), ("$rbx > 7 && rbx != 9", 2), ("[counter] % 2", 5), ("ebx < 3 or vcpu == 1", 2), ("0", 0)],
)
def test_a_condition(condition: str, hits: int, machine: hv.Machine) -> None:
    machine.breakpoints.at("round", condition=condition)
    assert len(stops(machine)) == hits


def test_a_condition_that_cannot_be_decided_stops(machine: hv.Machine) -> None:
    machine.breakpoints.at("round", condition="[8] == 1", once=True)
    (stop,) = stops(machine)
    assert stop.note == "the condition cannot be decided: nothing can be read at 0x8"


def test_a_callback_decides(machine: hv.Machine) -> None:
    seen = []

    def look(hit: AddressHit) -> bool:
        seen.append(hit.domain.registers()["rbx"])
        return seen[-1] == 6

    machine.breakpoints.at("round", callback=look)
    assert len(stops(machine)) == 1
    assert seen == list(range(10, 0, -1))


def test_a_callbacks_exception_comes_out_of_run(machine: hv.Machine) -> None:
    machine.breakpoints.at("round", callback=lambda hit: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        machine.run(timeout=20)


def test_deleted_disabled_and_other_vcpus(machine: hv.Machine) -> None:
    points = machine.breakpoints
    made = points.at("round")
    points.at("round", vcpu=1)
    assert machine.run(timeout=20) == "stopped"
    made.enabled = False
    points.changed()
    points.at("good")
    assert machine.run(timeout=20) == "stopped"
    assert machine.stopped is not None and machine.stopped.text == "breakpoint 3: at good"
    points.delete(points[3])
    assert stops(machine) == [] and [point.number for point in points] == [1, 2]


def test_hypercalls_before_and_after(machine: hv.Machine) -> None:
    machine.breakpoints.hypercall("xen_version")
    machine.breakpoints.hypercall("xen_version", after=True)
    before, after = stops(machine)
    assert isinstance(before, CallHit) and before.args[0] == 0 and before.element == 0
    assert isinstance(after, ReturnHit) and after.result == 0x40011
    assert before.text.startswith("breakpoint 1: before xen_version(cmd=XENVER_version, arg=0x")
    assert after.text.startswith("breakpoint 2: after xen_version(cmd=XENVER_version") and after.text.endswith(
        "0x40011"
    )
    assert after.now_ns > before.now_ns


def test_only_one_operation(machine: hv.Machine) -> None:
    machine.breakpoints.hypercall("sched_op", operation="SCHEDOP_shutdown")
    machine.breakpoints.hypercall("sched_op", operation="SCHEDOP_block")
    assert [stop.breakpoint.number for stop in stops(machine)] == [1]


def test_an_operation_that_goes_on() -> None:
    """The bits behind the number say with which extent a call continues: it is the same operation."""
    with hv.Machine() as machine:
        machine.create(assemble("main: hypercall memory_op, $XENMEM_decrease_reservation | 3 << 6, $0\n ret"))
        machine.breakpoints.hypercall("memory_op", operation="XENMEM_decrease_reservation")
        (stop,) = stops(machine)
    assert stop.args[0] == 1 | 3 << 6


def test_elements_of_a_multicall() -> None:
    with hv.Machine() as machine:
        machine.create("multicall")
        machine.breakpoints.hypercall("mmu_update", condition="arg2 == 1")
        machine.breakpoints.hypercall("mmu_update", after=True, condition="s64(rsp) and result != 0")
        before, after = stops(machine)
    assert before.element == 7 and "element 7 of a multicall" in before.text
    assert after.result == -22


def test_events_and_upcalls() -> None:
    with hv.Machine() as machine:
        domain = machine.create("timer")
        machine.breakpoints.event(condition="port > 2")
        machine.breakpoints.upcall()
        found = stops(machine)
        assert domain.exit_code == 0
    events = [stop for stop in found if isinstance(stop, EventHit)]
    upcalls = [stop for stop in found if isinstance(stop, UpcallHit)]
    assert len(upcalls) == 5 and "VIRQ_TIMER" in events[0].text
    port = events[-1].port
    with hv.Machine() as machine:
        machine.create("timer")
        machine.breakpoints.upcall(port)
        machine.breakpoints.upcall(port + 1)
        assert {stop.breakpoint.number for stop in stops(machine)} == {1}


def test_exceptions(machine: hv.Machine) -> None:
    machine.breakpoints.exception(6)
    machine.breakpoints.exception(14)
    (stop,) = stops(machine)
    assert isinstance(stop, ExceptionHit) and stop.vector == 6
    assert stop.text == "breakpoint 1: invalid opcode #UD, from fault"


@pytest.mark.parametrize(("access", "hits"), [("write", 10), ("read", 20), ("access", 20)])
def test_a_watchpoint(access: str, hits: int, machine: hv.Machine) -> None:
    machine.breakpoints.watch("counter", access=access)
    found = stops(machine)
    assert len(found) == hits and isinstance(found[0], AccessHit)
    writes = [stop for stop in found if stop.write]
    assert [(stop.old[0], stop.new[0]) for stop in writes] == [(i, i + 1) for i in range(10)][: len(writes)]
    if access == "write":
        assert found[0].text == "breakpoint 1: write of 8 bytes at counter, by round; 0x0 -> 0x1"


def test_a_watchpoint_watches_its_bytes_only(machine: hv.Machine) -> None:
    address = machine.domains[0].symbols.address("counter")
    machine.breakpoints.watch(address + 8, 1)
    machine.breakpoints.watch(address - 1, 1)
    machine.breakpoints.watch(address + 7, 1)
    assert {stop.breakpoint.number for stop in stops(machine)} == {3}


def test_steps(machine: hv.Machine) -> None:
    domain = machine.domains[0]
    start = domain.registers()["rip"]
    stop = machine.step()
    assert isinstance(stop, Stepped) and stop.domain is domain and stop.vcpu == 0
    assert 0 < domain.registers()["rip"] - start <= 15
    machine.breakpoints.at("round", once=True)
    assert isinstance(machine.step(100_000), AddressHit)
    assert domain.registers()["rip"] == domain.symbols.address("round")
    machine.step(2)
    assert domain.registers()["rax"] == 1
    assert machine.step(100_000) == Outcome(now_ns=machine.now_ns, outcome="ended")
    with pytest.raises(hv.DomainEnded):
        machine.step(domain=domain)


def test_steps_of_one_vcpu() -> None:
    with hv.Machine() as machine:
        domain = machine.create("smp")
        while domain.guest.vcpu_state(1) != "runnable":
            machine.step(50)
        for _ in range(20):
            stop = machine.step(domain=domain, vcpu=1)
            assert isinstance(stop, Outcome) or stop.vcpu == 1  # type: ignore[attr-defined]


def test_a_crash_can_be_looked_at() -> None:
    with hv.Machine() as machine:
        domain = machine.create("crash")
        machine.stop_at_crash = True
        assert machine.run(timeout=20) == "stopped"
        assert isinstance(machine.stopped, Crashed) and "page fault" in machine.stopped.text
        assert domain.registers()["rbx"] == 0xDEAD0000 and domain.exit_code is None
        assert machine.run(timeout=20) == "ended" and domain.exit_code == 6


def test_a_breakpoint_survives_a_reboot() -> None:
    image = assemble(
        """
        .globl  again
main:
again:  movl    $SHUTDOWN_reboot, stop
        hypercall sched_op, $SCHEDOP_shutdown, $stop
        .data
stop:   .long   0
"""
    )
    with hv.Machine() as machine:
        domain = machine.create(image)
        machine.reboot_limit = 3
        machine.breakpoints.at("again")
        found = stops(machine)
    assert len(found) == 4 and domain.reboots == 3


def test_a_breakpoint_of_one_domain() -> None:
    image = assemble(GUEST)
    with hv.Machine() as machine:
        machine.create(image)
        second = machine.create(image)
        machine.breakpoints.at("round", second)
        found = stops(machine)
    assert len(found) == 10 and all(stop.domain is second for stop in found)


def test_hvs_own_side(machine: hv.Machine) -> None:
    domain = machine.domains[0]
    made = machine.breakpoints.host("something")
    machine.breakpoints.at("good", callback=lambda hit: machine.breakpoints.note(made, domain, "something happened"))
    (stop,) = stops(machine)
    assert isinstance(stop, HostHit) and stop.text == "breakpoint 1: something happened"


def test_expect_says_that_a_breakpoint_came_first(machine: hv.Machine) -> None:
    machine.breakpoints.at("round")
    with pytest.raises(hv.Timeout, match="before the machine stopped: breakpoint 1: at round"):
        machine.domains[0].console.expect("anything")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda points: points.at("nowhere"), "test has no symbol 'nowhere'"),
        (lambda points: points.at(-1), "is no address"),
        (lambda points: points.hypercall("nothing"), "'nothing' is no hypercall: hv hypercalls lists them"),
        (lambda points: points.hypercall("sched_op", operation="x"), "sched_op has no operation 'x'"),
        (lambda points: points.event(0), "there is no event channel 0"),
        (lambda points: points.upcall(131072), "there is no event channel 131072"),
        (lambda points: points.exception(256), "there is no vector 256"),
        (lambda points: points.watch("counter", 0), "0 bytes cannot be watched there"),
        (lambda points: points.watch("counter", access="execute"), "'execute' is no access"),
        (lambda points: points.at("round", condition="rbx ="), "is not an expression of hv"),
        (lambda points: points[7], "there is no breakpoint 7"),
        (lambda points: points.at("round") and points._machine.step(0), "0 instructions cannot be stepped"),
    ],
)
def test_mistakes(make: Any, sentence: str, machine: hv.Machine) -> None:
    with pytest.raises(hv.HvError) as caught:
        make(machine.breakpoints)
    assert sentence.replace("test has", "image has") in str(caught.value)


def test_setting_registers(machine: hv.Machine) -> None:
    guest = machine.domains[0].guest
    machine.breakpoints.at("round", once=True)
    machine.run(timeout=20)
    guest.set_register(0, "rbx", 1)
    guest.set_register(0, "rflags", (1 << 64) - 1)
    assert guest.registers()["rbx"] == 1
    assert guest.registers()["rflags"] & 0x23000 == 0, "neither IOPL nor VM can be set"
    guest.set_register(0, "rflags", 2)
    machine.breakpoints.at("round")
    assert stops(machine) == [] and machine.domains[0].exit_code == 0


@pytest.mark.parametrize(("name", "value", "error"), [("cs", 3, KeyError), ("rip", 1 << 47, ValueError)])
def test_registers_that_cannot_be_set(name: str, value: int, error: type[Exception], machine: hv.Machine) -> None:
    with pytest.raises(error):
        machine.domains[0].guest.set_register(0, name, value)


def test_xenstore() -> None:
    with hv.Machine() as machine:
        domain = machine.create("store")
        machine.breakpoints.store("data")
        machine.breakpoints.store("/local/domain/1/control/shutdown", domain)
        found = stops(machine)
        assert domain.exit_code == 0
    texts = [stop.text for stop in found]
    assert all(isinstance(stop, HostHit) for stop in found)
    assert texts[0].startswith("breakpoint 1: XenStore: WRITE data/greeting") and ", answer: WRITE = OK" in texts[0]
    assert any("watch event control/shutdown" in text and text.startswith("breakpoint 2") for text in texts)


def test_xenstore_asked_by_a_tool() -> None:
    with hv.Machine() as machine:
        domain = machine.create("store")
        machine.breakpoints.at("main", once=True)
        assert machine.run(timeout=20) == "stopped"
        made = machine.breakpoints.store("data")
        machine.xenstore.write(f"/local/domain/{domain.domid}/data/x", b"1")
        assert machine.run(timeout=20) == "stopped"
        assert machine.stopped is not None and "data/x" in machine.stopped.text
        machine.breakpoints.delete(made)
        assert stops(machine) == []
