"""Transactions: a snapshot, what was touched in it, and the commit.

Rules: a transaction sees the store as of its start plus its own changes; it fails with EAGAIN if
and only if a node that it touched (looked at, even in vain, or changed) has been replaced by
others since its start; creating or removing a child replaces the parent too; events fire after the
commit of each node, in the order of first touch; a change that was refused for its size dooms the
whole transaction (ENOMEM at its end).

Theory of operation: the first touch of a path looks it up in the snapshot and keeps that node as
`base`; later touches go to `node`. As every replacement makes a new node, a conflict is "the live
node is not `base`". 4.17's daemon copies a node when it is first touched, not at the start, so
there a change between the start and the first touch is seen; the specification, and this, promise
the start.

Source: docs/misc/xenstore.txt (TRANSACTION_START).
"""

from hv.core.xenstore.errors import XenStoreError
from hv.core.xenstore.quotas import exceeds
from hv.core.xenstore.state import State
from hv.core.xenstore.tree import Node


class Touched:
    """A path that a transaction looked at or changed."""

    __slots__ = ("base", "exact", "fires", "modified", "node")

    def __init__(self, base: Node | None) -> None:
        self.base = base
        self.node = base
        self.modified = False
        self.fires = False
        self.exact = True


class Transaction:
    """A view of the tree, with the same interface for nodes."""

    __slots__ = ("_limit", "_snapshot", "_state", "_touched", "created", "entries", "failed")

    def __init__(self, state: State, limit: int) -> None:
        self._state = state
        self._snapshot = state.tree.snapshot()
        self._touched: dict[str, Touched] = {}
        self._limit = limit  # of touched nodes; 0 is none
        self.entries: dict[int, int] = {}  # change in the number of nodes, by owner
        self.created = False
        self.failed = False

    # The interface of a tree

    def __contains__(self, path: str) -> bool:
        touched = self._touched.get(path)
        return touched is not None and touched.node is not None

    @property
    def owned_after(self) -> int:
        """Children younger than this generation may be changed in place."""
        return self._snapshot.at

    def next_generation(self) -> int:
        """A number that no node has."""
        return self._state.tree.next_generation()

    def get(self, path: str) -> Node | None:
        """The node as the transaction sees it. Raises ENOSPC if it touches too many."""
        touched = self._touched.get(path)
        return touched.node if touched is not None else self._touch(path).node

    def put(self, path: str, node: Node) -> None:
        """Set the node at a path."""
        touched = self._touched.get(path) or self._touch(path)
        touched.node = node
        touched.modified = True

    def remove(self, path: str) -> None:
        """Delete the node at a path."""
        touched = self._touched.get(path) or self._touch(path)
        touched.node = None
        touched.modified = True

    def _touch(self, path: str) -> Touched:
        if exceeds(len(self._touched), self._limit):
            self.failed = True
            raise XenStoreError("ENOSPC")
        touched = Touched(self._snapshot.get(path))
        self._touched[path] = touched
        return touched

    # What happens at the end

    def count(self, domid: int, change: int) -> None:
        """Remember that a domain owns more or fewer nodes."""
        self.entries[domid] = self.entries.get(domid, 0) + change

    def fire(self, path: str, exact: bool) -> None:
        """Remember to tell the watchers; a full event replaces an exact one."""
        touched = self._touched[path]
        touched.fires = True
        touched.exact = touched.exact and exact

    def discard(self) -> None:
        """End without effect."""
        self._snapshot.close()

    def commit(self, privileged: bool) -> None:
        """End, and make the changes; on an error (ENOMEM, ENOSPC, EAGAIN) none is made."""
        self._snapshot.close()
        if self.failed:
            raise XenStoreError("ENOMEM")
        if self.created and not privileged:
            self._check_entries()
        live = self._state.tree.get
        if any(live(path) is not touched.base for path, touched in self._touched.items()):
            raise XenStoreError("EAGAIN")
        for domid, change in self.entries.items():
            self._state.domain(domid).nodes += change
        for path, touched in self._touched.items():
            if touched.modified:
                self._apply(path, touched)

    def _check_entries(self) -> None:
        for domid, change in self.entries.items():
            domain = self._state.domain(domid)
            if domid and exceeds(domain.nodes + change, domain.quotas.nodes):
                raise XenStoreError("ENOSPC")

    def _apply(self, path: str, touched: Touched) -> None:
        state, node = self._state, touched.node
        if node is not None:
            node.generation = state.tree.next_generation()
            state.tree.put(path, node)
        elif touched.base is not None:
            state.tree.remove(path)
        if touched.fires:
            old = None if touched.base is None else touched.base.permissions
            state.fire(path, touched.exact, old)
