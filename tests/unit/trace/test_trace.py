"""What a trace tells about a guest: every kind of event, causes, and that nothing is lost."""

from __future__ import annotations

import hv
from hv.trace.events import Crash, Event, Hypercall, Iret, Note, PortEvent, Runstate, TimerFired, Upcall
from hv.trace.sinks.text import line


def events_of(guest: str, filter: str | None = None) -> list[Event]:
    found: list[Event] = []
    with hv.Machine() as machine:
        machine.trace.subscribe(found.append, filter)
        machine.create(guest)
        machine.run(timeout=60)
    return found


def test_a_console_write_from_the_send_to_the_answer() -> None:
    events = events_of("hello")
    by_id = {event.id: event for event in events}
    output = next(e for e in events if isinstance(e, Note) and e.what == "output")
    assert output.data == b"Hello, world!\n"
    rang = by_id[output.cause]
    assert isinstance(rang, PortEvent) and rang.domain == 0
    call = by_id[rang.cause]
    assert isinstance(call, Hypercall) and call.op == "EVTCHNOP_send" and call.result == 0
    answer = next(e for e in events if isinstance(e, PortEvent) and e.cause == rang.id)
    assert answer.domain == 1 and answer.port == 2
    assert "event_channel_op(cmd=EVTCHNOP_send, arg={port=2}) = 0" in line(call)


def test_a_timer_from_the_call_that_arms_it_to_the_end_of_its_handler() -> None:
    events = events_of("timer")
    by_id = {event.id: event for event in events}
    handled = [e for e in events if isinstance(e, Iret)]
    assert len(handled) == 5
    for iret in handled:
        upcall = by_id[iret.cause]
        assert isinstance(upcall, Upcall)
        event = by_id[upcall.cause]
        assert isinstance(event, PortEvent) and upcall.latency == upcall.ticks - event.ticks
        timer = by_id[event.cause]
        assert isinstance(timer, TimerFired) and timer.timer == "singleshot"
        armed = by_id[timer.cause]
        assert isinstance(armed, Hypercall) and armed.name == "set_timer_op"
        assert armed.registers[0] * 4 == timer.deadline
        woken = next(e for e in events if isinstance(e, Runstate) and e.cause == event.id)
        assert (woken.old, woken.new) == ("blocked", "runnable")


def test_ids_go_up_and_causes_come_before() -> None:
    for guest in ("smp", "multicall", "user", "crash"):
        seen: set[int] = set()
        for event in events_of(guest):
            assert event.id > max(seen, default=0) and (event.cause == 0 or event.cause in seen)
            seen.add(event.id)


def test_a_crash_and_its_reason() -> None:
    crash = next(e for e in events_of("crash") if isinstance(e, Crash))
    assert crash.reason.startswith("page fault #PF at address 0xdead0000") and crash.domain == 1


def test_a_filter_takes_the_same_events_out() -> None:
    wanted = "event and port == 3 or upcall"
    everything = events_of("timer")
    expected = [e for e in everything if (isinstance(e, PortEvent) and e.port == 3) or isinstance(e, Upcall)]
    assert events_of("timer", wanted) == expected and len(expected) == 10


def test_nobody_listens_nothing_is_recorded() -> None:
    with hv.Machine() as machine:
        subscription = machine.trace.subscribe(lambda event: None)
        subscription.close()
        assert not machine.trace.attached and machine.trace.note(1, "test", "nothing") == 0
        domain = machine.create("hello")
        machine.run(timeout=60)
        assert domain.exit_code == 0


def test_the_latest_are_kept_and_the_others_counted() -> None:
    everything = events_of("timer")
    with hv.Machine() as machine:
        recent = machine.trace.keep(20)
        machine.create("timer")
        machine.run(timeout=60)
        kept = recent.events()
    assert kept == everything[-20:] and recent.dropped == len(everything) - 20
    assert recent.events(3) == everything[-3:]
