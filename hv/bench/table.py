"""The rows of `hv bench` as a table, and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hv.bench.measure import HV, LIMIT, Row
from hv.errors import ConfigError

BESIDE = ("Linux in C", "Xen in C", "Xen in C, Linux in C", "best C", LIMIT)
WIDTH = 132


def tables(rows: list[Row]) -> list[Table]:
    """One for each group, in order."""
    titles = list(dict.fromkeys(row.group for row in rows))
    return [_table(title, [row for row in rows if row.group == title]) for title in titles]


def _table(title: str, rows: list[Row]) -> Table:
    beside = [name for name in BESIDE if any(name in row.series for row in rows)]
    table = Table(title=f"{title}: {rows[0].unit}", title_justify="left", box=None, pad_edge=False, title_style="bold")
    table.add_column("row", no_wrap=True)
    table.add_column("hv", justify="right")
    table.add_column("(quartiles)", justify="left", style="dim", no_wrap=True)
    table.add_column("M/s", justify="right")
    for name in beside:
        table.add_column(name, justify="right")
        table.add_column("/ hv", justify="right", style="dim")
    for row in rows:
        low, high = row.spread(HV)
        middle = row.median(HV)
        cells = [row.name, _ns(middle), f"({_ns(low)} to {_ns(high)})", _rate(middle)]
        for name in beside:
            known = name in row.series
            cells += [_ns(row.median(name)), f"{row.ratio(name):.2f}"] if known else ["-", "-"]
        table.add_row(*cells)
    return table


def _ns(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def _rate(ns: float) -> str:
    rate = 1000 / ns
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}"


def show(rows: list[Row], about: dict[str, str]) -> None:
    console = Console(width=WIDTH if not Console().is_terminal else None, highlight=False)
    console.print(", ".join(f"{key} {value}" for key, value in about.items()))
    console.print('medians; "/ hv": how many times as long it takes as hv, the median of the rounds\' own ratios')
    for table in tables(rows):
        console.print()
        console.print(table)


def write_json(path: Path, rows: list[Row], about: dict[str, str]) -> None:
    """All samples, in ns."""
    document = {"machine": about, "rows": [row.as_json() for row in rows]}
    try:
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
