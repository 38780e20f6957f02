"""`hv trace`: run guests as `hv run` does and write what they and the hypervisor say to each other."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

import click

from hv.cli import exit_codes
from hv.cli.output import check_stderr, open_output
from hv.cli.run import RunOptions, boot, run_options
from hv.errors import ConfigError
from hv.trace import sinks

if TYPE_CHECKING:
    from hv.cli.options import GuestOptions
    from hv.machine.machine import Machine
    from hv.trace.events import Event

RAW = "raw"


@click.command(
    "trace",
    epilog="""\b
Examples:
  hv trace hello                                        one line an event, on stderr
  hv trace timer --filter 'event or upcall or iret'     docs/trace.md has the grammar
  hv trace pingpong --stats                             counts, time and errors at the end
  hv trace smp --format perfetto --output smp.pftrace   open it at ui.perfetto.dev
  hv trace bench --format raw --output bench.hvtrace    the fast way; then:
  hv trace bench.hvtrace --filter error                 read a recorded trace
Exit codes: as hv run.""",
)
@click.option("--filter", "expression", metavar="EXPR", help="Only events that EXPR lets pass.")
@click.option("--output", metavar="FILE", help="Where events go (default: stderr).")
@click.option(
    "--format",
    "form",
    type=click.Choice([*sinks.FORMATS, RAW]),
    default="text",
    show_default=True,
    help="; ".join(f"{name}: {what}" for name, what in sinks.FORMATS.items()) + "; raw: to be read by hv trace later.",
)
@click.option("--stats", is_flag=True, help="At the end, print a summary; events are written with --output only.")
@run_options
def command(
    run: RunOptions, options: GuestOptions, expression: str | None, output: str | None, form: str, stats: bool
) -> int:
    """Boot each IMAGE as `hv run` does, and write each event with its time, its decoded content and its cause.

    IMAGE may also be one file that --format raw has written: it is read instead.
    """
    from hv.trace import files

    if form in (RAW, "perfetto") and output is None:
        raise ConfigError(f"--format {form} is not for reading on a screen: add --output FILE")
    if form == RAW and expression is not None:
        raise ConfigError("--format raw keeps every event: give --filter to the hv trace that reads the file")
    with Recording(output, form, expression, stats) as recording:
        if files.is_trace(run.images[0]):
            return _read(run.images, recording)
        return boot(run, options, prepare=recording.attach)


class Recording:
    """Where events go, from the options."""

    def __init__(self, output: str | None, form: str, expression: str | None, stats: bool) -> None:
        from hv.trace import filter as filters
        from hv.trace.stats import Statistics

        self._expression = expression
        self._wanted = filters.parse(expression) if expression is not None else None
        self._file = _open(output)
        self._raw = form == RAW
        self._statistics = Statistics() if stats else None
        self._writes: list[Callable[[Event], None]] = [self._statistics.add] if self._statistics else []
        self._sink = None
        if not self._raw and (output is not None or not stats):
            self._sink = sinks.open_sink(form, self._file)
            self._writes.append(self._sink.write)

    def attach(self, machine: Machine) -> None:
        from hv.trace import files

        if self._raw:
            files.begin(self._file)
            machine.trace.subscribe_raw(self._file_write)
        if self._writes:
            machine.trace.subscribe(self._write, self._expression)

    def _file_write(self, data: bytes) -> None:
        self._file.write(data)

    def _write(self, event: Event) -> None:
        for write in self._writes:
            write(event)

    def add(self, event: Event) -> None:
        """An event of a recorded trace."""
        if self._wanted is None or self._wanted(event):
            self._write(event)

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._sink is not None:
                self._sink.close()
        finally:
            if self._file is not sys.stderr.buffer:
                self._file.close()
        if self._statistics is not None:
            print(self._statistics.text(), file=sys.stderr)
        check_stderr()


def _open(output: str | None) -> BinaryIO:
    return sys.stderr.buffer if output is None else open_output(output, f"--output {output}")


def _read(images: tuple[str, ...], recording: Recording) -> int:
    """Decode a recorded trace."""
    from hv.trace import files

    if len(images) > 1:
        raise ConfigError(f"{images[0]} is a recorded trace: it is read alone")
    for event in files.read(images[0]):
        recording.add(event)
    return exit_codes.OK
