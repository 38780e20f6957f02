"""The paced clock's arithmetic: what guests are behind is made up slowly, and a wait ends when it should."""

from hypothesis import given
from hypothesis import strategies as st

from hv.engine.pacing import left_out, made_up, wait_for

SECOND = 10**9
TIMES = st.integers(0, 1 << 50)
LAGS = st.integers(-(1 << 50), 1 << 50)


@given(LAGS, TIMES)
def test_no_more_is_made_up_than_half_a_percent_nor_than_there_is(behind: int, passed: int) -> None:
    made = made_up(behind, passed)
    assert abs(made) <= passed // 200 and abs(made) <= abs(behind)
    assert made * behind >= 0


@given(TIMES, LAGS)
def test_a_wait_is_over_when_the_guests_time_has_passed(left: int, behind: int) -> None:
    wait = wait_for(left, behind)
    passed = wait + made_up(behind, wait)
    assert left - 2 <= passed <= left + 2
    assert abs(wait - left) * 199 <= left + 199


def test_a_minute_after_a_boot() -> None:
    """Three seconds behind: 0.3 s of them are made up; ten milliseconds behind: all."""
    assert wait_for(60 * SECOND, 3 * SECOND) == 60 * SECOND - 60 * SECOND // 201
    assert wait_for(60 * SECOND, SECOND // 100) == 60 * SECOND - SECOND // 100
    assert wait_for(60 * SECOND, 0) == 60 * SECOND


@given(LAGS)
def test_ten_milliseconds_are_made_up_at_once(behind: int) -> None:
    assert left_out(behind) == (behind if abs(behind) > SECOND // 100 else 0)
