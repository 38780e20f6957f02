"""Binary traces: the engine's records in a file, to be decoded later, any number of times.

16 bytes (`hv-trace`, the version of the records, ticks a ns; 32 bits each, in the machine's byte order), then records.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hv.errors import ConfigError
from hv.trace.events import TICKS_PER_NS, Event
from hv.trace.reader import Reader
from hv.trace.records import DamagedTrace, whole_records

MAGIC, VERSION = b"hv-trace", 1
HEAD = struct.Struct("=8sII")
PORTION = 1 << 20


def begin(file: BinaryIO) -> None:
    """Write a file's first bytes; what a raw subscription gives follows."""
    file.write(HEAD.pack(MAGIC, VERSION, TICKS_PER_NS))


def is_trace(path: str) -> bool:
    """Whether a file is a binary trace, by its content; a pipe is none: it can be read only once."""
    if not Path(path).is_file():
        return False
    try:
        with Path(path).open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read(path: str) -> Iterator[Event]:
    """The events of a file; ConfigError where it is damaged, after those before the damage."""
    reader = Reader()
    with Path(path).open("rb") as file:
        head = file.read(HEAD.size)
        if len(head) < HEAD.size or HEAD.unpack(head)[:2] != (MAGIC, VERSION):
            raise ConfigError(f"{path}: not a trace of this version of hv: record it again")
        rest = b""
        try:
            while portion := file.read(PORTION):
                rest += portion
                end = whole_records(rest)
                yield from reader.feed(rest[:end])
                rest = rest[end:]
        except DamagedTrace as damage:
            raise ConfigError(f"{path}: damaged: {damage}") from None
        except (ValueError, IndexError, struct.error) as damage:
            raise ConfigError(f"{path}: damaged: a record says what none can say ({damage})") from None
    yield from reader.finish()
    if rest:
        raise ConfigError(f"{path}: its last event is cut off: the recording was interrupted")
