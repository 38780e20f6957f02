"""Numbers in payloads, read as C's atoi reads them: anything is a number."""

import re

_LEADING = re.compile(r"[ \t-\r]*([+-]?[0-9]+)")
_LONG_MAX = (1 << 63) - 1


def atoi(text: str) -> int:
    """The leading decimal number as a signed 32-bit integer; 0 if there is none."""
    match = _LEADING.match(text)
    if match is None:
        return 0
    value = min(max(int(match[1]), -_LONG_MAX - 1), _LONG_MAX) & 0xFFFFFFFF
    return value - ((value & 0x80000000) << 1)


def domid(text: str) -> int:
    """A domain id as the daemon stores it: an unsigned 32-bit integer."""
    return atoi(text) & 0xFFFFFFFF
