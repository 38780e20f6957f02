"""`hv guests`: the bundled guests."""

from __future__ import annotations

import json
import sys

import click


@click.command("guests", epilog="Example:  hv guests && hv run timer")
@click.option("--json", "as_json", is_flag=True, help="An array of objects on stdout.")
def command(as_json: bool) -> int:
    """List the bundled guests: what each shows, and the exit code it ends with."""
    from hv.machine.images import bundled

    guests = bundled()
    if as_json:
        keys = ("name", "title", "summary", "expected", "vcpus", "domains", "pirqs")
        rows = [{key: getattr(guest, key) for key in keys} for guest in guests]
        print(json.dumps(rows, indent=2))
        return 0
    if not guests:
        print("hv: no bundled guests here: install the package (pip install .)", file=sys.stderr)
        return 1
    width = max(len(guest.name) for guest in guests)
    for guest in guests:
        ends = "" if guest.expected == 0 else f"  (exits {guest.expected})"
        print(f"{guest.name:<{width}}  {guest.title}{ends}")
    return 0
