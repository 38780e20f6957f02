"""Who has the processor: shares by weight, caps, and what a domain gets that sleeps at times. All in virtual time."""

from __future__ import annotations

import pytest
from guest_kit import assemble

import hv

MS = 1_000_000
SPIN = "main: jmp main"
IDLE = """
main:   movabs  $1 << 60, %rdi
        hypercall set_timer_op, %rdi
        hypercall sched_op, $SCHEDOP_block, $0
        jmp     main
"""


def sometimes(busy: int, idle_ns: int) -> str:
    """A guest that runs `busy` loops of 4 bytes, sleeps, and so on."""
    return f"""
        use_shared_info
main:   call    map_shared_info
again:  mov     ${busy}, %rcx
1:      dec     %rcx
        jnz     1b
        call    system_time
        add     ${idle_ns}, %rax
        mov     %rax, poll + 16
        hypercall sched_op, $SCHEDOP_poll, $poll
        jmp     again
        .data
        .balign 8
poll:   .quad   0
        .long   0, 0
        .quad   0
"""


def shares(guests: list[tuple[str, dict[str, object]]], ms: int = 400, warm_up: int = 20) -> list[float]:
    """The part of the processor that each has had over so many ms of virtual time."""
    with hv.Machine() as machine:
        domains = [machine.create(assemble(text), memory="8M", **options) for text, options in guests]  # type: ignore[arg-type]
        machine.run(until_ns=warm_up * MS, timeout=60)
        before = [domain.cpu_ns for domain in domains]
        assert machine.run(until_ns=(warm_up + ms) * MS, timeout=60) == "until"
        return [(domain.cpu_ns - had) / (ms * MS) for domain, had in zip(domains, before, strict=True)]


@pytest.mark.parametrize(
    "weights", [(256, 256), (512, 256), (100, 400), (1, 65535), (65535, 65535), (300, 200, 100), (1, 2, 3, 4, 5)]
)
def test_shares_are_as_weights(weights: tuple[int, ...]) -> None:
    """To within one turn of 1 ms each, whatever the weights are."""
    got = shares([(SPIN, {"weight": weight}) for weight in weights])
    for share, weight in zip(got, weights, strict=True):
        assert share == pytest.approx(weight / sum(weights), abs=2 / 400)
    assert sum(got) == pytest.approx(1, abs=1e-6)


def test_who_sleeps_leaves_its_share_to_others() -> None:
    assert shares([(SPIN, {"weight": 1}), (IDLE, {"weight": 65535})])[0] > 0.999


def test_who_sleeps_a_little_still_gets_what_it_wants() -> None:
    """It wants a fifth of the time: less than its half, and so it gets it, though the other never sleeps."""
    alone = shares([(sometimes(200_000, MS), {})])[0]
    beside = shares([(sometimes(200_000, MS), {}), (SPIN, {})])[0]
    assert 0.1 < alone < 0.5
    assert beside > 0.5 * alone


def test_sleep_saves_up_no_long_run() -> None:
    """After 100 ms of sleep a domain is served at once, but does not keep the other away for as long."""
    guest = "main: jmp main"
    with hv.Machine() as machine:
        sleeper, other = machine.create(assemble(guest)), machine.create(assemble(guest))
        sleeper.guest.paused = True
        machine.run(until_ns=100 * MS, timeout=60)
        sleeper.guest.paused = False
        had = other.cpu_ns
        machine.run(until_ns=110 * MS, timeout=60)
        assert sleeper.cpu_ns == pytest.approx(6 * MS, abs=1.1 * MS)
        assert other.cpu_ns - had == pytest.approx(4 * MS, abs=1.1 * MS)


def test_a_newcomer_owes_nothing() -> None:
    with hv.Machine() as machine:
        first = machine.create(assemble(SPIN))
        machine.run(until_ns=200 * MS, timeout=60)
        second = machine.create(assemble(SPIN))
        had = first.cpu_ns
        machine.run(until_ns=220 * MS, timeout=60)
        assert first.cpu_ns - had == pytest.approx(10 * MS, abs=1.1 * MS)
        assert second.cpu_ns == pytest.approx(10 * MS, abs=1.1 * MS)


@pytest.mark.parametrize(("caps", "want"), [
    ((25,), (0.25,)),
    ((1,), (0.01,)),
    ((100,), (1.0,)),
    ((10, 0), (0.1, 0.9)),
    ((30, 30), (0.3, 0.3)),
    ((80, 80), (0.5, 0.5)),
])  # fmt: skip
def test_caps(caps: tuple[int, ...], want: tuple[float, ...]) -> None:
    """No more than that, even where nobody else wants the processor; the machine idles then."""
    got = shares([(SPIN, {"cap": cap}) for cap in caps])
    for share, expected in zip(got, want, strict=True):
        assert share == pytest.approx(expected, abs=0.005)


def test_a_cap_changes_while_a_domain_runs() -> None:
    with hv.Machine() as machine:
        domain = machine.create(assemble(SPIN), cap=10)
        machine.run(until_ns=100 * MS, timeout=60)
        assert domain.cpu_ns == pytest.approx(10 * MS, rel=0.01)
        domain.guest.cap = 0
        machine.run(until_ns=200 * MS, timeout=60)
        assert domain.cpu_ns == pytest.approx(110 * MS, rel=0.01)


def test_a_capped_domain_that_sleeps_forever_is_stuck_all_the_same() -> None:
    with hv.Machine() as machine:
        machine.create(assemble("main: hypercall sched_op, $SCHEDOP_block, $0\n jmp main"), cap=50)
        assert machine.run(timeout=30) == "idle"


@pytest.mark.parametrize("piece", [777_777, 3_000_001])
def test_pieces_of_a_run_do_not_matter(piece: int) -> None:
    """Charges are made at the guests' times, not at the caller's."""

    def run(piece: int) -> list[tuple[int, ...]]:
        with hv.Machine() as machine:
            domains = [
                machine.create(assemble(SPIN), weight=300),
                machine.create(assemble(SPIN), weight=77, cap=20),
                machine.create(assemble(sometimes(50_000, 300_000))),
            ]
            for until in range(piece, 60 * MS, piece):
                machine.run(until_ns=until, timeout=60)
            machine.run(until_ns=60 * MS, timeout=60)
            return [tuple(domain.guest.runstate(0)[2]) for domain in domains]

    assert run(piece) == run(60 * MS)
