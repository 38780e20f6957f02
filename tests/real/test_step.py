"""`hv step` on guests that nobody here wrote: GRUB, which has no symbols, and what it does is what it does without."""

from __future__ import annotations

from pathlib import Path

import hv
from hv.debug.session import Session
from hv.machine.stops import Outcome


def sitting(machine: hv.Machine, said: list[str]) -> Session:
    return Session(machine, lambda line, style: said.append(line), timeout=60)


def test_grub_by_a_script(grub: Path) -> None:
    said: list[str] = []
    with hv.Machine() as machine:
        domain = machine.create(grub, memory="128M")
        session = sitting(machine, said)
        for line in ("break hypercall sched_op", "c", "bt", "delete", "break xenstore device", "c", "trace 6", "i e"):
            session.execute(line)
        assert "before sched_op(cmd=SCHEDOP_yield" in said[1] and said[2].endswith("syscall")
        assert any("XenStore: DIRECTORY device/vbd" in line for line in said)
        said.clear()
        for line in ("delete", "finish", "next 5", "x/3i $rip", "walk rip", "send halt\\r", "c"):
            session.execute(line)
        assert said[-1] == f"{domain.name} powered off" and domain.exit_code == 0


def test_grub_does_not_notice(grub: Path) -> None:
    """Stops at every hypercall, and a stretch of single steps: trace, output and time as in a free run."""

    def run(closely: bool) -> tuple[bytes, bytes, int]:
        trace: list[bytes] = []
        with hv.Machine() as machine:
            machine.trace.subscribe_raw(trace.append)
            domain = machine.create(grub, memory="128M")
            domain.console.send("halt\r")
            if closely:
                for name in ("sched_op", "event_channel_op", "set_timer_op", "mmu_update"):
                    machine.breakpoints.hypercall(name)
                while machine.run(timeout=60) == "stopped" and machine.now_ns < 3_000_000:
                    assert not isinstance(machine.step(100, domain), Outcome)
                machine.breakpoints.clear()
                assert not isinstance(machine.step(20_000), Outcome)
            assert machine.run(timeout=60) == "ended"
            output, now = domain.console.output, machine.now_ns
        return output, b"".join(trace), now

    assert run(closely=True) == run(closely=False)
