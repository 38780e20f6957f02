"""XenStore in a trace: what a request asks, what it gets, and which watches it fires."""

from __future__ import annotations

import hv
from hv.trace.decoders import text
from hv.trace.events import Event


def test_a_guest_and_the_host_in_the_same_store() -> None:
    with hv.Machine() as machine:
        domain = machine.create("store")
        seen: list[Event] = []
        machine.trace.subscribe(seen.append)
        domain.console.expect("changed: control/shutdown")
        domain.shutdown()
        domain.console.expect("Asked to end.")
        machine.trace.flush()
    notes = {event.id: event for event in seen if getattr(event, "source", "") == "xenstore"}
    lines = [text(event).removeprefix("XenStore: ") for event in notes.values()]
    for line in (
        "READ name",
        'READ = "store"',
        'WRITE data/answer = "seen by all" in transaction 1',
        "= ENOENT",
        "TRANSACTION_END T in transaction 1",
        "watch event control/shutdown, token \"token\"",
        'WRITE /local/domain/1/control/shutdown = "poweroff"',
    ):
        assert line in lines
    asked = lines.index('WRITE /local/domain/1/control/shutdown = "poweroff"')
    assert lines[asked + 1 : asked + 3] == ["watch event control/shutdown, token \"token\"", "WRITE = OK"]
    request, event, reply = list(notes.values())[asked : asked + 3]
    assert (event.cause, reply.cause, event.domain, request.domain) == (request.id, request.id, 1, 0)
    first = notes[next(i for i, note in notes.items() if text(note) == "XenStore: READ name")]
    assert first.cause in {event.id for event in seen}  # what the guest did to be heard
