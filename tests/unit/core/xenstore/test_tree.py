"""Snapshots against plain copies."""

from hypothesis import given
from hypothesis import strategies as st

from hv.core.xenstore.permissions import parse
from hv.core.xenstore.tree import Node, Snapshot, Tree

PERMISSIONS = parse(["n0"])
PATHS = [f"/{letter}" for letter in "abcd"]
steps = st.lists(
    st.tuples(st.sampled_from(["put", "remove", "open", "close"]), st.integers(0, 7)), max_size=60
)


def put(tree: Tree, path: str, value: bytes) -> None:
    tree.put(path, Node.empty(value, PERMISSIONS, tree.next_generation()))


@given(steps)
def test_a_snapshot_keeps_what_was_there(script: list[tuple[str, int]]) -> None:
    tree = Tree()
    live: dict[str, bytes] = {}
    opened: list[tuple[Snapshot, dict[str, bytes]]] = []
    for count, (action, number) in enumerate(script):
        path = PATHS[number % len(PATHS)]
        if action == "put":
            live[path] = str(count).encode()
            put(tree, path, live[path])
        elif action == "remove" and path in live:
            del live[path]
            tree.remove(path)
        elif action == "open":
            opened.append((tree.snapshot(), dict(live)))
        elif action == "close" and opened:
            opened.pop(number % len(opened))[0].close()
        for snapshot, expected in opened:
            for path in PATHS:
                node = snapshot.get(path)
                assert (node and node.value) == expected.get(path)
    for snapshot, _ in opened:
        snapshot.close()
    assert tree.snapshots == []


def test_a_snapshot_saves_only_what_changes() -> None:
    tree = Tree()
    for number in range(1000):
        put(tree, f"/{number}", b"old")
    elder, younger = tree.snapshot(), tree.snapshot()
    for _ in range(5):
        put(tree, "/7", b"new")
    put(tree, "/fresh", b"new")
    assert (elder.saved, list(younger.saved)) == ({}, ["/7"])
    younger.close()
    assert list(elder.saved) == ["/7"]
    seven = elder.get("/7")
    assert seven is not None
    assert seven.value == b"old"
    assert elder.get("/fresh") is None


def test_children_are_copied_only_under_a_snapshot() -> None:
    tree = Tree()
    node = Node.empty(b"", PERMISSIONS, tree.next_generation())
    node = node.with_child("a", tree.next_generation(), tree.owned_after)
    snapshot = tree.snapshot()
    changed = node.with_child("b", tree.next_generation(), tree.owned_after)
    again = changed.with_child("c", tree.next_generation(), tree.owned_after)
    assert list(node.children) == ["a"]
    assert again.children is changed.children
    assert again.listing() == b"a\0b\0c\0"
    assert again.children_size == 6
    snapshot.close()
