"""The argument shapes of requests: from a payload to the arguments of a handler.

Rules: text ends with NUL; what a shape does not promise to refuse is ignored, as the daemon does.
A shape raises EINVAL. For a payload that should be one text and is not, 4.17's daemon answers with
the errno its last failing call happened to leave; here it is EINVAL, which its code means.
"""

from collections.abc import Callable
from typing import Any

from hv.core.xenstore.errors import XenStoreError

Shape = Callable[[bytes], tuple[Any, ...]]


def nothing(payload: bytes) -> tuple[()]:
    """Whatever is there is ignored."""
    return ()


def one_text(payload: bytes) -> tuple[str]:
    """Exactly one NUL, at the end."""
    if payload.find(b"\0") != len(payload) - 1 or not payload:
        raise XenStoreError("EINVAL")
    return (payload[:-1].decode("latin-1"),)


def text_and_bytes(payload: bytes) -> tuple[str, bytes]:
    """A text, then anything."""
    text, nul, rest = payload.partition(b"\0")
    if not nul:
        raise XenStoreError("EINVAL")
    return text.decode("latin-1"), rest


def texts(payload: bytes) -> tuple[list[str]]:
    """Any number of texts; what follows the last NUL is dropped."""
    return (payload.decode("latin-1").split("\0")[:-1],)


def at_least(count: int) -> Shape:
    """`count` texts or more; the handler gets `count`."""

    def shape(payload: bytes) -> tuple[str, ...]:
        found = texts(payload)[0]
        if len(found) < count:
            raise XenStoreError("EINVAL")
        return tuple(found[:count])

    return shape


def exactly(*counts: int) -> Shape:
    """One of `counts` as the number of NULs, not necessarily the last one at the end."""

    def shape(payload: bytes) -> tuple[str, ...]:
        found = payload.decode("latin-1").split("\0")
        if len(found) - 1 not in counts:
            raise XenStoreError("EINVAL")
        return tuple(found[:-1])

    return shape
