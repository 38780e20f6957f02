"""`hv run --events`, `--pirq` and `--max-event-channels`."""

from __future__ import annotations

import subprocess

from guest_kit import HV


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*HV, "run", *arguments, "--timeout", "30"]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_table() -> None:
    done = run("poll", "--events")
    lines = done.stderr.splitlines()
    assert lines[0] == "hv: event channels of poll, at its end:"
    assert lines[1].split() == [
        "port",
        "state",
        "bound",
        "to",
        "vCPU",
        "pending",
        "masked",
        "priority",
        "sent",
        "merged",
    ]
    assert lines[2].split()[:6] == ["1", "interdomain", "domain", "0", "port", "1"]
    assert len({len(line) for line in lines[1:]}) == 1
    assert done.returncode == 0


def test_table_of_a_stuck_guest() -> None:
    done = run("broken-unmask", "--events")
    assert done.returncode == 6
    assert "port 3 is dead: it is pending and not masked" in done.stderr


def test_fifo_has_priorities() -> None:
    lines = run("fifo", "--events").stderr.splitlines()
    assert [line.split()[-3] for line in lines[4:]] == ["15", "0", "0"]


def test_options() -> None:
    assert "bound: VIRQ 0, PIRQ -1," in run("sources", "--pirq", "10", "--until", "20000000").stdout
    assert run("hello", "--pirq", "9:often").stderr.startswith("hv: '9:often' is not an interrupt: write 9, 9:level or")
    assert run("hello", "--max-event-channels", "1").returncode == 2
    assert "bound: VIRQ 0, PIRQ -28," in run("sources", "--max-event-channels", "3", "--until", "20000000").stdout
