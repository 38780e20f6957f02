"""The run loop: errors of handlers, timeouts, two machines in one process, the end of a domain."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from guest_kit import HV, ROOT, Puppet, assemble, puppet

import hv
from hv.engine.cpu import self_check, version
from hv.engine.machine import Engine

SPIN = 'main:   println "spinning"\n1:      jmp     1b'


def test_self_check() -> None:
    """Unicorn's private layout is the one that this build was made for."""
    self_check()
    assert version() == (2, 1)


# --- handlers of domain 0


def bound(p: Puppet, handler: object) -> int:
    """A channel from the puppet to `handler`; the puppet's port."""
    host = p.machine.domain0
    port = host.events.alloc_unbound(p.domain.domid)
    host.bind(port, handler)
    local = p.place(b"\0\0\0\0" + port.to_bytes(4, "little") + b"\0\0\0\0")
    assert p.hypercall("event_channel_op", 0, local) == 0
    return int.from_bytes(p.guest.read(local + 8, 4), "little")


def test_a_handler_runs_before_the_guest_goes_on() -> None:
    with puppet() as p:
        heard: list[int] = []
        port = bound(p, heard.append)
        counts = []
        for _ in range(3):
            assert p.hypercall("event_channel_op", 4, port.to_bytes(4, "little")) == 0
            counts.append(len(heard))
        assert counts == [1, 2, 3]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, hv.HvError, SystemExit])
def test_an_error_of_a_handler_is_raised_by_run(kind: type[BaseException]) -> None:
    """The first one, with its type; afterwards the machine goes on as if nothing had been."""
    with puppet() as p:
        error = kind("of the handler")

        def broken(port: int) -> None:
            raise error

        port = bound(p, broken)
        with pytest.raises(kind) as caught:
            p.hypercall("event_channel_op", 4, port.to_bytes(4, "little"))
        assert caught.value is error
        p._wait()  # the guest finishes what it was told
        assert p.alive
        with pytest.raises(kind):
            p.hypercall("event_channel_op", 4, port.to_bytes(4, "little"))
        p._wait()
        assert p.alive


def test_a_handler_must_not_run_the_machine() -> None:
    with puppet() as p:
        port = bound(p, lambda port: p.machine.run(timeout=1))
        with pytest.raises(hv.EngineError, match="runs already"):
            p.hypercall("event_channel_op", 4, port.to_bytes(4, "little"))
        p._wait()
        assert p.alive


def test_an_error_while_a_hypercall_is_served_is_raised() -> None:
    """Of hv's own: never an errno for the guest."""
    with puppet() as p:

        def broken(vcpu: int, number: int, *registers: int) -> int:
            raise ZeroDivisionError

        handler, p.guest.handler = p.guest.handler, broken
        with pytest.raises(ZeroDivisionError):
            p.hypercall("vm_assist", 0, 0)
        p.guest.handler = handler
        p._wait()
        assert p.alive


def test_handlers_may_raise_further_events() -> None:
    """Ping-pong between two handlers, a thousand times, in one hypercall."""
    with puppet() as p:
        host, count = p.machine.domain0, [0]
        first = host.events.alloc_unbound(0)
        second = host.events.bind_interdomain(0, first)

        def bounce(to: int) -> None:
            count[0] += 1
            if count[0] < 1000:
                host.guest.raise_port(to)

        host.bind(first, lambda port: bounce(second))
        host.bind(second, lambda port: bounce(first))
        port = bound(p, lambda port: bounce(first))
        assert p.hypercall("event_channel_op", 4, port.to_bytes(4, "little")) == 0
        assert count[0] >= 1000
        assert p.alive


# --- timeouts and signals

# Time jumps from tick to tick while the only vCPU sleeps: the engine has to look at the host nevertheless.
FOREVER_ASLEEP = """
main:   println "spinning"
1:      addq    $1000000, poll + sched_poll_timeout
        hypercall sched_op, $SCHEDOP_poll, $poll
        jmp     1b
        .data
        .balign 8
poll:   .quad   0                       # no port
        .long   0, 0
        .quad   0
"""


def test_a_spinning_guest_runs_into_its_timeout() -> None:
    with hv.Machine() as machine:
        domain = machine.create(assemble(SPIN))
        with pytest.raises(hv.Timeout, match=r"still running after 0\.2 s"):
            machine.run(timeout=0.2)
        assert not domain.ended
        assert domain.console.output == b"spinning\n"
        with pytest.raises(hv.Timeout):  # and again
            machine.run(timeout=0.05)


YIELD = 'main: println "spinning"\n1: hypercall sched_op, $SCHEDOP_yield\n jmp 1b'
ENDLESS = {"spin": SPIN, "yield": YIELD, "asleep": FOREVER_ASLEEP}
WAYS = [(clock, kind) for clock in ("virtual", "paced", "host") for kind in ENDLESS]


@pytest.mark.parametrize(("clock", "kind"), WAYS)
def test_control_c(kind: str, clock: str, tmp_path: Path) -> None:
    """SIGINT ends a run in progress with 130, at once: the test's patience is a busy machine's."""
    image = tmp_path / "endless"
    image.write_bytes(assemble(ENDLESS[kind]))
    command = [*HV, "run", str(image), "--clock", clock]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"spinning\n"
        time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        try:
            output, errors = run.communicate(timeout=30)
        finally:
            run.kill()
    assert (run.returncode, output) == (130, b"")
    assert b"Traceback" not in errors


@pytest.mark.parametrize(("clock", "kind"), WAYS)
def test_timeout_of_the_command(kind: str, clock: str, tmp_path: Path) -> None:
    image = tmp_path / "endless"
    image.write_bytes(assemble(ENDLESS[kind]))
    command = [*HV, "run", str(image), "--clock", clock, "--timeout", "0.2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, stdin=subprocess.DEVNULL, timeout=5)
    assert (done.returncode, done.stdout) == (124, b"spinning\n")
    assert done.stderr == b"hv: endless was still running after 0.2 s (--timeout)\n"


def test_keyboard_interrupt_reaches_the_caller() -> None:
    """Of the API: run raises it, and the machine can go on."""
    with hv.Machine() as machine:
        machine.create(assemble(SPIN))
        handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(KeyboardInterrupt):
                machine.run(timeout=20)
        finally:
            signal.signal(signal.SIGALRM, handler)
        now = machine.now_ns
        assert machine.run(until_ns=now + 1000, timeout=20) == "until"


# --- machines and domains


def test_two_machines_do_not_disturb_each_other(bundled_guests: Path) -> None:
    """Run in turns of a few microseconds, each does exactly what it does alone."""
    names = ("preempt", "timer")

    def alone(name: str) -> tuple[bytes, int]:
        with hv.Machine() as machine:
            domain = machine.create(bundled_guests / name)
            machine.run(timeout=60)
            return domain.console.output, machine.engine.ticks

    expected = [alone(name) for name in names]
    machines = [hv.Machine() for _ in names]
    domains = [machine.create(bundled_guests / name) for machine, name in zip(machines, names, strict=True)]
    until = 0
    while not all(domain.ended for domain in domains):
        until += 7_001 if until < 400_000 else 500_003
        for machine in machines:
            machine.run(timeout=60, until_ns=until)
        assert until < 10**9
    for machine, domain, (output, ticks) in zip(machines, domains, expected, strict=True):
        assert (domain.console.output, machine.engine.ticks) == (output, ticks)
        machine.close()


def test_a_machine_inside_another_machines_handler(bundled_guests: Path) -> None:
    with puppet() as p:
        codes = []

        def nested(port: int) -> None:
            with hv.Machine() as other:
                domain = other.create(bundled_guests / "user")
                other.run(timeout=20)
                codes.append(domain.exit_code)

        port = bound(p, nested)
        assert p.hypercall("event_channel_op", 4, port.to_bytes(4, "little")) == 0
        assert codes == [0]
        assert p.alive


def test_memory_of_a_destroyed_domain_is_cleared() -> None:
    with hv.Machine(memory="64M") as machine:
        p = Puppet(machine)
        frames = [mfn for mfn in range(machine.engine.nr_frames) if machine.engine.frame(mfn)[0] == p.domain.domid]
        assert len(frames) >= 2048
        for index in range(32):
            p.store(p.page(index), 0x5EC4E7)
        p.guest.shut_down(0)
        machine.run(timeout=5)
        assert p.domain.ended
        assert [mfn for mfn in frames if machine.engine.frame(mfn) != (None, "none", 0, 0, False)] == []
        assert [mfn for mfn in frames if any(machine.engine.page(mfn))] == []
        q = Puppet(machine)  # the same frames again, in another order
        assert q.alive
        assert [q.load(q.page(index)) for index in range(32)] == [0] * 32


def test_memory_is_given_back_and_used_again() -> None:
    """A machine of 64 MiB runs 40 MiB guests as often as one likes, but not two at once."""
    with hv.Machine(memory="64M") as machine:
        for _ in range(5):
            domain = machine.create(assemble("main: ret"), memory="40M")
            with pytest.raises(hv.ConfigError, match="no 40M of memory left"):
                machine.create(assemble("main: ret"), memory="40M")
            machine.run(timeout=20)
            assert domain.exit_code == 0


@pytest.mark.parametrize("vcpus", [1, 2, 33, 64])
def test_vcpus(vcpus: int) -> None:
    with hv.Machine() as machine:
        domain = machine.create(assemble("main: ret"), vcpus=vcpus)
        assert domain.guest.nr_vcpus == vcpus
        assert [domain.guest.vcpu_state(i) for i in range(vcpus)] == ["runnable", *["down"] * (vcpus - 1)]
        machine.run(timeout=20)
        assert domain.exit_code == 0


@pytest.mark.parametrize("vcpus", [-1, 0, 65, 1 << 40])
def test_impossible_vcpus(vcpus: int) -> None:
    with hv.Machine() as machine, pytest.raises(hv.ConfigError, match=re.escape(f"{vcpus} vCPUs")):
        machine.create(assemble("main: ret"), vcpus=vcpus)


def test_engine_refuses_what_it_can_not_do() -> None:
    engine = Engine(64 << 20)
    engine.create_domain(0)
    one = engine.create_domain(1)
    for attempt in (
        lambda: engine.create_domain(1),
        lambda: engine.create_domain(2, 0),
        lambda: engine.create_domain(2, 65),
    ):
        with pytest.raises(hv.EngineError):
            attempt()
    with pytest.raises(IndexError):
        engine.page(engine.nr_frames)
    with pytest.raises(IndexError):
        engine.frame(engine.nr_frames)
    engine.destroy_domain(one)
    engine.destroy_domain(one)  # twice is nothing
    with pytest.raises(hv.EngineError, match="destroyed"):
        one.populate(0)
    assert engine.run() == "idle"


GONE = """
import sys
import hv
with hv.Machine() as machine:
    domain = machine.create(open(sys.argv[1], "rb").read())
    machine.run(timeout=20)
    guest = domain.guest
    attempts = {
        "hypercall_counts": lambda: guest.hypercall_counts,
        "registers": guest.registers,
        "close_port": lambda: guest.close_port(1),
        "free_port": guest.free_port,
        "port_events": lambda: guest.port_events(1),
        "raise_virq": lambda: guest.raise_virq(0, 0),
        "send": lambda: guest.send(1),
        "unmask": lambda: guest.unmask(1),
        "set_priority": lambda: guest.set_priority(1, 0),
        "init_control": lambda: guest.init_control(0, 5, 0),
        "expand_array": lambda: guest.expand_array(5),
        "leave_fifo": guest.leave_fifo,
        "raise_port": lambda: guest.raise_port(1),
        "port": lambda: guest.port(1),
        "set_port": lambda: guest.set_port(1, 0),
        "walk": lambda: guest.walk(0),
        "read": lambda: guest.read(0, 8),
        "write": lambda: guest.write(0, b"x"),
        "populate": lambda: guest.populate(0),
        "release": lambda: guest.release(5),
        "owns": lambda: guest.owns(5),
        "pin_root": lambda: guest.pin_root(5),
        "get_type": lambda: guest.get_type(5, "l1"),
        "put_type": lambda: guest.put_type(5),
        "set_gdt": lambda: guest.set_gdt(0, [], 0),
        "drain": guest.drain,
        "bind_handler": lambda: guest.bind_handler(1, print),
        "unbind_handler": lambda: guest.unbind_handler(1),
        "mask": lambda: guest.mask(1),
        "delivered": lambda: guest.delivered(1),
        "shut_down": lambda: guest.shut_down(0),
        "vcpu_state": lambda: guest.vcpu_state(0),
        "vcpu_counters": guest.vcpu_counters,
        "start_vcpu": lambda: guest.start_vcpu(0, rip=0, rsp=0, rsi=0, root=0),
        **{name: (lambda name=name: getattr(guest, name)) for name in (
            "vm_assist", "ended", "crashed", "shutdown_code", "reason", "crash_address", "current_vcpu", "nr_vcpus",
            "shared_mfn", "nr_pages", "max_pages", "max_port", "paused", "nr_ports", "fifo")},
    }
    for name in sys.argv[2:] or attempts:
        print(name, end=" ", flush=True)
        try:
            attempts[name]()
            print("works", flush=True)
        except (hv.EngineError, IndexError, KeyError) as error:
            print(error, flush=True)
"""


def test_a_domain_that_is_gone_can_be_asked(tmp_path: Path) -> None:
    """`Domain.guest` stays where a user may reach it: an error, never a crash of the process."""
    image = tmp_path / "image"
    image.write_bytes(assemble("main: ret"))
    done = subprocess.run(
        [sys.executable, "-c", GONE, str(image)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"it died of `{lines[-1] if lines else ''}`: {done.stderr[-300:]}"
    assert [line for line in lines if "destroyed" not in line] == []


def test_closing_a_machine_with_a_live_guest() -> None:
    with hv.Machine() as machine:
        domain = machine.create(assemble(SPIN))
        machine.run(until_ns=100_000, timeout=20)
    assert domain.ended
