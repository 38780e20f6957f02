"""What a vCPU's state comes to, said from causes: who took it down, what it waits for, which deadlines have passed.

The engine (hv/fastpath/vcpu.pyx, hv/engine/clock.pyx) changes flags, queues and run states step by step. The model has
no scheduler: it says from the causes alone who is offline, who sleeps, who wants the CPU, and which timers have gone
off by a given time.

Specification: Xen 4.17's common/sched/core.c and common/domain.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Vcpu:
    """One vCPU; times are ns of system time, None is unarmed."""

    down: bool = False
    polling: bool = False
    pending: bool = False  # its one port, which VIRQ_TIMER is bound to, and which it polls
    singleshot: int | None = None
    poll_timeout: int | None = None

    def event(self) -> None:
        """Its port's event: nothing where it is pending already."""
        if not self.pending:
            self.pending = True
            self.polling = False

    def pass_time(self, now: int) -> None:
        """Every deadline up to `now` is met; a poll's timeout outlives the poll."""
        deadlines = [(at, kind) for at, kind in ((self.singleshot, "singleshot"), (self.poll_timeout, "poll")) if at]
        for at, kind in sorted(deadlines):
            if at <= now and kind == "singleshot":
                self.singleshot = None
                self.event()
            elif at <= now:
                self.poll_timeout = None
                self.polling = False

    def run_states(self) -> set[str]:
        """The run states that it may be in now."""
        if self.polling:
            return {"blocked"}
        return {"offline"} if self.down else {"running", "runnable"}


@dataclass
class Domain:
    """All vCPUs, and whether the domain is paused from outside."""

    vcpus: list[Vcpu] = field(default_factory=list)
    paused: bool = False

    def pass_time(self, now: int) -> None:
        for vcpu in self.vcpus:
            vcpu.pass_time(now)

    def may_go_down(self, index: int) -> bool:
        """The last one that goes down would end the domain."""
        return any(not vcpu.down for i, vcpu in enumerate(self.vcpus) if i != index)

    def run_states(self, index: int) -> set[str]:
        states = self.vcpus[index].run_states()
        return {"offline"} if self.paused and "blocked" not in states else states
