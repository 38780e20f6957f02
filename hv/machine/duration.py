"""Times as users write them: "100us", "5ms", "1s"."""

from __future__ import annotations

import re

UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}


def parse(text: str) -> int | None:
    """ns; None for what is no time."""
    match = re.fullmatch(r"(\d{1,9}) ?(ns|us|ms|s)", text)
    return int(match[1]) * UNITS[match[2]] if match else None
