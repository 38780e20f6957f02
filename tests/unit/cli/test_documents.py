"""The documents are true: their examples print what they show, every option is told, and links lead somewhere.

Examples are run where they need nothing but bundled guests; what they show is compared line by line, with `...` for any
number of lines.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from guest_kit import ROOT

from hv.cli.main import COMMANDS
from hv.cli.main import hv as group

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path: path.read_text() for path in DOCUMENTS}
ELSEWHERE = re.compile(r"grub|debian-linux|xtf|gdb|hv (?:bench|doctor|xenstore)|xenstore-|\w+\.cfg|&$")  # needs more


def blocks(language: str) -> Iterator[tuple[Path, str]]:
    for path, text in TEXTS.items():
        for found in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield path, found[1]


def examples() -> Iterator[tuple[str, str, str]]:
    """(document, command, what it shows)."""
    for path, block in blocks("console"):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = example.partition("\n")
            if command.startswith("hv ") and not ELSEWHERE.search(command):
                yield path.name, command, shown


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a shell in which `hv` is the one that is tested."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "hv").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hv "$@"\n')
    (folder / "hv").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize(("document", "command", "shown"), list(examples()))
def test_example(shell: dict[str, str], tmp_path: Path, document: str, command: str, shown: str) -> None:
    run = subprocess.run(
        ["sh", "-c", command],
        cwd=tmp_path,
        env=shell,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    lines = ["(?:.*\n)*" if line == "..." else re.escape(line) + "\n" for line in shown.splitlines()]
    assert re.fullmatch("".join(lines), run.stdout.decode()), run.stdout.decode()


def programs() -> Iterator[tuple[str, str]]:
    """(document, program) of what is a whole one."""
    for path, block in blocks("python"):
        if re.search(r"^import hv|^from hv", block, re.MULTILINE) and not ELSEWHERE.search(block):
            yield path.name, block


@pytest.mark.parametrize(("document", "program"), list(programs()))
def test_program(tmp_path: Path, document: str, program: str) -> None:
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True)
    assert (run.returncode, run.stderr) == (0, b"")


def options() -> Iterator[tuple[str, list[str]]]:
    """(command, spellings) of every option; those of the xenstore-* commands are Debian's own."""
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        for parameter in command.params if not name.startswith("xenstore-") else ():
            if isinstance(parameter, click.Option):
                yield name, parameter.opts


@pytest.mark.parametrize(("command", "spellings"), list(options()))
def test_option_is_told(command: str, spellings: list[str]) -> None:
    assert any(re.search(rf"{re.escape(option)}(?![\w-])", text) for text in TEXTS.values() for option in spellings)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[path]):
        if link.startswith("http"):
            continue
        target, _, heading = link.partition("#")
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
            assert heading in anchors, link
