"""`hv fetch`: bring guests that others wrote into the cache."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from hv.errors import ConfigError

if TYPE_CHECKING:
    from hv.testing.debian_packages import Progress


@click.command(
    "fetch",
    epilog="""\b
Examples:
  hv fetch debian-linux && hv run debian-linux
  hv run vmlinuz --ramdisk busybox-initramfs --memory 256M --cmdline console=hvc0
The guests come from the distribution's packages by apt-get download, without root, and work offline afterwards. They
are kept in $HV_GUEST_CACHE, else $XDG_CACHE_HOME/hv/guests, else ~/.cache/hv/guests.""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--again", is_flag=True, help="Fetch also what is there: a newer version, say.")
def command(names: tuple[str, ...], again: bool) -> int:
    """Bring real guests into the cache; without NAME, list them."""
    from hv.testing.real_guests import RECIPES, fetch, is_whole

    if not names:
        from hv.machine.fetched import cache

        for recipe in RECIPES.values():
            state = "here" if is_whole(cache() / recipe.name) else "not fetched"
            print(f"{recipe.name:<22}  {state:<11}  {recipe.title}")
        return 0
    for name in names:
        if name not in RECIPES:
            raise ConfigError(f"{name!r} is not a guest that can be fetched: choose from {', '.join(RECIPES)}")
    for name in names:
        with _progress(name) as progress:
            new = fetch(RECIPES[name], again=again, progress=progress)
        print(f"{name}: {'fetched' if new else 'is here already'}", file=sys.stderr)
    return 0


@contextmanager
def _progress(name: str) -> Iterator[Progress | None]:
    """A bar on stderr while packages come, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name)
        yield lambda package, done, total: bar.update(task, description=package, completed=done, total=total)
