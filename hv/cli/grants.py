"""`hv run --grants`: what each domain has granted, and mapped, now or at its end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hv.core.grant_table import Grant, GrantTable
    from hv.machine.domain import Domain


def show(domains: list[Domain]) -> None:
    for domain in domains:
        when = "at its end" if domain.ended else "now"
        print("\n".join([f"hv: grants of {domain.name}, {when}:", *_lines(domain.grants)]), file=sys.stderr)


def _lines(table: GrantTable) -> list[str]:
    granted = [f"  {grant.ref:>5}  {_granted(grant)}" for grant in table]
    mapped = [
        f"  handle {row.handle}: grant {row.ref} of domain {row.domid}{', read-only' if row.readonly else ''}"
        f"{', for devices' if row.device else ''}"
        for row in table.mapped
    ]
    return [*(granted or ["  nothing granted"]), *(mapped or ["  nothing mapped"])]


def _granted(grant: Grant) -> str:
    words = [f"{grant.kind} for domain {grant.domid}, frame {grant.frame:#x}"]
    if grant.readonly:
        words.append("read-only")
    if grant.sub_page:
        words.append("a part of it")
    if grant.user is not None:
        words.append(
            f"used by domain {grant.user} (frame {grant.mfn:#x}, readers {grant.readers}, writers {grant.writers})"
        )
    return ", ".join(words)
