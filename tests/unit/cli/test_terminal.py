"""`hv run` at a terminal: a pseudo-terminal, with a test in the place of the person."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from guest_kit import HV, ROOT

from hv.cli.terminal import described

PATIENCE = 20.0


class Terminal:
    """A pseudo-terminal with hv in it."""

    def __init__(self, *arguments: str | Path) -> None:
        self.master, slave = pty.openpty()
        self.slave = os.dup(slave)
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [*HV, *map(str, arguments)],
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.seen = b""

    def expect(self, text: bytes) -> None:
        """Read until a text appears."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], (text, self.seen)
            self.seen += os.read(self.master, 65536)
        self.seen = self.seen[self.seen.index(text) + len(text) :]

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    @property
    def mode(self) -> list[Any]:
        return termios.tcgetattr(self.slave)

    @property
    def is_raw(self) -> bool:
        return not self.mode[3] & (termios.ECHO | termios.ICANON | termios.ISIG)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def at_terminal() -> Iterator[Callable[..., Terminal]]:
    """A function that starts `hv run` with some arguments in a terminal."""
    terminals: list[Terminal] = []

    def start(*arguments: str | Path) -> Terminal:
        terminals.append(Terminal("run", *arguments))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


def test_keys_go_to_the_guest_and_one_leaves(at_terminal: Callable[..., Terminal]) -> None:
    terminal = at_terminal("console-echo")
    terminal.expect(b"Ctrl-] leaves")
    terminal.expect(b"\n")
    terminal.type(b"abc\x03\x1a\r")  # Ctrl-C, Ctrl-Z and Enter are keys like any other
    terminal.expect(b"abc\x03\x1a")
    assert terminal.is_raw
    terminal.type(b"xyz\x1dnot for the guest")
    assert terminal.wait() == 0
    assert terminal.mode == terminal.before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal(number: signal.Signals, at_terminal: Callable[..., Terminal]) -> None:
    terminal = at_terminal("console-echo")
    terminal.expect(b"Ctrl-] leaves")
    terminal.until(lambda: terminal.is_raw)
    terminal.process.send_signal(number)
    assert terminal.wait() == 128 + number
    assert terminal.mode == terminal.before


def test_a_crash_restores_the_terminal(at_terminal: Callable[..., Terminal]) -> None:
    terminal = at_terminal("crash")
    terminal.expect(b"crashed: page fault")
    terminal.expect(b"last lines of the console")
    assert terminal.wait() == 6
    assert terminal.mode == terminal.before


def test_stopped_and_continued(at_terminal: Callable[..., Terminal]) -> None:
    terminal = at_terminal("console-echo")
    terminal.expect(b"Ctrl-] leaves")
    terminal.until(lambda: terminal.is_raw)
    terminal.process.send_signal(signal.SIGTSTP)
    terminal.until(lambda: terminal.mode == terminal.before)
    _, status = os.waitpid(terminal.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    terminal.process.send_signal(signal.SIGCONT)
    terminal.until(lambda: terminal.is_raw)
    terminal.type(b"\x1d")
    assert terminal.wait() == 0
    assert terminal.mode == terminal.before


def test_size_and_kind_as_kernel_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (31, 97))
    for kind, written in (("xterm-256color", "xterm-256color"), ("a b\n=c", "abc"), ("", "linux")):
        monkeypatch.setenv("TERM", kind)
        assert described(slave) == f"TERM={written} LINES=31 COLUMNS=97"
    os.close(master)
    os.close(slave)
