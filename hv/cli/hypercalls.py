"""`hv hypercalls`: what hv does about each hypercall."""

from __future__ import annotations

import json
from collections import Counter

import click


@click.command("hypercalls", epilog="Example:  hv hypercalls | grep refused")
@click.option("--json", "as_json", is_flag=True, help="An array of objects on stdout.")
def command(as_json: bool) -> int:
    """List every hypercall and sub-operation of Xen 4.17: served (in C or Python), or refused as Xen does."""
    from hv.hypercalls.registry import states

    rows = states()
    if as_json:
        keys = ("number", "name", "operation", "state")
        print(json.dumps([{key: getattr(row, key) for key in keys} for row in rows], indent=2))
        return 0
    names = [f"{row.name}.{row.operation}" if row.operation else row.name for row in rows]
    width = max(map(len, names))
    for row, name in zip(rows, names, strict=True):
        print(f"{row.number:3}  {name:<{width}}  {row.state}")
    counts = Counter(row.state.partition(":")[0].partition(" (")[0] for row in rows)
    print("\n" + ", ".join(f"{count} {state}" for state, count in counts.most_common()))
    return 0
