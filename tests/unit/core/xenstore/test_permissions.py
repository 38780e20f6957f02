"""Permission lists."""

import pytest

from hv.core.xenstore import XenStoreError
from hv.core.xenstore import permissions as perms


@pytest.mark.parametrize(
    ("texts", "rendered"),
    [
        (["n0"], ["n0"]),
        (["b1", "r2", "w3"], ["b1", "r2", "w3"]),
        (["r0x10", "r010", "r+7", "r 7", "r-1"], ["r16", "r8", "r7", "r7", "r-1"]),
        (["r4294967297"], ["r1"]),
        (["q0"], None),
        (["r"], None),
        ([""], None),
        (["r08"], None),
        (["r0x"], None),
        (["r1 "], None),
        (["R1"], None),
    ],
)
def test_text(texts: list[str], rendered: list[str] | None) -> None:
    if rendered is None:
        with pytest.raises(XenStoreError, match="EINVAL"):
            perms.parse(texts)
    else:
        assert perms.render(perms.parse(texts)) == rendered


@pytest.mark.parametrize(
    ("texts", "domid", "target", "expected"),
    [
        (["n1"], 1, None, perms.ALL),
        (["n1"], 2, None, perms.NONE),
        (["n1"], 2, 1, perms.ALL),
        (["r1"], 2, None, perms.READ),
        (["r1", "n2"], 2, None, perms.NONE),
        (["n1", "r2", "w2"], 2, None, perms.READ),
        (["n1", "r2", "w3"], 3, 2, perms.READ),
        (["n1", "b2"], 2, None, perms.READ | perms.WRITE),
        (["b1", "n9"], 9, None, perms.READ | perms.WRITE),  # domain 9 is unknown
        (["n1", "r8"], 8, None, perms.NONE),  # domain 8 is younger than the node
    ],
)
def test_rights(texts: list[str], domid: int, target: int | None, expected: int) -> None:
    births = {1: 0, 2: 0, 3: 0, 8: 11}
    assert perms.granted(perms.parse(texts), 10, births, domid, target) == expected


def test_a_dead_entry_stays_dead_when_its_node_is_written_again() -> None:
    births = {1: 0, 8: 11}
    permissions = perms.current(perms.parse(["n1", "r8"]), 10, births)
    assert perms.granted(permissions, 12, births, 8, None) == perms.NONE
    assert perms.render(permissions) == ["n1", "r8"]
