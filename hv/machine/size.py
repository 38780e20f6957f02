"""Sizes of memory as users write them: "64M", "1G"; a bare number is MiB, as in xl."""

from __future__ import annotations

import re

from hv.errors import ConfigError

UNITS = {"": 1 << 20, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse(text: str | int) -> int:
    """Bytes, a whole number of pages; ConfigError for anything else."""
    match = re.fullmatch(r"\s*(\d{1,12})\s*([kKmMgG]?)(?:[iI]?[bB])?\s*", str(text))
    size = int(match[1]) * UNITS[match[2].upper()] if match else 0
    if not size or size % 4096:
        raise ConfigError(f"{text!r} is not a size of memory: write 64M, 1G or a number of MiB")
    return size
