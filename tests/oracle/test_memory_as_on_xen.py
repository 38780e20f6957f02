"""Every row of tests/unit/paging/test_memory_rows.py, asked of real Xen: one start, one domain 0, the same answers."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from xen_puppet import XenPuppet, image

from hv.testing import xen_in_qemu

# Rows that domain 0 gets another answer to.
OTHER_ANSWERS = {
    "it may map devices, uncached": [r"^bit [347] in an L1"],
    "it is privileged": [r"DOMID_(XEN|IO)"],
}
KEEPS_FRAMES = re.compile(r"^(release|trade)")


def rows() -> Any:
    place = Path(__file__).parents[1] / "unit" / "paging" / "test_memory_rows.py"
    specification = importlib.util.spec_from_file_location("rows_of_memory", place)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_real_xen_gives_the_same_answers() -> None:
    module = rows()
    made, where = image()
    wrong: list[str] = []
    compared = 0
    patterns = [pattern for patterns in OTHER_ANSWERS.values() for pattern in patterns]
    needless = set(patterns)
    with xen_in_qemu.Session(made, memory=256, share_ram=True) as session:
        p = XenPuppet(session, where)
        for name, (act, expected) in module.ROWS.items():
            answer = module.answer(p, act)
            known = next((pattern for pattern in patterns if re.search(pattern, name)), None)
            if known is None:
                compared += 1
                wrong += [f"{name}: hv {expected}, Xen {answer}"] if answer != expected else []
            elif answer != expected:
                needless.discard(known)
            p.clean(fresh_frames=bool(KEEPS_FRAMES.search(name)))
    assert not wrong, "\n".join(wrong)
    assert not needless, f"no row needs: {needless}"
    assert compared >= 400
