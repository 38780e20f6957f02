"""`hv test`: run guests that speak XTF's result protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hv.cli.options import GuestOptions, guest_options

if TYPE_CHECKING:
    from hv.cli.output import OutputFile
    from hv.testing.xtf import Result


@click.command(
    "test",
    epilog="""\b
Examples:
  hv test tests/example/test-pv64-example
  hv test tests/*/test-pv64-*.cfg --timeout 30
Exit codes, the worst of all tests: 0 success, 3 skip, 4 error, 5 failure, 6 crash or timeout.""",
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-v", "--verbose", is_flag=True, help="Print the console of every test.")
@guest_options
def command(images: tuple[str, ...], verbose: bool, options: GuestOptions) -> int:
    """Run each IMAGE on a machine of its own and read its result from the console (Xen Test Framework's protocol)."""
    worst = 0
    log = options.open_log()
    width = max(len(image.rpartition("/")[2]) for image in images)
    for image in images:
        result = _run(image, options, log)
        worst = max(worst, result.code)
        detail = f"  {result.detail}" if result.detail else ""
        click.echo(f"{image.rpartition('/')[2]:<{width}}  {result.name}{detail}")
        if verbose or result.code > 3:
            click.echo("".join(f"    {line}\n" for line in result.console.splitlines()), nl=False)
    return worst


def _run(image: str, options: GuestOptions, log: OutputFile | None) -> Result:
    from hv.errors import ImageError
    from hv.machine.machine import Machine
    from hv.testing.xtf import Result, run

    with Machine(clock=options.clock or "virtual") as machine:
        if log is not None:
            machine.connect_log(log)
        try:
            creation = options.creation() | {"settings": options.settings()}
            return run(machine, image, options.timeout, options.until, **creation)
        except ImageError as error:  # one bad image does not stop the others; a broken test is XTF's ERROR
            return Result("ERROR", str(error), "")
