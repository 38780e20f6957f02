"""`hv bench`: how fast hv is on this machine, beside what it is to be compared with."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("bench", epilog="Example:  hv bench scan fifo --json bench.json --plot bench.png")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write every sample.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw bar charts.")
@click.option("--quick", is_flag=True, help="Fewer rounds: some seconds, and a wider spread.")
@click.option("--list", "only_list", is_flag=True, help="Print the names of the rows, and measure nothing.")
@click.option("--compare-xen", is_flag=True, help="The bench guest's rows on hv and on real Xen in QEMU, in turn.")
def command(
    names: tuple[str, ...],
    json_file: Path | None,
    plot_file: Path | None,
    quick: bool,
    only_list: bool,
    compare_xen: bool,
) -> int:
    """Measure what contains NAME in its name, or everything: event loops of hv beside C's, and rates of guests.

    docs/bench.md has the method. Quote ratios: the times change with the machine and its load.
    """
    if compare_xen:
        return _compare_xen(names, json_file, plot_file, quick)
    from hv.bench import event_rows, guest_rows, measure, plot, table
    from hv.testing.compare_xen import host_description

    groups = measure.choose([*event_rows.groups(), *guest_rows.groups()], names)
    if only_list:
        print("\n".join(row for group in groups for row in measure.wanted(group.rows, names)))
        return 0
    if plot_file is not None:
        plot.load()  # a missing library is told before anything is measured
    with _Progress() as progress:
        rows = measure.run(groups, names, quick, progress.update)
    about = host_description()
    table.show(rows, about)
    if json_file is not None:
        table.write_json(json_file, rows, about)
    if plot_file is not None:
        plot.draw(plot_file, rows, about)
    return 0


class _Progress:
    """A bar on stderr, where that is a terminal; else a line for each group."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        self._terminal = console.is_terminal
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, transient=True, disable=not self._terminal, auto_refresh=False)
        self._task = self._bar.add_task("", total=None)
        self._title = ""

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, title: str, done: int, total: int) -> None:
        """Between rounds only: no thread draws while something is measured."""
        if self._terminal:
            self._bar.update(self._task, description=title, completed=done, total=total)
            self._bar.refresh()
        elif title != self._title:
            print(f"hv bench: {title}", file=sys.stderr)
        self._title = title


def _compare_xen(names: tuple[str, ...], json_file: Path | None, plot_file: Path | None, quick: bool) -> int:
    from hv.errors import ConfigError
    from hv.testing import compare_xen

    if len(names) > 1 or plot_file is not None:
        raise ConfigError("--compare-xen takes at most one NAME, the start of rows' names, and no --plot")
    machine = compare_xen.machine_description()
    rounds, count = (2, 20_000) if quick else (5, 500_000)
    rows = compare_xen.compare(rounds, count, "".join(names), report=lambda text: print(text, file=sys.stderr))
    print(compare_xen.table(rows, machine))
    if json_file is not None:
        compare_xen.write_json(json_file, rows, machine)
    return 0
