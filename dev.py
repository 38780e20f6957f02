#!/usr/bin/env python3
"""The two commands of the README's quick start, each with all of its set-up.

    python3 dev.py demo     make a virtual environment, install hv into it, boot the demo guests
    python3 dev.py test     the same with the test tools, then every check: linter, types, tests, checked build

Standard library only. Environments are .venv (and .venv-debug for the build with all checks on) in this folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent
CHECKED = (  # what the checked build must pass too: whatever runs much Cython
    *("tests/guests", "tests/model", "tests/fuzz"),
    *(f"tests/unit/{area}" for area in ("engine", "paging", "hypercalls", "events", "grants", "backends", "trace")),
)
DEMOS = ("hello", "start_info", "timer", "user")


def need(condition: bool, what: str, package: str) -> None:
    if not condition:
        sys.exit(f"dev.py: {what}: install Debian's package {package}")


def check_prerequisites() -> None:
    if sys.version_info < (3, 11):
        sys.exit(f"dev.py: Python 3.11 or later is needed, this is {sys.version.split()[0]}: use a newer python3")
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        need(False, "Python cannot make virtual environments", "python3-venv")
    need(
        (Path(sysconfig.get_paths()["include"]) / "Python.h").exists(), "Python's C headers are missing", "python3-dev"
    )
    need(shutil.which("cc") is not None, "there is no C compiler", "gcc")
    probe = subprocess.run(["cc", "-E", "-xc", "-"], input=b"#include <stdlib.h>\n", capture_output=True)
    need(probe.returncode == 0, "the C library's headers are missing", "libc6-dev")


def run(*command: str, **environment: str) -> None:
    print("+", " ".join(command), flush=True)
    result = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment})
    if result.returncode:
        sys.exit(result.returncode)


def install(folder: str, what: str, **environment: str) -> Path:
    """Make the environment if it is not there, and (re)install hv into it; its bin folder."""
    home = ROOT / folder
    if not (home / "bin" / "python").exists():
        run(sys.executable, "-m", "venv", str(home))
    run(str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", what, **environment)
    return home / "bin"


def demo() -> None:
    binaries = install(".venv", ".")
    run(str(binaries / "hv"), "doctor")
    for guest in DEMOS:
        run(str(binaries / "hv"), "run", guest)
    print("\nMore: .venv/bin/hv guests lists what else there is, .venv/bin/hv --help says what hv can do.")


def test(*arguments: str) -> None:
    binaries = install(".venv", ".[test]")
    if arguments:
        run(str(binaries / "pytest"), *arguments)
        return
    run(str(binaries / "ruff"), "check")
    run(str(binaries / "mypy"))
    run(str(binaries / "pytest"))
    debug = install(".venv-debug", ".[test]", HV_DEBUG="1")
    run(str(debug / "pytest"), "-q", *CHECKED)


COMMANDS = {"demo": demo, "test": test}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS or (sys.argv[1] == "demo" and len(sys.argv) > 2):
        sys.exit((__doc__ or "").strip())
    check_prerequisites()
    COMMANDS[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
