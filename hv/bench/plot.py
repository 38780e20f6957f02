"""The rows of `hv bench` as bar charts. matplotlib is an extra: it is large, and nothing else needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hv.bench.measure import HV, Row
from hv.bench.table import BESIDE
from hv.errors import ConfigError

COLOURS = {HV: "#c44e52", "best C": "#4c72b0", "limit": "#bbbbbb"}
OTHER = "#8c8c4c"


def load() -> Any:
    """matplotlib's pyplot, for files only."""
    try:
        import matplotlib  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise ConfigError("a plot needs matplotlib, which is not installed: pip install 'hv-xen[plot]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def draw(path: Path, rows: list[Row], about: dict[str, str]) -> None:
    """A chart for each group, with quartiles as error bars."""
    pyplot = load()
    titles = list(dict.fromkeys(row.group for row in rows))
    figure, charts = pyplot.subplots(
        len(titles), 1, figsize=(11, 1 + 3.2 * len(titles)), layout="constrained", squeeze=False
    )
    for chart, title in zip(charts[:, 0], titles, strict=True):
        _chart(chart, title, [row for row in rows if row.group == title])
    figure.suptitle(", ".join(f"{key} {value}" for key, value in about.items()), fontsize=8)
    try:
        figure.savefig(path, dpi=80)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be written: {error}") from None
    finally:
        pyplot.close(figure)


def _chart(chart: Any, title: str, rows: list[Row]) -> None:
    series = [name for name in (HV, *BESIDE) if any(name in row.series for row in rows)]
    width = 0.8 / len(series)
    for number, name in enumerate(series):
        found = [(at, row) for at, row in enumerate(rows) if name in row.series]
        at = [place + (number - (len(series) - 1) / 2) * width for place, _ in found]
        heights = [row.median(name) for _, row in found]
        quartiles = [row.spread(name) for _, row in found]
        below = [max(0.0, height - low) for height, (low, _) in zip(heights, quartiles, strict=True)]
        above = [max(0.0, high - height) for height, (_, high) in zip(heights, quartiles, strict=True)]
        chart.bar(at, heights, width, label=name, color=COLOURS.get(name, OTHER), yerr=(below, above), ecolor="#333333")
    chart.set_xticks(range(len(rows)), [_label(row.name) for row in rows], fontsize=7)
    chart.set_ylabel(rows[0].unit)
    chart.set_title(title, loc="left", fontsize=10)
    chart.legend(fontsize=7)


def _label(name: str) -> str:
    """A row's name in short lines."""
    lines, line = [], ""
    for word in name.split("_"):
        if line and len(line) + len(word) > 14:
            lines.append(line)
            line = ""
        line += ("_" if line else "") + word
    return "\n".join([*lines, line])
