"""The nodes, and cheap snapshots of them.

Rules: a node is replaced, never changed, and each replacement gets a new generation; a snapshot
sees the nodes as they were when it was taken; taking one costs nothing, and a write under a
snapshot costs the one old node it saves, however many nodes the store holds.

Theory of operation: the live nodes are one flat dictionary of path -> node. Snapshots are a list
from old to new. A write that replaces a node which the newest snapshot sees puts it into that
snapshot's `saved`. An older snapshot reads through the newer ones: what is not saved at or after
it has not changed since, or did not exist then, which the generation tells. A snapshot that closes
hands what its elder still sees down to it. The names of a node's children are the one mutable
thing: they are extended in place as long as they are younger than every snapshot, and copied once
otherwise.
"""

from hv.core.xenstore.paths import basename, parent
from hv.core.xenstore.permissions import Permissions

Names = dict[str, None]  # an ordered set


class Node:
    """A value, its permissions and the names of its children; `generation` is unique."""

    __slots__ = (
        "_listing",
        "children",
        "children_since",
        "children_size",
        "generation",
        "permissions",
        "value",
    )  # fmt: skip

    def __init__(
        self,
        value: bytes,
        permissions: Permissions,
        generation: int,
        children: Names,
        children_since: int,
        children_size: int,
    ) -> None:
        self.value = value
        self.permissions = permissions
        self.generation = generation
        self.children = children
        self.children_since = children_since  # the generation from which `children` is private
        self.children_size = children_size  # bytes of the names, each with its NUL
        self._listing: bytes | None = None

    @classmethod
    def empty(cls, value: bytes, permissions: Permissions, generation: int) -> "Node":
        """A node without children."""
        return cls(value, permissions, generation, {}, generation, 0)

    def replaced(self, value: bytes, permissions: Permissions, generation: int) -> "Node":
        """The node with other contents and the same children."""
        return Node(
            value, permissions, generation, self.children, self.children_since, self.children_size
        )

    def _with_names(self, change: int, generation: int, newest_snapshot: int) -> "Node":
        names, since = self.children, self.children_since
        if since <= newest_snapshot:
            names, since = names.copy(), generation
        size = self.children_size + change
        return Node(self.value, self.permissions, generation, names, since, size)

    def with_child(self, name: str, generation: int, newest_snapshot: int) -> "Node":
        """The node with one more child."""
        node = self._with_names(len(name) + 1, generation, newest_snapshot)
        node.children[name] = None
        return node

    def without_child(self, name: str, generation: int, newest_snapshot: int) -> "Node":
        """The node with one child less."""
        node = self._with_names(-len(name) - 1, generation, newest_snapshot)
        del node.children[name]
        return node

    def listing(self) -> bytes:
        """The names of the children, each with its NUL, in order of creation."""
        if self._listing is None:
            self._listing = "".join([name + "\0" for name in self.children]).encode("latin-1")
        return self._listing


class Snapshot:
    """The tree as of generation `at`. Read with `get`, end with `close`."""

    __slots__ = ("_tree", "at", "saved")

    def __init__(self, tree: "Tree", at: int) -> None:
        self.at = at
        self.saved: dict[str, Node] = {}
        self._tree = tree

    def get(self, path: str) -> Node | None:
        """The node as it was, or None."""
        node = self._tree.get(path)
        if node is not None and node.generation <= self.at:
            return node
        snapshots = self._tree.snapshots
        for index in range(snapshots.index(self), len(snapshots)):
            saved = snapshots[index].saved.get(path)
            if saved is not None:
                return saved if saved.generation <= self.at else None
        return None

    def close(self) -> None:
        """Forget it; must be called once."""
        snapshots = self._tree.snapshots
        index = snapshots.index(self)
        if index:
            elder = snapshots[index - 1]
            for path, node in self.saved.items():
                if node.generation <= elder.at:
                    elder.saved.setdefault(path, node)
        del snapshots[index]


class Tree:
    """The live nodes. It keeps no rule but that of generations: parents are the caller's affair."""

    def __init__(self) -> None:
        self.generation = 0
        self.snapshots: list[Snapshot] = []
        self._nodes: dict[str, Node] = {}
        self.get = self._nodes.get  # the node at a path, or None

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, path: str) -> bool:
        return path in self._nodes

    @property
    def owned_after(self) -> int:
        """Children younger than this generation may be changed in place."""
        return self.snapshots[-1].at if self.snapshots else -1

    def next_generation(self) -> int:
        """A number that no node has."""
        self.generation += 1
        return self.generation

    def snapshot(self) -> Snapshot:
        """A view of the tree as it is now."""
        snapshot = Snapshot(self, self.next_generation())
        self.snapshots.append(snapshot)
        return snapshot

    def put(self, path: str, node: Node) -> None:
        """Set the node at `path`."""
        if self.snapshots:
            self._save(path)
        self._nodes[path] = node

    def remove(self, path: str) -> None:
        """Delete the node at `path`."""
        if self.snapshots:
            self._save(path)
        del self._nodes[path]

    def _save(self, path: str) -> None:
        old = self._nodes.get(path)
        newest = self.snapshots[-1]
        if old is not None and old.generation <= newest.at:
            newest.saved[path] = old

    def faults(self) -> list[str]:
        """Paths whose parent does not list them, and listed paths that do not exist."""
        nodes = self._nodes
        wrong = []
        for path, node in nodes.items():
            above = nodes.get(parent(path))
            if path != "/" and (above is None or basename(path) not in above.children):
                wrong.append(path)
            directory = "" if path == "/" else path
            wrong += [p for name in node.children if (p := f"{directory}/{name}") not in nodes]
        return wrong
