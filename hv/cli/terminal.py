"""The user's end of a guest's console: raw terminal, pipe or file in. (What comes out: output.py.)

Rules:

1. A terminal is restored whatever happens; Ctrl-] leaves.
2. What a pipe or file holds is passed on as it can be read; its end does not end the run.
"""

from __future__ import annotations

import os
import re
import select
import signal
import stat
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

ESCAPE = 0x1D  # Ctrl-]
CHUNK = 65536
T = TypeVar("T")


class Left(Exception):
    """The user typed Ctrl-]."""


class ConsoleInput:
    """Standard input as a machine's input: passes bytes to `feed`."""

    def __init__(self, descriptor: int, feed: Callable[[bytes], None]) -> None:
        self._descriptor = descriptor
        self._feed = feed
        self.terminal = os.isatty(descriptor)
        self._regular = not self.terminal and stat.S_ISREG(os.fstat(descriptor).st_mode)
        self.open = True

    def poll(self) -> None:
        while self.open and self._readable(0):
            data = os.read(self._descriptor, CHUNK)
            if not data:
                self.open = False
                return
            if self.terminal and ESCAPE in data:
                self._feed(data[: data.index(ESCAPE)])
                raise Left
            self._feed(data)

    def fileno(self) -> int:
        return self._descriptor

    def _readable(self, seconds: float | None) -> bool:
        return self._regular or bool(select.select([self._descriptor], [], [], seconds)[0])


class RawTerminal:
    """Raw input for the time of a run: every key goes to the guest.

    A signal that ends hv restores the terminal first; SIGTSTP (Ctrl-Z is the guest's, but others may send it) gives the
    terminal back for as long as hv is stopped.
    """

    def __init__(self, descriptor: int, quiet: bool = False) -> None:
        self._descriptor, self._quiet = descriptor, quiet
        self._saved: list[Any] | None = None
        self._handlers: dict[int, Any] = {}

    def during(self, action: Callable[[], T]) -> T:
        """Do something at the raw terminal. (No context manager: a signal may come before its body is entered.)"""
        try:
            self._take()
            return action()
        finally:
            self._give_back()

    def _take(self) -> None:
        import termios

        self._saved = termios.tcgetattr(self._descriptor)
        self._make_raw()
        for number, handler in ((signal.SIGTERM, _end), (signal.SIGHUP, _end), (signal.SIGTSTP, self._stop)):
            self._handlers[number] = signal.signal(number, handler)
        if not self._quiet:
            print("hv: Ctrl-] leaves", file=sys.stderr)  # from here on, as it says

    def _give_back(self) -> None:
        self._restore()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _make_raw(self) -> None:
        import termios

        mode = termios.tcgetattr(self._descriptor)
        mode[0] &= ~(termios.ICRNL | termios.INLCR | termios.IGNCR | termios.IXON | termios.BRKINT | termios.ISTRIP)
        mode[3] &= ~(termios.ECHO | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, mode)

    def _restore(self) -> None:
        if self._saved is not None:
            import termios

            try:
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._saved)
            except termios.error:
                pass  # the terminal has hung up

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        os.kill(os.getpid(), signal.SIGSTOP)  # stops here, until SIGCONT
        self._make_raw()


class BetweenPrompts(RawTerminal):
    """Not raw, but keys instead of lines, for the time of a debugger's session: what is typed before a prompt is there
    waits for it as it was typed. (A terminal that collects lines takes a Ctrl-D for the end of one, and it is lost.)
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, quiet=True)

    def _make_raw(self) -> None:
        import termios

        mode = termios.tcgetattr(self._descriptor)
        mode[3] &= ~(termios.ECHO | termios.ICANON)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, mode)


def _end(number: int, frame: FrameType | None) -> None:
    """End as a shell reports a signal, by way of everything that has to be put in order."""
    sys.exit(128 + number)


def described(descriptor: int) -> str:
    """The terminal as kernel parameters that Linux hands to its first process: TERM, LINES and COLUMNS."""
    size = os.get_terminal_size(descriptor)
    kind = re.sub(r"[^\w.+-]", "", os.environ.get("TERM") or "linux")
    return f"TERM={kind} LINES={size.lines} COLUMNS={size.columns}"
