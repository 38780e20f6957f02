"""What people see of grants: the table's rows, `hv run --grants`, and the example of docs/grants.md."""

from __future__ import annotations

import re
import subprocess

import pytest
from grant_kit import HOST, READ_ONLY, RO, parties
from guest_kit import HV, ROOT

from hv.abi import grant_table as abi


def test_rows_of_a_table() -> None:
    with parties() as (a, b):
        mfn = a.grant_page(8, b, flags=READ_ONLY)
        a.grant(9, 0, 0x123, abi.GTF_accept_transfer)
        b.map_grant(a, 8, b.page(1), HOST | RO)
        a.entry(8, b"\0\0")  # cleared while in use
        used, transfer = (row for row in a.domain.grants if row.ref >= 8)
        assert (used.ref, used.kind, used.user, used.mfn, used.readers, used.writers) == (8, "used", b.domid, mfn, 1, 0)
        assert (transfer.kind, transfer.frame, transfer.user, transfer.readonly) == ("transfer", 0x123, None, False)
        (mapped,) = b.domain.grants.mapped
        assert (mapped.domid, mapped.ref, mapped.readonly, mapped.host, mapped.device) == (
            a.domid,
            8,
            True,
            True,
            False,
        )
        b.domain.destroy()
        assert b.domain.grants.mapped == [mapped]
        assert next(row for row in a.domain.grants if row.ref >= 8).user is None


def test_the_option() -> None:
    done = subprocess.run([*HV, "run", "ring", "--grants"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert re.search(
        r"grants of ring-1, at its end:\n(.*domain 0.*\n){2} +8  access for domain 2, frame 0x\w+\n  nothing mapped",
        done.stderr,
    )


def test_the_example_of_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs/grants.md").read_text()
    code, printed = re.search(r"```python\n(.*?)```\n\nprints `([^`]+)`", text, re.DOTALL).groups()  # type: ignore[union-attr]
    exec(compile(code, "docs/grants.md", "exec"), {})
    assert capsys.readouterr().out == printed + "\n"
