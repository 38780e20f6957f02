"""The binary records of hv/fastpath/trace.pxd, as Python reads them.

A record is 8-byte words in the machine's byte order: size in words, kind, flags, domid, vCPU (16 bits each, but kind
and flags 8), id, cause, ticks; then the words of its kind; then, for hypercalls, pieces of guest memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

CALL, RETURN, EVENT, UPCALL, EXCEPTION, SYSCALL, FAILSAFE, IRET = range(1, 9)
TIMER, RUNSTATE, PAGE_TABLE, CRASH, SHUTDOWN, DESTROY, NOTE, GRANT = range(9, 17)
INSIDE, SOFTWARE, KERNEL, MERGED, MASKED, AGAIN = 1, 2, 4, 8, 16, 32
NOBODY = 0xFFFF
UNKNOWN_ADDRESS = (1 << 64) - 1

HEADER = struct.Struct("=HBBHHQQQ")
CHUNK = struct.Struct("=BBHIQ")
COUNTS = (0, 7, 2, 4, 3, 5, 2, 2, 2, 2, 2, 5, 2, 1, 1, 1, 7)  # of words, by kind
WORDS = [struct.Struct(f"={count}Q") for count in COUNTS]


class Record(NamedTuple):
    """One record; `rest` is what stands behind its words."""

    kind: int
    flags: int
    domid: int
    vcpu: int
    id: int
    cause: int
    ticks: int
    words: tuple[int, ...]
    rest: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A copy of guest memory that a call's register points at (`nested`: by a pointer in what it points at).

    `data` is shorter than `whole` bytes where the rest could not be read, or is more than a trace keeps.
    """

    register: int
    nested: bool
    address: int
    whole: int
    data: bytes


def records(data: bytes) -> Iterator[Record]:
    """The records in what an engine's trace sink was given."""
    at, unpack, header = 0, HEADER.unpack_from, HEADER.size
    while at < len(data):
        size, kind, flags, domid, vcpu, number, cause, ticks = unpack(data, at)
        words = WORDS[kind]
        rest = data[at + header + words.size : at + size * 8]
        yield Record(kind, flags, domid, vcpu, number, cause, ticks, words.unpack_from(data, at + header), rest)
        at += size * 8


class DamagedTrace(Exception):
    """These bytes are no records."""


def whole_records(data: bytes) -> int:
    """How many bytes of `data` are whole records; DamagedTrace where one can not be. For what comes from outside."""
    at = 0
    while at + HEADER.size <= len(data):
        size, kind, *_ = HEADER.unpack_from(data, at)
        if not 0 < kind < len(COUNTS) or size * 8 < HEADER.size + COUNTS[kind] * 8:
            raise DamagedTrace(f"no record begins at byte {at}")
        if at + size * 8 > len(data):
            break
        at += size * 8
    return at


def pieces(rest: bytes) -> tuple[Piece, ...]:
    """The copies of guest memory at a record's end."""
    found = []
    at = 0
    while at < len(rest):
        register, nested, got, whole, address = CHUNK.unpack_from(rest, at)
        at += CHUNK.size
        found.append(Piece(register, bool(nested), address, whole, rest[at : at + got]))
        at += got + 7 & ~7
    return tuple(found)
