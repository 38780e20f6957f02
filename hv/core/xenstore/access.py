"""Nodes as one caller may see and change them, inside a transaction or outside.

Rules: without the wanted right on a node, or on the nearest existing node above a missing one, the
answer is EACCES, so that an error tells nothing of what the caller may not see; creating a node
creates its missing parents, all or none, each with the permissions of the node above but owned by
an unprivileged creator; only the created or changed path itself fires, not its new parents.

Theory of operation: an `Access` is made per request. `view` is the tree or the transaction; both
offer get, put, remove. What is looked at follows 4.17's daemon exactly, because in a transaction a
look decides on a conflict later.

Source: docs/misc/xenstore.txt.
"""

from collections.abc import Iterator

from hv.core.xenstore import permissions as perms
from hv.core.xenstore.connection import Connection
from hv.core.xenstore.errors import XenStoreError
from hv.core.xenstore.paths import absolute, basename, is_valid, join, parent
from hv.core.xenstore.permissions import Permissions
from hv.core.xenstore.quotas import NODE_HEADER, NODE_PERMISSION, exceeds
from hv.core.xenstore.state import State
from hv.core.xenstore.transactions import Transaction
from hv.core.xenstore.tree import Node, Tree


class Access:
    """One request: on which store, for whom, in which transaction."""

    __slots__ = ("connection", "state", "transaction", "view")

    def __init__(
        self, state: State, connection: Connection, transaction: Transaction | None
    ) -> None:
        self.state = state
        self.connection = connection
        self.transaction = transaction
        self.view: Tree | Transaction = state.tree if transaction is None else transaction

    # Looking

    def lookup(self, name: str, wanted: int) -> tuple[str, Node]:
        """The absolute path and the node, all `wanted` rights being there.

        Raises EINVAL, ENOENT or EACCES.
        """
        path = absolute(name, self.connection.base)
        node = self.view.get(path) if self.connection.privileged else None
        if node is None:
            node = self._find(path, wanted)
            if node is None:
                raise XenStoreError("ENOENT")
        return path, node

    def _find(self, path: str, wanted: int) -> Node | None:
        """The node, or None where the caller may know that it is missing."""
        # What is in the tree has been checked when it came there.
        if path not in self.view and not is_valid(path, self.state.quotas.path_max):
            raise XenStoreError("EINVAL")
        node = self.view.get(path)
        if node is not None and self._rights(node) & wanted == wanted:
            return node
        if not self._rights(self._nearest_above(path)) & wanted or node is not None:
            raise XenStoreError("EACCES")
        return None

    def _rights(self, node: Node) -> int:
        if self.connection.privileged:
            return perms.ALL
        return self.state.granted(self.connection, node.permissions, node.generation)

    def _nearest_above(self, path: str) -> Node:
        while True:
            path = parent(path)
            node = self.view.get(path)
            if node is not None:
                return node

    # Changing

    def write(self, name: str, value: bytes) -> None:
        """Set a value, creating the node if it is missing. Raises ENOSPC beyond the quota."""
        path = absolute(name, self.connection.base)
        node = self._find(path, perms.WRITE)
        if node is None:
            self._create(path, value)
        else:
            permissions = self.state.rewritten(node)
            self._check_size(permissions, len(value), node.children_size)
            self.view.put(path, node.replaced(value, permissions, self.view.next_generation()))
        self._fire(path)

    def make(self, name: str) -> None:
        """Create a node unless it exists."""
        path = absolute(name, self.connection.base)
        if self._find(path, perms.WRITE) is None:
            self._create(path, b"")
            self._fire(path)

    def set_permissions(self, name: str, permissions: Permissions) -> None:
        """Replace a permission list. Raises EPERM if a guest would give its node away."""
        path, node = self.lookup(name, perms.WRITE | perms.OWNER)
        old = node.permissions
        if not self.connection.privileged and permissions[0].domid != old[0].domid:
            raise XenStoreError("EPERM")
        generation = self.view.next_generation()
        permissions = perms.current(permissions, generation, self.state.births)
        self._check_size(permissions, len(node.value), node.children_size)
        self._count(old[0].domid, -1)
        self._count(permissions[0].domid, 1)
        self.view.put(path, node.replaced(node.value, permissions, generation))
        self._fire(path, False, old)

    def remove(self, name: str) -> None:
        """Delete a subtree. A missing node is fine where its parent exists, else ENOENT."""
        path = absolute(name, self.connection.base)
        node = self._find(path, perms.WRITE)
        if node is None:
            if self.view.get(parent(path)) is None:
                raise XenStoreError("ENOENT")
        elif path == "/":
            raise XenStoreError("EINVAL")
        else:
            try:
                self._remove_tree(path, node)
            except XenStoreError:  # the transaction touches too many nodes
                raise XenStoreError("EIO") from None

    def _create(self, path: str, value: bytes) -> None:
        view, state = self.view, self.state
        missing = [path]
        while (above := view.get(parent(missing[-1]))) is None:
            missing.append(parent(missing[-1]))
        creator = None if self.connection.privileged else self.connection.domid
        inherited = state.rewritten(above)
        permissions = perms.inherited(inherited, creator)
        if self.transaction is not None:
            self.transaction.created = True
        if creator is not None:
            self._check_creation(missing, permissions, len(value), above)
        name = None
        for new in missing:
            node = Node.empty(value, permissions, view.next_generation())
            if name is not None:
                node = node.with_child(name, node.generation, view.owned_after)
            view.put(new, node)
            self._count(permissions[0].domid, 1)
            name, value = basename(new), b""
        generation = view.next_generation()
        above = above.replaced(above.value, inherited, generation)
        assert name is not None
        top = parent(missing[-1])
        view.put(top, above.with_child(name, generation, view.owned_after))

    def _remove_tree(self, root: str, node: Node) -> None:
        view = self.view
        top = parent(root)
        above = view.get(top)
        assert above is not None
        for path, gone, holder in self._bottom_up(root, node, above):
            view.remove(path)
            self._fire(path, path != root, None, gone, holder)
            self._count(gone.permissions[0].domid, -1)
        generation = view.next_generation()
        above = above.replaced(above.value, self.state.rewritten(above), generation)
        view.put(top, above.without_child(basename(root), generation, view.owned_after))

    def _bottom_up(self, root: str, node: Node, above: Node) -> Iterator[tuple[str, Node, Node]]:
        """(path, node, parent) of a subtree: looked at from the top, delivered from the bottom."""
        stack = [(root, node, above, iter(tuple(node.children)))]
        while stack:
            path, node, above, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                yield path, node, above
            else:
                below = join(path, name)
                child = self.view.get(below)
                assert child is not None
                stack.append((below, child, node, iter(tuple(child.children))))

    # Effects and limits

    def _fire(
        self,
        path: str,
        exact: bool = False,
        old: Permissions | None = None,
        node: Node | None = None,
        above: Node | None = None,
    ) -> None:
        if self.transaction is None:
            self.state.fire(path, exact, old, node, above)
        else:
            self.transaction.fire(path, exact)

    def _count(self, domid: int, change: int) -> None:
        if self.transaction is None:
            self.state.domain(domid).nodes += change
        else:
            self.transaction.count(domid, change)

    def _check_creation(
        self, missing: list[str], permissions: Permissions, size: int, above: Node
    ) -> None:
        """All limits that creating `missing` could hit; in the daemon's order, from the bottom."""
        domain = self.connection.domain
        assert domain is not None
        nodes, children = domain.nodes, 0
        for index, path in enumerate(missing):
            if exceeds(nodes, domain.quotas.nodes):
                raise self._refusal(dooms=index > 0)
            self._check_size(permissions, size, children)
            if self.transaction is None:
                nodes += 1
            size, children = 0, len(basename(path)) + 1
        self._check_size(above.permissions, len(above.value), above.children_size + children)

    def _check_size(self, permissions: Permissions, value: int, children: int) -> None:
        domain = self.connection.domain
        if self.connection.privileged or domain is None:
            return
        size = NODE_HEADER + NODE_PERMISSION * len(permissions) + value + children
        if exceeds(size, domain.quotas.node_size):
            raise self._refusal(dooms=True)

    def _refusal(self, dooms: bool) -> XenStoreError:
        if dooms and self.transaction is not None:
            self.transaction.failed = True
        return XenStoreError("ENOSPC")
