"""Binary traces in files: read again they are the same events; damage is one sentence, and ends nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hv
from hv.errors import ConfigError
from hv.trace import files
from hv.trace.events import Event
from hv.trace.records import DamagedTrace, records, whole_records
from hv.trace.sinks.jsonl import as_dictionary
from hv.trace.sinks.text import line


def record(path: Path, guest: str) -> list[Event]:
    """Trace a guest to a file; its events."""
    events: list[Event] = []
    with path.open("wb") as file, hv.Machine() as machine:
        files.begin(file)
        machine.trace.subscribe_raw(file.write)
        machine.trace.subscribe(events.append)
        machine.create(guest)
        machine.run(timeout=60)
    return events


def test_what_is_read_is_what_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = record(tmp_path / "t", "smp")
    assert files.is_trace(str(tmp_path / "t"))
    for portion in (1 << 20, 1000, 7):
        monkeypatch.setattr(files, "PORTION", portion)
        assert list(files.read(str(tmp_path / "t"))) == events


def test_other_files_are_none(tmp_path: Path) -> None:
    (tmp_path / "elf").write_bytes(b"\x7fELF")
    assert not files.is_trace(str(tmp_path / "elf"))
    assert not files.is_trace(str(tmp_path / "missing"))
    assert not files.is_trace(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:-3], "its last event is cut off"),
        (lambda data: data[:9], "not a trace of this version"),
        (lambda data: data[:8] + b"\xff" + data[9:], "not a trace of this version"),
        (lambda data: data[:16] + bytes(8) + data[24:], "no record begins at byte 0"),
        (lambda data: data[:18] + b"\xff" + data[19:], "no record begins at byte 0"),
    ],
)
def test_damage(tmp_path: Path, change: object, says: str) -> None:
    record(tmp_path / "t", "hello")
    data = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(change(data))  # type: ignore[operator]
    with pytest.raises(ConfigError, match=says):
        list(files.read(str(tmp_path / "t")))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 14), st.integers(1, 255)), min_size=1, max_size=4))
def test_changed_bytes_are_damage_or_another_trace(recorded: Path, changes: list[tuple[int, int]]) -> None:
    data = bytearray(recorded.read_bytes())
    for at, value in changes:
        data[at % len(data)] ^= value
    changed = recorded.with_name("changed")
    changed.write_bytes(data)
    try:
        for event in files.read(str(changed)):
            assert line(event) and json.dumps(as_dictionary(event))
    except ConfigError:
        pass


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "store.hvtrace"
    record(path, "store")
    return path


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_records_or_damaged(data: bytes) -> None:
    try:
        end = whole_records(data)
    except DamagedTrace:
        return
    assert all(0 < r.kind < 16 for r in records(data[:end]))
