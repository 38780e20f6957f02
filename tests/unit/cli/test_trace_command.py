"""`hv trace`: which stream gets what, every format, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]


def test_the_console_on_stdout_and_the_trace_on_stderr(command: Command) -> None:
    code, output, errors = command("trace", "hello")
    assert (code, output) == (0, "Hello, world!\nThis is Xen 4.17.\n")
    lines = errors.splitlines()
    assert lines[0].split() == ["0", "d1", "1", "domain", "created:", "hello"]
    assert any("event_channel_op(cmd=EVTCHNOP_send, arg={port=2}) = 0" in line for line in lines)
    assert "domain shuts down: SHUTDOWN_poweroff" in lines[-4] and "domain destroyed" in lines[-1]
    assert all("unmapped" in line for line in lines[-3:-1])  # the rings of console and XenStore
    assert command("trace", "hello") == (code, output, errors)


def test_a_file_in_the_place_of_stderr(command: Command, tmp_path: Path) -> None:
    _, output, errors = command("trace", "timer")
    assert command("trace", "timer", "--output", tmp_path / "t") == (0, output, "")
    assert (tmp_path / "t").read_text() == errors


def test_a_crash_passes_its_code_on(command: Command) -> None:
    code, _, errors = command("trace", "crash", "--filter", "exception or crash")
    assert code == 6
    traced = [line for line in errors.splitlines() if " d1v0 " in line]
    assert len(traced) == 2 and "page fault #PF error 0x0 at 0xdead0000 without a handler" in traced[0]
    assert "domain crashes: page fault" in traced[1] and "hv: crash (domain 1), vCPU 0" in errors


def test_a_summary(command: Command) -> None:
    code, output, errors = command("trace", "timer", "--stats")
    rows = [line.split() for line in errors.splitlines()]
    assert code == 0 and "tick 5" in output
    assert [row[-1] for row in rows if row and row[-1].startswith("set_timer_op")] == ["set_timer_op"]
    assert rows[0][:3] == ["%", "time", "ns"]
    timer = next(row for row in rows if row[-1:] == ["VIRQ_TIMER"])
    assert timer[:4] == ["d1", "3", "5", "5"]  # domain, port, events, upcalls
    assert " d1v0 " not in errors


def test_a_summary_beside_a_file(command: Command, tmp_path: Path) -> None:
    _, _, errors = command("trace", "timer", "--stats", "--output", tmp_path / "t", "--format", "jsonl")
    assert "VIRQ_TIMER" in errors and (tmp_path / "t").stat().st_size > 1000


def test_json_lines(command: Command) -> None:
    _, _, errors = command("trace", "hello", "--format", "jsonl")
    first, *rest = map(json.loads, errors.splitlines())
    assert first == {"schema": "hv-trace", "version": 1, "ticks_per_ns": 4}
    assert all({"id", "cause", "ns", "ticks", "domain", "vcpu", "kind"} <= event.keys() for event in rest)
    send = next(event for event in rest if event.get("op") == "EVTCHNOP_send")
    assert (send["name"], send["memory"], send["result"], send["error"]) == (
        "event_channel_op",
        {"arg": {"port": 2}},
        0,
        None,
    )
    assert send["arguments"]["arg"].startswith("0xffffffff8")  # too large for a number that all readers keep


def test_a_recorded_trace_reads_as_it_happened(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "smp.hvtrace"
    assert command("trace", "smp", "--format", "raw", "--output", file)[0] == 0
    for options in ([], ["--filter", "upcall or iret"], ["--stats"], ["--format", "jsonl"]):
        _, _, live = command("trace", "smp", *options)
        assert command("trace", file, *options) == (0, "", live)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["hello", "--filter", "port =="], "the filter 'port ==': a value is missing behind =="),
        (["hello", "--format", "raw"], "--format raw is not for reading on a screen: add --output FILE"),
        (["hello", "--format", "perfetto"], "--format perfetto is not for reading on a screen: add --output FILE"),
        (["hello", "--format", "raw", "--output", "x", "--filter", "event"], "--format raw keeps every event"),
        (["hello", "--output", "/no/such/folder/x"], "--output /no/such/folder/x cannot be written"),
        (["hello", "--format", "xml"], "'xml' is not one of"),
        (["no-such-guest"], "no-such-guest"),
    ],
)
def test_refused(
    command: Command, options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output, errors = command("trace", *options)
    assert (code, output) == (2, "") and says in errors and errors.count("\n") == 1


def test_a_recorded_trace_is_read_alone(command: Command, tmp_path: Path) -> None:
    command("trace", "hello", "--format", "raw", "--output", tmp_path / "t")
    code, _, errors = command("trace", tmp_path / "t", "hello")
    assert code == 2 and "is a recorded trace: it is read alone" in errors
