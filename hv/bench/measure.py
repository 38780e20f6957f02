"""How `hv bench` measures: rounds that are interleaved, medians, and paired ratios.

A `Group` is measured together: each of its rounds takes one sample of everything that is compared in it, one after the
other, so that what else the machine does hits all alike. A `Row` keeps the samples of one figure: hv's, and those of
what it stands beside. Ratios are the median of the rounds' own ratios. docs/bench.md says why.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from hv.errors import ConfigError

HV, LIMIT = "hv", "limit"
Sample = dict[str, dict[str, float]]  # row -> series -> ns


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are measured together. `prepare(quick)` makes what they need and returns what takes one sample."""

    title: str
    rows: tuple[str, ...]
    prepare: Callable[[bool], Callable[[], Sample]]
    rounds: int = 41
    quick_rounds: int = 7
    unit: str = "ns an event"


@dataclass(slots=True)
class Row:
    """The samples of one figure, in ns: `series` by name, hv's own and others'."""

    name: str
    group: str
    unit: str
    series: dict[str, list[float]] = field(default_factory=dict)

    def median(self, series: str) -> float:
        return statistics.median(self.series[series])

    def spread(self, series: str) -> tuple[float, float]:
        """The quartiles: half of the rounds lie between them."""
        values = self.series[series]
        if len(values) < 2:
            return values[0], values[0]
        low, _, high = statistics.quantiles(values, n=4)
        return low, high

    def ratio(self, over: str, under: str = HV) -> float:
        """How many times as long `over` takes as `under`: the median over the rounds."""
        pairs = zip(self.series[over], self.series[under], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "group": self.group,
            "unit": self.unit,
            "series": {
                name: {"median": self.median(name), "quartiles": self.spread(name), "samples": values}
                for name, values in self.series.items()
            },
            "times_hv": {name: self.ratio(name) for name in self.series if name != HV},
        }


def choose(groups: Iterable[Group], names: Iterable[str]) -> list[Group]:
    """The groups with a row whose name contains one of the names; all where there are none."""
    groups, names = list(groups), list(names)
    for name in names:
        if not any(name in row for group in groups for row in group.rows):
            raise ConfigError(f"no row's name contains {name!r}: hv bench --list shows them")
    return [group for group in groups if not names or wanted(group.rows, names)]


def wanted(rows: Iterable[str], names: Iterable[str]) -> list[str]:
    names = list(names)
    return [row for row in rows if not names or any(name in row for name in names)]


def run(groups: list[Group], names: Iterable[str], quick: bool, progress: Callable[[str, int, int], None]) -> list[Row]:
    """Measure; `progress(title, rounds done, rounds in all)` is told before each round."""
    names = list(names)
    result = []
    for group in groups:
        rows = {name: Row(name, group.title, group.unit) for name in wanted(group.rows, names)}
        rounds = group.quick_rounds if quick else group.rounds
        progress(group.title, 0, rounds)
        sample = group.prepare(quick)
        for number in range(rounds):
            progress(group.title, number, rounds)
            for name, values in sample().items():
                if name in rows:
                    for series, value in values.items():
                        rows[name].series.setdefault(series, []).append(value)
        progress(group.title, rounds, rounds)
        result += [row for row in rows.values() if row.series]
    return result
