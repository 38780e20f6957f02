"""The text form: what is written is what is read, and what is printed by the stock tools can be read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hv.abi.io import xs_wire as xs
from hv.core.xenstore import Packet, Store
from hv.core.xenstore.dump import HEADER, DumpError, escaped, unescaped

EMPTY = HEADER + '/ = ""   (n0)\n/tool = ""   (n0)\n/tool/xenstored = ""   (n0)\n'

SPELLINGS = [
    (b"", ""),
    (b'say "hi"', 'say "hi"'),
    (b"\t\n\r\\", r"\t\n\r\\"),
    (b"\0\x07\x08\x1f\x7f\xff", r"\000\007\x08\x1f\x7f\xff"),
]


@pytest.mark.parametrize(("value", "text"), SPELLINGS)
def test_values(value: bytes, text: str) -> None:
    assert escaped(value) == text
    assert unescaped(text) == value


def test_an_empty_store() -> None:
    assert Store().dump() == EMPTY


NAMES = st.sampled_from(["a", "b", "tool", "x-1", "@n", "A_b"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
ENTRY = st.builds("{}{}".format, st.sampled_from("nrwb"), st.integers(0, 6))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(PATHS, st.binary(max_size=40), st.lists(ENTRY, min_size=1, max_size=4)), max_size=8),
    st.sets(st.integers(1, 6)),
)
def test_what_is_loaded_is_what_was_dumped(
    nodes: list[tuple[str, bytes, list[str]]], gone: set[int]
) -> None:
    store = Store()
    for domid in gone:
        store.introduce(domid)
    for path, value, permissions in nodes:
        store.write(path, value, permissions)
    for domid in gone:
        store.release(domid)
    text = store.dump()
    copy = Store()
    copy.write("/before", b"the load")
    copy.load(text)
    assert copy.dump() == text
    for path, _, _ in nodes:
        if store.exists(path):
            assert copy.get_permissions(path) == store.get_permissions(path)
            assert copy.read(path) == store.read(path)
    owned = {domid: store.domain(domid) for domid in range(7)}
    assert {n: d.nodes for n in owned if (d := copy.domain(n)) and d.nodes} == {
        n: d.nodes for n, d in owned.items() if d and d.nodes
    }


def test_rights_of_a_domain_that_is_gone_stay_gone() -> None:
    store = Store()
    store.introduce(5)
    store.write("/k", b"v", ["n0", "r5"])
    store.release(5)
    copy = Store()
    copy.load(store.dump())
    assert copy.get_permissions("/k") == ["n0", "r5"]
    guest = copy.introduce(5)
    copy.handle(guest, Packet(xs.XS_READ, 1, 0, b"/k\0"))
    assert guest.take()[0].payload == b"EACCES\0"


def test_text_of_the_stock_tool_without_permissions() -> None:
    store = Store()
    store.load('/a = "1"\n/a/b = ""\n\n# a comment\n/a/c = "x"   (n0)"\n')
    assert store.ls("/") == ["a"] and store.ls("/a") == ["b", "c"]
    assert store.read("/a/c") == b'x"   (n0)'


WRONG = [
    ("nonsense", "line 1 is not of the form"),
    ('/a = "1"\n/a/b:\n', "line 2 is not of the form"),
    ('/a = "1"   (x0)', "line 1: the permissions"),
    ('/a = "1"   ()', "line 1: the permissions"),
    ('/a//b = "1"', "line 1: '/a//b' is no path"),
    (r'/a = "\q"', "line 1: a value has an escape"),
    ('/a = "\xe4"', "line 1: a value has an escape"),
]


@pytest.mark.parametrize(("text", "sentence"), WRONG)
def test_a_text_that_is_none_changes_nothing(text: str, sentence: str) -> None:
    store = Store()
    with pytest.raises(DumpError, match=sentence):
        store.load(text)
    assert store.dump() == EMPTY
