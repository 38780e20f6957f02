"""Filters: a table of expressions with the events that they let pass, and sentences for those that cannot be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hv.errors import ConfigError
from hv.trace import filter as filters
from hv.trace.events import Event, Hypercall, Note, PortEvent, Upcall

SEND, NO_SUCH_OPERATION = 4, 99
EVENTS: dict[str, Event] = {
    "send": Hypercall(1, 0, 400, 1, 0, 32, (SEND, 0x1000, 0, 0, 0, 0), False, (), result=0),
    "bad": Hypercall(2, 0, 800, 1, 1, 32, (NO_SUCH_OPERATION, 0, 0, 0, 0, 0), True, (), result=-38),
    "none": Hypercall(3, 0, 900, 2, 0, 63, (0,) * 6, False, (), result=-38),
    "event": PortEvent(4, 1, 1000, 1, 0, 3, 4, 0, 0, False, True),
    "upcall": Upcall(5, 4, 4000, 1, 0, 0xFFFFFFFF80001000, 0xFFFFFFFF80002000, 3000, True),
    "note": Note(6, 0, 5000, 1, None, "console", "input", b"ls\r"),
}

ROWS = (
    ("hypercall", {"send", "bad", "none"}),
    ("event_channel_op", {"send", "bad"}),
    ("EVTCHNOP_send", {"send"}),
    ("op == EVTCHNOP_send", {"send"}),
    ("op ~ EVTCHNOP_*", {"send"}),
    ("op !~ EVTCHNOP_*", {"bad"}),
    ("op == '99'", {"bad"}),
    ("error", {"bad", "none"}),
    ("error == ENOSYS", {"bad", "none"}),
    ("result == -38", {"bad", "none"}),
    ("result = 0", {"send"}),
    ("number == 0x20", {"send", "bad"}),
    ("event or upcall", {"event", "upcall"}),
    ("port == 3", {"event"}),
    ("port != 4", {"event"}),
    ("port == 3 and not masked", set()),
    ("masked", {"event"}),
    ("masked == true", {"event"}),
    ("inside or kind == upcall", {"bad", "upcall"}),
    ("domain == 2", {"none"}),
    ("vcpu >= 1", {"bad"}),
    ("not vcpu >= 0", {"note"}),
    ("ns > 200 and ns <= 1_000", {"none", "event", "upcall"}),
    ("latency > 1000", {"upcall"}),
    ("rip > 0xffffffff80000fff", {"upcall"}),
    ("cause", {"event", "upcall"}),
    ("id < 3 or (domain == 1 and note)", {"send", "bad", "note"}),
    ("not (hypercall or note)", {"event", "upcall"}),
    ("not not upcall", {"upcall"}),
    ('source == "console" and data ~ "*ls*"', {"note"}),
)


@pytest.mark.parametrize(("text", "expected"), ROWS, ids=[text for text, _ in ROWS])
def test_what_passes(text: str, expected: set[str]) -> None:
    wanted = filters.parse(text)
    assert {name for name, event in EVENTS.items() if wanted(event)} == expected


def test_a_comparison_with_what_is_not_there_is_false() -> None:
    for text in ("port < 5", "port >= 5", "port != 5", "port ~ *", "port !~ *"):
        assert not filters.parse(text)(EVENTS["upcall"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "something is missing at its end"),
        ("event or", "something is missing at its end"),
        ("event upcall", "'upcall' is not expected there"),
        ("(event", "a parenthesis is not closed"),
        ("event)", "')' is not expected there"),
        ("port ==", "a value is missing behind =="),
        ("port == and", "a value is missing behind =="),
        ("colour == 3", "events have no attribute 'colour'"),
        ("EVTCHNOP_sned", "'EVTCHNOP_sned' is no kind of event"),
        ("== 3", "'==' is not expected there"),
        ("'event'", "'event' is not expected there"),
        ("port == 'x", "cannot be read"),
        ("(" * 5000, "it is nested too deeply"),
        ("not " * 5000, "it is nested too deeply"),
        ("__class__ == 1", "events have no attribute '__class__'"),
    ],
)
def test_what_cannot_be_read(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"docs/trace\.md has its grammar") as error:
        filters.parse(text)
    assert says in str(error.value)


SIGNS = ["(", ")", "==", "<", "~", "!"]
WORDS = st.sampled_from([*SIGNS, "event", "and", "or", "not", "port", "3", "'x'", "op", "sched_op", "-1"])


@given(st.lists(WORDS, max_size=12))
def test_any_text_is_a_filter_or_a_sentence(words: list[str]) -> None:
    try:
        wanted = filters.parse(" ".join(words))
    except ConfigError:
        return
    for event in EVENTS.values():
        assert wanted(event) in (True, False)
