"""The commands that do not run guests of the user's: guests, hypercalls, doctor, test, --version, --help."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from guest_kit import HV, ROOT, assemble

from hv.cli.main import COMMANDS

INSTALLED = bool(list(metadata.distributions(name="hv-xen")))
Command = Callable[..., tuple[int, str, str]]


def good(command: Command, *arguments: str | Path) -> str:
    code, output, errors = command(*arguments)
    assert (code, errors) == (0, "")
    return output


# --- help and version


def test_help_names_every_command(command: Command) -> None:
    text = good(command, "--help")
    assert text == good(command, "-h")
    assert text.startswith("Usage: ")
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", text, re.MULTILINE)
    assert "Examples:" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(command: Command, name: str) -> None:
    text = good(command, name, "--help")
    assert text.startswith("Usage: ")
    assert "Example" in text
    assert len(text.splitlines()) > 5


def test_version(command: Command) -> None:
    """Also where hv was built in place and is not installed."""
    assert re.fullmatch(r"hv \d+\.\d+\.\d+\S*\n", good(command, "--version"))


def test_without_anything_it_helps(command: Command) -> None:
    code, output, errors = command()
    assert code in (0, 2)
    assert "Usage: " in output + errors


HEAVY = ("hv.engine", "capstone", "elftools", "hv.machine.machine", "ctypes")


@pytest.mark.parametrize("words", [("--help",), ("run", "--help"), ("guests", "--json")], ids=" ".join)
def test_starts_light(words: tuple[str, ...]) -> None:
    """Only what a command needs is imported."""
    program = (
        "import sys; sys.argv[0] = 'hv'\n"
        "from hv.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in sys.modules if name in sys.argv[-1]), file=sys.stderr)\n"
    )
    source = program.replace("sys.argv[-1]", repr(HEAVY))
    done = subprocess.run(
        [sys.executable, "-c", source, *words], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stderr.strip() == "[]"


# --- hypercalls


def test_hypercalls(command: Command) -> None:
    text = good(command, "hypercalls")
    assert re.search(r"^ +29  sched_op\.SCHEDOP_poll +served \(C\)$", text, re.MULTILINE)
    rows = json.loads(good(command, "hypercalls", "--json"))
    assert {tuple(row) for row in rows} == {("number", "name", "operation", "state")}
    assert len(text.splitlines()) == len(rows) + 2
    kinds = {re.sub(r": .*| \(C\)", "", row["state"]) for row in rows}
    assert kinds == {"served", "refused"}  # a new row without a handler would be "not yet"
    assert len({(row["number"], row["operation"]) for row in rows}) == len(rows)


# --- guests


def test_guests_agrees_with_its_json(command: Command) -> None:
    rows = json.loads(good(command, "guests", "--json"))
    for row in rows:
        assert {"name", "title", "expected"} <= row.keys()
        assert row["expected"] in (0, 6)
    code, output, errors = command("guests")
    if rows:
        assert [line.split()[0] for line in output.splitlines()] == [row["name"] for row in rows]
        assert code == 0
        assert next(row for row in rows if row["name"] == "hello")["expected"] == 0
    else:
        assert code == 1
        assert errors == "hv: no bundled guests here: install the package (pip install .)\n"


# --- doctor


def test_doctor(command: Command) -> None:
    """Without the bundled guests, as in a checkout built in place, it says what is missing."""
    code, output, errors = command("doctor")
    names = [line.split()[1] for line in (output + errors).splitlines()]
    assert sorted(names) == ["boot", "engine", "guests", "libraries", "platform"]
    assert all(line.startswith("ok ") for line in output.splitlines())
    assert all(line.startswith("FAIL ") for line in errors.splitlines())
    assert code == (1 if errors else 0)
    assert "engine" in output


# --- test


def printing(*lines: str, end: str = "ret") -> bytes:
    body = "\n".join(f'        println "{line}"' for line in lines)
    return assemble(f"main:\n{body}\n        {end}\n")


VERDICTS = {
    "success": (("Test result: SUCCESS",), "ret", 0, "SUCCESS"),
    "success among others": (("--- Xen Test Framework ---", "Test result: SUCCESS"), "ret", 0, "SUCCESS"),
    "skip": (("Test result: SKIP",), "ret", 3, "SKIP"),
    "error": (("Test result: ERROR",), "ret", 4, "ERROR"),
    "failure": (("Test result: FAILURE",), "ret", 5, "FAILURE"),
    "no result": (("hello",), "ret", 6, "CRASH  no result line"),
    "two results": (("Test result: SUCCESS", "Test result: SUCCESS"), "ret", 6, "CRASH  2 result lines"),
    "an unknown result": (("Test result: MAYBE",), "ret", 6, "CRASH  no result line"),
    "not at the start of a line": ((" Test result: SUCCESS",), "ret", 6, "CRASH  no result line"),
    "crash": (("Test result: SUCCESS",), "ud2", 6, "CRASH  the domain crashed: invalid opcode #UD"),
    "timeout": (("Test result: SUCCESS",), "jmp .", 6, "CRASH  timeout after 0.5 s"),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_verdicts(command: Command, name: str, tmp_path: Path) -> None:
    lines, end, code, verdict = VERDICTS[name]
    (tmp_path / "test-it").write_bytes(printing(*lines, end=end))
    given, output, errors = command("test", tmp_path / "test-it", "--timeout", "0.5")
    assert (given, errors) == (code, "")
    assert output.splitlines()[0].startswith(f"test-it  {verdict}")


def test_worst_verdict_counts(command: Command, tmp_path: Path) -> None:
    paths = []
    for name in ("SUCCESS", "SKIP", "FAILURE", "ERROR"):
        path = tmp_path / f"test-{name.lower()}"
        path.write_bytes(printing(f"Test result: {name}"))
        paths.append(path)
    code, output, _ = command("test", *paths)
    assert code == 5
    firsts = [line for line in output.splitlines() if not line.startswith(" ")]
    assert [line.split()[1] for line in firsts] == ["SUCCESS", "SKIP", "FAILURE", "ERROR"]
    assert command("test", paths[0], paths[1])[0] == 3


def test_verbose_shows_the_console(command: Command, tmp_path: Path) -> None:
    (tmp_path / "test-it").write_bytes(printing("hello", "Test result: SUCCESS"))
    assert good(command, "test", tmp_path / "test-it") == "test-it  SUCCESS\n"
    assert (
        good(command, "test", "-v", tmp_path / "test-it") == "test-it  SUCCESS\n    hello\n    Test result: SUCCESS\n"
    )


# --- outside of the checkout


def test_works_from_another_folder(tmp_path: Path) -> None:
    (tmp_path / "guest").write_bytes(printing("hello"))
    done = subprocess.run(
        [*HV, "run", "guest"], cwd=tmp_path, capture_output=True, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")
