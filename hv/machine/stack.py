"""A guest's stack as text: words with the names of what they point at, and the calls that led here.

The calls come from the chain of frame pointers where there is one. Otherwise they are a guess: every word on the stack
that points behind a call instruction, leftovers of earlier calls included. The result says which it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hv.builder.symbols import SymbolTable
from hv.machine.disassembly import Reader, follows_a_call

SCANNED = 2048  # bytes above rsp
LARGEST_FRAME = 1 << 16
MOST_CALLS = 16


def words(read: Reader, rsp: int, count: int) -> list[tuple[int, int]]:
    """(address, value) of up to `count` words from rsp on."""
    data = read(rsp, 8 * count)
    return [(rsp + 8 * i, value) for i, (value,) in enumerate(struct.iter_unpack("<Q", data[: len(data) // 8 * 8]))]


def calls(read: Reader, symbols: SymbolTable, rsp: int, rbp: int) -> tuple[list[int], bool]:
    """(return addresses, innermost first; whether frame pointers gave them)."""
    chain = list(_by_frame_pointers(read, rsp, rbp))
    if chain:
        return chain, True
    values = [value for _, value in words(read, rsp, SCANNED // 8) if symbols.find(value)]
    return [value for value in values if follows_a_call(read, value)][:MOST_CALLS], False


def _by_frame_pointers(read: Reader, rsp: int, rbp: int) -> Iterator[int]:
    lowest = rsp
    for _ in range(MOST_CALLS):
        frame = read(rbp, 16)
        if rbp % 8 or not lowest <= rbp < lowest + LARGEST_FRAME or len(frame) < 16:
            return
        lowest = rbp + 16
        rbp, back = struct.unpack("<QQ", frame)
        if not follows_a_call(read, back):
            return
        yield back
