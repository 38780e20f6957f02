"""Who wants to hear of which path.

Rules: a change fires every watch on its path or on one above it; the removal of a subtree fires,
for each node below the removed one, only the watches on exactly that node; "@introduceDomain" and
"@releaseDomain" fire exact matches only; events go out by the age of the connection, then by that
of the watch; a path registered as relative is reported relative to the same base; a watch with a
depth hears of so many levels below its path, and of special events with the domain's number.

Theory of operation: watches are indexed by the path they name. A change looks up its own path and
each of those above, so its cost is its depth plus the watches that fire.

Source: docs/misc/xenstore.txt (WATCH, WATCH_EVENT).
"""

from hv.core.xenstore.connection import Connection
from hv.core.xenstore.paths import parent

INTRODUCE_DOMAIN = "@introduceDomain"
RELEASE_DOMAIN = "@releaseDomain"


class Watch:
    """One registration; `path` is absolute."""

    __slots__ = ("_skip", "connection", "depth", "order", "path", "token")

    def __init__(
        self,
        connection: Connection,
        path: str,
        token: bytes,
        relative: bool,
        depth: int | None,
        serial: int,
    ) -> None:
        self.connection = connection
        self.path = path
        self.token = token
        self.depth = depth  # None: any
        self.order = (connection.serial, serial)
        self._skip = len(connection.base) + 1 if relative else 0

    def reported(self, path: str) -> str:
        """A changed path, as this watch spells it."""
        return path[self._skip :]

    def reported_special(self, name: str, domid: int) -> str:
        """A special event, as this watch spells it."""
        return self.path if self.depth is None else f"{name}/{domid}"


def _order(watch: Watch) -> tuple[int, int]:
    return watch.order


def _within(watches: list[Watch], level: int) -> list[Watch]:
    return [watch for watch in watches if watch.depth is None or level <= watch.depth]


class Watches:
    """All watches of a store."""

    def __init__(self) -> None:
        self._by_path: dict[str, list[Watch]] = {}
        self._serial = 0
        self._limited = 0  # how many have a depth

    def add(
        self,
        connection: Connection,
        path: str,
        token: bytes,
        relative: bool,
        depth: int | None = None,
    ) -> Watch:
        """Register; the caller has checked that it is new."""
        self._serial += 1
        watch = Watch(connection, path, token, relative, depth, self._serial)
        connection.watches[path, token] = watch
        self._limited += depth is not None
        self._by_path.setdefault(path, []).append(watch)
        return watch

    def remove(self, watch: Watch) -> None:
        """Forget a watch."""
        del watch.connection.watches[watch.path, watch.token]
        self._limited -= watch.depth is not None
        same_path = self._by_path[watch.path]
        same_path.remove(watch)
        if not same_path:
            del self._by_path[watch.path]

    def matching(self, path: str, exact: bool) -> list[Watch]:
        """The watches a change of `path` fires, in order."""
        found: list[Watch] = []
        if self._by_path:
            found += self._by_path.get(path, ())
            level = 0
            while not exact and path != "/":
                path = parent(path)
                level += 1
                above = self._by_path.get(path)
                if above is not None:
                    found += above if not self._limited else _within(above, level)
            if len(found) > 1:
                found.sort(key=_order)
        return found

    def matching_special(self, name: str, domid: int) -> list[Watch]:
        """The watches a special event fires, in order."""
        found = [*self._by_path.get(name, ()), *self._by_path.get(f"{name}/{domid}", ())]
        found.sort(key=_order)
        return found
