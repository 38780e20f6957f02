"""Domain 0's use of grants: views and copies for backends, refusals, and a guest that dies meanwhile."""

from __future__ import annotations

import pytest
from grant_kit import READ_ONLY, parties
from guest_kit import device_grants

from hv.abi import grant_table as abi
from hv.core.grant_table import GrantRefused


def test_a_view_is_the_guests_memory_and_is_noted() -> None:
    with parties(1) as (a,):
        grants = a.machine.domain0.grants
        a.grant(8, 0, a.mfn(a.page(0)))
        a.store(a.page(0), 0x55)
        with grants.map(a.domid, 8) as mapping:
            assert mapping.view[0] == 0x55
            mapping.view[1] = 0x66
            assert (a.load(a.page(0)), a.noted(8)) == (0x6655, "rw")
            view = mapping.view
        mapping.unmap()
        assert (a.noted(8), len(mapping.view), len(view)) == ("", 0, 4096)


def test_a_read_only_view_can_not_be_written() -> None:
    with parties(1) as (a,):
        a.grant(8, 0, a.mfn(a.page(0)), READ_ONLY)
        with a.machine.domain0.grants.map(a.domid, 8, readonly=True) as mapping:
            assert a.noted(8) == "r"
            with pytest.raises(TypeError):
                mapping.view[0] = 1


@pytest.mark.parametrize(
    ("domid", "ref", "readonly", "status"),
    [
        (1, 9, True, "bad_gntref -> no such thing"),
        (1, 8, False, "writing a read-only one"),
        (1, 10, True, "granted to another"),
        (1, 511, True, "empty"),
        (1, 512, True, "behind the table"),
        (77, 8, True, "no such domain"),
    ],
)
def test_refusals(domid: int, ref: int, readonly: bool, status: str) -> None:
    with parties(1) as (a,):
        mfn = a.mfn(a.page(0))
        a.grant(8, 0, mfn, READ_ONLY)
        a.grant(10, 5, mfn)
        expected = {512: abi.GNTST_bad_gntref}.get(ref, abi.GNTST_general_error)
        with pytest.raises(GrantRefused) as caught:
            a.machine.domain0.grants.map(domid, ref, readonly=readonly)
        assert caught.value.status == (abi.GNTST_bad_domain if domid == 77 else expected), status
        assert a.noted(8) == a.noted(10) == ""
        assert device_grants(a.machine) == []


def test_copies_of_several_segments() -> None:
    with parties(1) as (a,):
        grants = a.machine.domain0.grants
        a.grant(8, 0, a.mfn(a.page(0)))
        a.grant(9, 0, a.mfn(a.page(1)), READ_ONLY)
        grants.write(a.domid, [(8, 0, 3), (8, 4093, 3)], b"abcdef")
        assert (a.guest.read(a.page(0), 3), a.guest.read(a.page(0) + 4093, 3)) == (b"abc", b"def")
        a.guest.write(a.page(1), b"xyz")
        into = bytearray(6)
        grants.read(a.domid, [(9, 0, 3), (8, 4093, 3)], into)
        assert (bytes(into), a.noted(8), a.noted(9)) == (b"xyzdef", "", "")
        for segments, data in ([(9, 0, 3)], b"abc"), ([(8, 4094, 3)], b"abc"), ([(8, 5000, 0)], b""):
            with pytest.raises(GrantRefused):
                grants.write(a.domid, segments, data)
        with pytest.raises(ValueError, match="longer"):
            grants.read(a.domid, [(8, 0, 4096)], into)


def test_the_guest_dies_under_a_mapping() -> None:
    with parties(1) as (a,):
        grants, engine = a.machine.domain0.grants, a.engine
        a.grant(8, 0, a.mfn(a.page(0)))
        a.store(a.page(0), 0x77)
        mapping = grants.map(a.domid, 8)
        a.domain.destroy()
        assert (mapping.view[0], engine.frame(mapping.mfn)[0]) == (0x77, a.domid)
        mapping.view[0] = 0x78
        mapping.unmap()
        assert engine.frame(mapping.mfn)[0] is None
        assert a.machine.domain0.guest.foreign_frames() == {}


def test_only_domain_0_may(capsys: pytest.CaptureFixture[str]) -> None:
    with parties(1) as (a,), pytest.raises(Exception, match="domain 0"):
        a.guest.map_grant(0, 0)
