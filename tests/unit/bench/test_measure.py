"""`hv bench`: what it computes from samples, what it measures, and what it says to users. No figure is judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from guest_kit import HV

from hv.bench import event_rows, guest_rows, plot, table
from hv.bench.event_loops import CALLS, FIFOS, SCANS, SENDS, EventLoops
from hv.bench.measure import Group, Row, Sample, choose, run
from hv.engine.cpu import plain_hook
from hv.errors import ConfigError


def hv_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HV, "bench", *arguments], capture_output=True, text=True, timeout=120
    )


def groups() -> list[Group]:
    return [*event_rows.groups(), *guest_rows.groups()]


def test_medians_quartiles_and_paired_ratios() -> None:
    row = Row("x", "g", "ns", {"hv": [1.0, 2.0, 4.0, 100.0], "best C": [2.0, 2.0, 8.0, 100.0]})
    assert row.median("hv") == 3.0
    assert row.spread("hv") == (1.25, 76.0)
    assert row.ratio("best C") == 1.5  # of 2, 1, 2, 1
    assert row.as_json()["times_hv"] == {"best C": 1.5}
    assert Row("x", "g", "ns", {"hv": [5.0]}).spread("hv") == (5.0, 5.0)


def test_rounds_are_interleaved() -> None:
    taken: list[str] = []

    def prepare(quick: bool) -> object:
        def sample() -> Sample:
            taken.append("a")
            return {"a_row": {"hv": float(len(taken))}, "b_row": {"hv": 1.0}}

        return sample

    told: list[tuple[str, int, int]] = []
    made = [Group("g", ("a_row", "b_row"), prepare, rounds=5, quick_rounds=3)]  # type: ignore[arg-type]
    rows = run(made, ["a_"], True, lambda *words: told.append(words))
    assert [(row.name, row.series) for row in rows] == [("a_row", {"hv": [1.0, 2.0, 3.0]})]
    assert told[0] == ("g", 0, 3) and told[-1] == ("g", 3, 3)


def test_row_names_say_what_they_measure() -> None:
    names = [row for group in groups() for row in group.rows]
    assert len(set(names)) == len(names)
    for word in ("scan", "send", "fifo", "upcall", "python", "batch", "2level", "guest"):
        assert any(word in name for name in names), word
    assert {row for group in choose(groups(), ["fifo"]) for row in group.rows} == {n for n in names if "fifo" in n}
    with pytest.raises(ConfigError, match="--list"):
        choose(groups(), ["no such thing"])


@pytest.mark.parametrize("what", SCANS)
def test_every_scan_delivers_everything(what: str) -> None:
    """EventLoops itself raises where an event is missing or left."""
    for ports in (1, 8, 64, 700, 4096):
        for shape in event_rows.SHAPES:
            loops = EventLoops(event_rows.images(ports, shape, 20))
            assert loops.scan(what, 50) > 0


def test_every_queue_delivers_everything() -> None:
    sets = [[port for port in image if port] for image in event_rows.images(300, "spread", 20)]
    loops = EventLoops(sets, fifo=True)
    for what in (*FIFOS, *reversed(FIFOS)):
        both, sending = loops.fifo_round(what, 30)
        assert both > sending > 0


def test_senders_and_callables() -> None:
    loops = EventLoops(event_rows.images(100, "spread", 20))
    assert all(loops.send(what, 5, again) > 0 for what in SENDS for again in (False, True))
    for batch in (False, True):
        heard: list[object] = []
        loops = EventLoops(
            event_rows.images(10, "spread", 20), handlers="batch" if batch else "python", callable=heard.append
        )
        for what in CALLS:
            heard.clear()
            assert loops.call(what, 3, batch, heard.append) > 0
            assert len(heard) == (3 if batch else 30), what


def test_a_bare_trap_of_unicorn() -> None:
    assert plain_hook(1000) > 0


def test_the_command(tmp_path: Path) -> None:
    done = hv_bench("2level_8_", "fifo_send_64", "guest_null", "--quick", "--json", str(tmp_path / "rows.json"))
    assert done.returncode == 0, done.stderr
    for word in ("scan_2level_8_spread", "fifo_send_64", "guest_null_hypercall", "Linux in C", "limit", "ns an event"):
        assert word in done.stdout
    rows = {row["name"]: row for row in json.loads((tmp_path / "rows.json").read_text())["rows"]}
    assert set(rows) == {"scan_2level_8_spread", "scan_2level_8_clustered", "fifo_send_64", "guest_null_hypercall"}
    assert set(rows["scan_2level_8_spread"]["series"]) == {"hv", "Linux in C", "best C", "limit"}
    assert "2-level scan and delivery" in done.stderr


def test_names_of_rows() -> None:
    done = hv_bench("--list", "upcall")
    assert done.returncode == 0 and "guest_ipi_send_upcall_iret" in done.stdout.split()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nonsense",), "no row's name contains 'nonsense': hv bench --list shows them"),
        (("scan_2level_1", "--quick", "--json", "/no/such/folder/x"), "/no/such/folder/x: cannot be written"),
        (("--compare-xen", "a", "b"), "at most one NAME"),
    ],
)
def test_users_mistakes(arguments: tuple[str, ...], sentence: str) -> None:
    done = hv_bench(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr


def example() -> list[Row]:
    return [
        Row("scan_2level_1", "Scans", "ns an event", {"hv": [1.0, 2.0, 3.0], "best C": [1.0, 1.0, 1.0]}),
        Row("guest_null_hypercall", "Guests", "ns an operation", {"hv": [30.0] * 3, "limit": [60.0, 61.0, 62.0]}),
    ]


def test_a_plot(tmp_path: Path) -> None:
    plot.draw(tmp_path / "rows.png", example(), {"cpu": "x"})
    assert (tmp_path / "rows.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match="cannot be written"):
        plot.draw(tmp_path / "no" / "rows.png", example(), {})


def test_a_plot_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'hv-xen\[plot\]'"):
        plot.load()


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    table.show(example(), {"cpu": "some CPU"})
    out = capsys.readouterr().out
    assert "some CPU" in out and "scan_2level_1" in out and "(1.00 to 3.00)" in out and "2.03" in out
