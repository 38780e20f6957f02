"""The command in this process: what it prints and exits with, without the half second of a new interpreter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hv.cli.main import main

Result = tuple[int, str, str]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`command("run", path, …)` is (exit code, stdout, stderr); a traceback to be comes through."""

    def run(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["hv", *map(str, arguments)])
        for name in ("stdin", "stdout", "stderr"):
            monkeypatch.setattr(sys, name, getattr(sys, name))  # what the command makes of them ends with the test
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        sys.stdout.flush()
        output, errors = capfd.readouterr()
        code = stop.value.code
        return code if isinstance(code, int) else 0 if code is None else 1, output, errors

    return run
