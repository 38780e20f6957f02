"""Files and standard streams that cannot be written: one sentence, never a traceback, and no device loses its node."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

FULL = "/dev/full"
NO_SPACE = "cannot be written: No space left on device"


def hv(line: str) -> subprocess.CompletedProcess[str]:
    """`hv` by a shell, so that redirections can be said as users say them."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m hv {line}', sys.executable], capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr + done.stdout
    return done


@pytest.mark.parametrize("form", ["text", "jsonl", "perfetto", "raw"])
def test_trace_to_a_full_disk(form: str) -> None:
    done = hv(f"trace timer --format {form} --output {FULL}")
    assert (done.returncode, done.stderr) == (2, f"hv: --output {FULL} {NO_SPACE}\n")


@pytest.mark.parametrize("line", ["guests", "guests --json", "--help", "--version", "hypercalls", "run hello"])
def test_full_stdout(line: str) -> None:
    done = hv(f"{line} > {FULL}")
    assert done.returncode == 2
    assert NO_SPACE in done.stderr


def test_full_stderr() -> None:
    """The crash counts, not that nobody can be told; a trace that is lost is an error."""
    assert hv(f"run crash 2> {FULL}").returncode == 6
    assert hv(f"trace hello 2> {FULL}").returncode == 2


@pytest.mark.parametrize("option", ["--pcap ", "--console hello="])
def test_other_files_on_a_full_disk(option: str) -> None:
    done = hv(f"run hello {option}{FULL}")
    assert done.returncode == 2
    assert NO_SPACE in done.stderr


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams(closed: str, tmp_path: Path) -> None:
    """No other file gets a closed stream's number: a trace holds a trace, and nothing of the console."""
    trace = tmp_path / "trace"
    done = hv(f"trace hello --output {trace} {closed}")
    assert done.returncode == 0
    assert "Hello, world!\nThis" not in trace.read_text()
    assert trace.read_text().startswith("           0 d1")


def test_report_of_a_crash_goes_to_no_other_stream() -> None:
    done = hv("run crash 2>&-")
    assert (done.returncode, done.stdout) == (6, "Reading from 0xdead0000, where nothing is.\n")


def test_core_in_the_place_of_a_pipe(tmp_path: Path) -> None:
    """What could not be written is removed only where it is a file: root could lose a device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["head", "-c", "1", str(pipe)], stdout=subprocess.DEVNULL) as reader:
        try:
            done = hv(f"run crash --core {pipe}")
        finally:
            reader.kill()  # it waits for ever for a writer that has failed
    assert done.returncode == 6
    assert "the core could not be written: Broken pipe" in done.stderr
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_images_without_an_end() -> None:
    done = hv("run /dev/zero")
    assert (done.returncode, done.stderr) == (2, "hv: /dev/zero: is a device: name a file with an image\n")


def test_traced_image_from_a_pipe(bundled_guests: Path) -> None:
    """It can be read only once."""
    with subprocess.Popen(["cat", str(bundled_guests / "hello")], stdout=subprocess.PIPE) as cat:
        command = [sys.executable, "-m", "hv", "trace", f"/dev/fd/{cat.stdout.fileno()}"]  # type: ignore[union-attr]
        done = subprocess.run(command, pass_fds=[cat.stdout.fileno()], capture_output=True)  # type: ignore[union-attr]
    assert (done.returncode, done.stdout) == (0, b"Hello, world!\nThis is Xen 4.17.\n")


def test_dump_into_a_pipe(tmp_path: Path) -> None:
    """It stays a pipe, and its reader gets the store."""
    from hv.cli import xenstored
    from hv.core.xenstore.store import Store

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        xenstored._dump(Store(), str(pipe))
        text = reader.communicate(timeout=30)[0]
    assert b"/" in text
    assert stat.S_ISFIFO(pipe.stat().st_mode)
