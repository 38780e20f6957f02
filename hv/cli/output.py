"""Files that a command writes to, and standard streams that may be closed or full.

1. What is written is written byte for byte; a slow reader makes hv wait, and with it the guest.
2. A file that cannot be written is a ConfigError, once: what is written afterwards goes nowhere, so that closing it is
   quiet. A closed pipe stays a BrokenPipeError.
3. What hv has to say on stderr is dropped where stderr takes nothing: it never changes how a command ends.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import BinaryIO, cast

from hv.errors import ConfigError

GUEST_OUTPUT = "the guest's output"  # on a standard stream, for messages


class OutputFile(io.RawIOBase):
    """A file by its path, or a descriptor that stays open; `name` is what a message calls it."""

    def __init__(self, target: str | int, name: str) -> None:
        self._name = name
        self._failed = False
        try:
            self._file = io.FileIO(target, "wb", closefd=not isinstance(target, int))
        except OSError as error:
            raise self._refusal(error) from None

    def _refusal(self, error: OSError) -> ConfigError:
        return ConfigError(f"{self._name} cannot be written: {error.strerror}")

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()

    def write(self, data: object) -> int:
        """All of it, waiting for a slow or non-blocking reader."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        size = len(view)
        while view and not self._failed:
            try:
                written = self._file.write(view)
            except OSError as error:
                self._failed = True
                if isinstance(error, BrokenPipeError):
                    raise
                raise self._refusal(error) from None
            if written is None:
                select.select([], [self._file], [])
            else:
                view = view[written:]
        return size

    def close(self) -> None:
        if not self.closed:
            self._file.close()
            super().close()


class _Spoken(OutputFile):
    """stderr: what cannot be written is not missed, unless somebody asks for the `failure`."""

    failure: ConfigError | None = None

    def write(self, data: object) -> int:
        try:
            return super().write(data)
        except ConfigError as error:
            self.failure = error
            return memoryview(data).nbytes  # type: ignore[arg-type]


def open_output(path: str, name: str) -> BinaryIO:
    """A buffered OutputFile."""
    return io.BufferedWriter(OutputFile(path, name))


def check_stderr() -> None:
    """ConfigError where something that was written to stderr is lost: for who writes results there."""
    stream: object = sys.stderr.buffer
    if isinstance(stream, _Spoken) and stream.failure is not None:
        raise stream.failure


def secure_standard_streams() -> None:
    """Give closed ones /dev/null, so that no other file gets their number; errors of writing as the rules say."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number, which is this one
            setattr(sys, name, open(descriptor, "r" if descriptor == 0 else "w", closefd=False))  # noqa: SIM115
    out, err = sys.stdout, sys.stderr
    buffered = io.BufferedWriter(OutputFile(1, "stdout"))
    sys.stdout = io.TextIOWrapper(buffered, out.encoding, out.errors, line_buffering=buffered.isatty())
    # Without a buffer, so that a trace's lines stand among those of the guest's console where they belong.
    spoken = cast(BinaryIO, _Spoken(2, "stderr"))
    sys.stderr = io.TextIOWrapper(spoken, err.encoding, err.errors, write_through=True)
