"""The backend's end of a ring: in lockstep with a frontend in Python, and against indexes that can not be."""

from __future__ import annotations

import pytest
from frontend import FrontRing
from hypothesis import given, settings
from hypothesis import strategies as st

from hv.fastpath.rings import BackRing, RingError

SIZES = [(1, 112, 32), (2, 112, 64), (4, 112, 128), (16, 112, 512), (1, 12, 256), (1, 8, 256), (1, 512, 4)]


def pair(pages: int, entry: int, resume: bool = True) -> tuple[FrontRing, BackRing]:
    memory = [bytearray(4096) for _ in range(pages)]
    return FrontRing(memory, entry), BackRing([memoryview(page) for page in memory], entry, resume)


@pytest.mark.parametrize(("pages", "entry", "slots"), SIZES)
def test_size(pages: int, entry: int, slots: int) -> None:
    """__RING_SIZE of io/ring.h: the largest power of two that fits."""
    front, back = pair(pages, entry)
    assert back.size == front.size == slots


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([(1, 112), (2, 112), (3, 12), (1, 512)]), st.integers(0, 0xFFFFFFFF), st.data())
def test_lockstep(shape: tuple[int, int], start: int, data: st.DataObject) -> None:
    """Requests arrive whole, in order, responses too, over any number of laps and across 2^32."""
    front, _ = pair(*shape)
    front.req_prod = front.rsp_cons = start
    for at, value in ((0, start), (4, start + 1), (8, start), (12, start + 1)):
        front.set_word(at, value)
    back = BackRing([memoryview(page) for page in front.pages], shape[1])
    sent: list[bytes] = []
    answered: list[bytes] = []
    taken = received = 0
    for action in data.draw(st.lists(st.sampled_from("prasx"), max_size=120)):
        if action == "p" and len(sent) - received < front.size:
            sent.append(len(sent).to_bytes(shape[1], "little"))
            front.put(sent[-1])
        elif action == "r":
            request = back.take()
            assert request == (sent[taken] if taken < len(sent) else None)
            taken += request is not None
        elif action == "a" and back.open_requests:
            answered.append((1000 + len(answered)).to_bytes(8, "little"))
            back.put(answered[-1])
        elif action == "s":
            waits_for = front.word(12)
            old = front.word(8)
            notify = back.push()
            new = front.word(8)
            assert notify == (((new - waits_for) & 0xFFFFFFFF) < ((new - old) & 0xFFFFFFFF))
        elif action == "x":
            response = front.take(8)
            assert response is None or response == answered[received]
            received += response is not None
        assert back.waiting == len(sent) - taken
        assert back.open_requests == taken - len(answered)


@pytest.mark.parametrize("produced", [33, 1000, 0x80000000, 0xFFFFFFFF])
def test_overflow_is_an_error(produced: int) -> None:
    front, back = pair(1, 112)
    front.set_word(0, produced)
    for action in (back.take, back.more, lambda: back.waiting):
        with pytest.raises(RingError):
            action()


def test_full_ring_is_none() -> None:
    front, back = pair(1, 112)
    for i in range(32):
        front.put(bytes([i]))
    assert [back.take()[0] for _ in range(32)] == list(range(32))  # type: ignore[index]
    assert back.take() is None
    front.put(b"x")  # before any response: one too many
    with pytest.raises(RingError):
        back.take()


def test_request_event() -> None:
    front, back = pair(1, 112)
    assert not back.more()
    assert front.word(4) == 1
    front.put(b"x")
    assert back.more()
    back.take()
    assert not back.more()
    assert front.word(4) == 2


def test_no_response_without_a_request() -> None:
    _, back = pair(1, 112)
    with pytest.raises(ValueError, match="not more"):
        back.put(b"x")


def test_released_ring() -> None:
    _, back = pair(1, 112)
    back.release()
    back.release()
    for action in (back.take, back.push, back.more):
        with pytest.raises(RingError):
            action()


@pytest.mark.parametrize("pages", [[], [bytearray(100)], [bytes(4096)], [bytearray(4096)] * 17])
def test_what_is_no_ring(pages: list[bytearray]) -> None:
    with pytest.raises((ValueError, BufferError)):
        BackRing([memoryview(page) for page in pages], 112)


def test_resume_goes_on_at_the_responses() -> None:
    front, back = pair(1, 112)
    for i in range(5):
        front.put(bytes([i]))
        back.take()
    back.put(b"done")
    back.push()
    again = BackRing([memoryview(page) for page in front.pages], 112)
    assert [again.take()[0] for _ in range(4)] == [1, 2, 3, 4]  # type: ignore[index]
