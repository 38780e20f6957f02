"""Sizes of memory as users write them; a bare number is MiB, as in xl."""

from __future__ import annotations

import pytest

import hv
from hv.machine.size import parse

GOOD = {
    "64M": 64 << 20,
    "64m": 64 << 20,
    "64MB": 64 << 20,
    "64MiB": 64 << 20,
    "64mib": 64 << 20,
    "64 M": 64 << 20,
    " 64M ": 64 << 20,
    "1G": 1 << 30,
    "1g": 1 << 30,
    "4K": 4096,
    "8192K": 8 << 20,
    "128": 128 << 20,
    128: 128 << 20,
    "1": 1 << 20,
    "0064M": 64 << 20,
    "16384": 16 << 30,
}
BAD = ("", " ", "0", "0M", "-1", "-64M", "1.5G", "64X", "M", "64MM", "64 M M", "0x40", "1e3", "5K", "1K",
       "64M;",
       "∞", "64\n1", "9" * 13, 0, -5, None, "64Mb/s", "1T")  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_good(text: str | int) -> None:
    assert parse(text) == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str | int) -> None:
    with pytest.raises(hv.ConfigError) as error:
        parse(text)
    assert str(error.value) == f"{text!r} is not a size of memory: write 64M, 1G or a number of MiB"
