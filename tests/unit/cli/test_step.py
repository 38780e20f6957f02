"""`hv step` as a command: scripts, streams, exit codes, and the prompt at a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from guest_kit import HV, ROOT, assemble

STUCK = """
main:   hypercall sched_op, $SCHEDOP_poll, $poll
        ret
        .data
        .balign 8
poll:   .quad   0, 0, 0
"""
SPIN = "main:\n1: jmp 1b"


def step(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    given = {} if "input" in options else {"stdin": subprocess.DEVNULL}
    command = [*HV, "step", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, timeout=60, capture_output=True, **given, **options)


def commands(*lines: str) -> list[str]:
    return [word for line in lines for word in ("-c", line)]


def run_output(name: str) -> bytes:
    """What `hv run` writes to stdout."""
    ran = subprocess.run([*HV, "run", name], cwd=ROOT, capture_output=True, stdin=subprocess.DEVNULL)
    return ran.stdout


def test_the_console_alone_is_on_stdout() -> None:
    done = step("hello", *commands("break print_string", "c", "c", "registers", "delete", "c"))
    assert done.returncode == 0 and done.stdout == run_output("hello")
    said = done.stderr.decode().splitlines()
    assert said[0].startswith("breakpoint 1: address") and said[-1] == "hello powered off"


def test_two_runs_say_the_same() -> None:
    lines = commands("break hypercall sched_op", "c", "trace 50", "info events", "c", "trace 50", "bt", "delete", "c")
    first, second = step("timer", *lines), step("timer", *lines)
    assert (first.stdout, first.stderr) == (second.stdout, second.stderr) and b"SCHEDOP_block" in first.stderr


def test_a_script_file_and_then_commands(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("# to main\ntbreak main\ncontinue\n\n")
    done = step("hello", "--script", script, "-c", "p rip == main")
    assert done.returncode == 0 and done.stderr.decode().splitlines()[-1] == "0x1 = 1" and done.stdout == b""


def test_commands_from_a_pipe() -> None:
    done = step("hello", input=b"tb main\nc\nbt\nquit\nnonsense\n")
    assert done.returncode == 0 and b"<_start" in done.stderr


def test_the_guests_input_beside_a_script() -> None:
    done = step("console-echo", *commands("c"), input=b"typed\r")
    assert done.returncode == 0 and b"typed\r\n" in done.stdout


@pytest.mark.parametrize(
    ("image", "options", "lines", "code", "said"),
    [
        ("hello", [], ["c"], 0, "hello powered off"),
        ("hello", [], ["step"], 0, ""),
        ("crash", [], ["c"], 6, "hint: the guest has never called set_trap_table"),
        ("crash", [], ["c", "c", "info b"], 6, "hint: "),
        (STUCK, [], ["c"], 125, "can never go on"),
        (SPIN, ["--timeout", "0.5"], ["c"], 124, "was still running after 0.5 s (--timeout)"),
        (SPIN, ["--until", "5000"], ["c", "c"], 0, "the time asked for is reached"),
        ("hello", [], ["nonsense", "echo no"], 2, "hv: nonsense: 'nonsense' is no command: help lists them"),
        ("hello", ["--script", "/no/such/file"], [], 2, "/no/such/file: cannot be read: No such file or directory"),
        ("no-such-image", [], ["c"], 2, "no such file"),
    ],
)
def test_exit_codes(image: str, options: list[str], lines: list[str], code: int, said: str, tmp_path: Path) -> None:
    if "\n" in image:
        (tmp_path / "guest").write_bytes(assemble(image))
        image = str(tmp_path / "guest")
    done = step(image, *options, *commands(*lines))
    assert done.returncode == code and said in done.stderr.decode(), done.stderr.decode()
    assert b"Traceback" not in done.stderr and b"echo no" not in done.stderr


def test_a_core_of_what_crashed(tmp_path: Path) -> None:
    done = step("crash", "--core", tmp_path / "core", *commands("c", "registers"))
    assert done.returncode == 6 and (tmp_path / "core").stat().st_size > 4096


def test_two_guests() -> None:
    done = step("hello", "crash", *commands("c", "c"))
    assert done.returncode == 6 and b"Hello, world!" in done.stdout


class Terminal:
    """The prompt at a pseudo-terminal."""

    def __init__(self, state: Path, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        environment = {**os.environ, "XDG_STATE_HOME": str(state), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        command = [*HV, "step", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.seen, self.taken = b"", 0

    def until(self, text: str, seconds: float = 60) -> bytes:
        """Read on until the text comes, and take all up to its end: the next text is looked for behind it."""
        deadline, start = time.monotonic() + seconds, self.taken
        while (found := self.seen.find(text.encode(), start)) < 0:
            assert time.monotonic() < deadline, f"{text!r} did not come: {self.seen[start:]!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:  # hv has ended
                    pytest.fail(f"{text!r} did not come: {self.seen[start:]!r}")
        self.taken = found + len(text.encode())
        return self.seen[start : self.taken]

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def close(self) -> int:
        code = self.process.wait(30)
        os.close(self.master)
        return code


def test_the_prompt(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "hello")
    terminal.until("(hv)")
    terminal.type("break ma\t")
    terminal.until("break main")
    terminal.type("\r")
    terminal.until("breakpoint 1: address")
    terminal.type("c\r")
    assert b"\x1b[1;33mbreakpoint 1: at main" in terminal.until("<main>: ")
    terminal.type("step\r")
    terminal.until("<main+0x1>")
    terminal.type("\r")
    terminal.until("<main+0x8>")  # an empty line does the last command again
    terminal.type("nonsense\r")
    terminal.until("is no command")
    terminal.type("\x1b[A\x1b[A\r")  # the history
    terminal.until("<print_string>")
    terminal.type("\x04")
    assert terminal.close() == 0
    assert (tmp_path / "hv" / "step_history").read_text().count("+break main") == 1


@pytest.mark.parametrize("key", ["\x1d"])
def test_back_from_a_running_guest(key: str, tmp_path: Path) -> None:
    image = tmp_path / "guest"
    image.write_bytes(assemble('main: println "spinning"\n1: jmp 1b'))
    terminal = Terminal(tmp_path, str(image))
    terminal.until("(hv)")
    terminal.type("c\r")
    terminal.until("spinning")
    terminal.type(key)
    terminal.until("interrupted")
    terminal.type("quit\r")
    assert terminal.close() == 0


def test_keys_go_to_the_running_guest(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "console-echo", "--clock", "paced")
    terminal.until("(hv)")
    terminal.type("c\r")
    terminal.until("silence end this.")
    terminal.type("abc\r")
    terminal.until("abc")  # the terminal itself echoes nothing meanwhile
    terminal.type("\x1d")
    terminal.until("interrupted")
    terminal.until("(hv)")
    terminal.type("q\r")
    assert terminal.close() == 0


def test_the_end_of_the_guest_and_keys_before_the_prompt(tmp_path: Path) -> None:
    """What is typed before a prompt is there waits for it, Ctrl-D too."""
    terminal = Terminal(tmp_path, "hello")
    terminal.until("(hv)")
    terminal.type("c\r")
    terminal.until("Hello, world!")
    terminal.until("hello powered off")
    terminal.type("\x04")  # most often while no prompt is there
    assert terminal.close() == 0


def test_a_history_that_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "hv").write_text("a file, no folder")
    terminal = Terminal(tmp_path, "hello")
    terminal.until("(hv)")
    terminal.type("q\r")
    assert terminal.close() == 0
