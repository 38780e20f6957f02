"""XenStore, told as simply as it can be: whole copies instead of snapshots.

A store is a dictionary of path -> Entry. A transaction is a copy of it, the set of paths it looked
at, and the versions that these had at its start. Only what matters for replies is here: no
watches, no quotas, no domains that come and go.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

READ, WRITE, ALL = 1, 2, 3


class RefusedError(Exception):
    """The errno name of a refused request."""


@dataclass
class Entry:
    """A node; `version` is new with each change of value, permissions or children."""

    value: bytes
    permissions: list[tuple[str, int]]
    version: int
    children: list[str] = field(default_factory=list)


def above(path: str) -> str:
    """The parent's path."""
    return path.rpartition("/")[0] or "/"


class Model:
    """The live nodes."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.entries = entries
        self.versions = 1000

    def view(self) -> View:
        """Work on the live nodes."""
        return View(self, self.entries)

    def begin(self) -> View:
        """Work on a copy."""
        return View(self, copy.deepcopy(self.entries))


class View:
    """Nodes to work on: the live ones, or those of a transaction."""

    def __init__(self, model: Model, entries: dict[str, Entry]) -> None:
        self.model = model
        self.entries = entries
        self.started_with = {path: entry.version for path, entry in entries.items()}
        self.looked_at: set[str] = set()
        self.changed: set[str] = set()

    def _get(self, path: str) -> Entry | None:
        self.looked_at.add(path)
        return self.entries.get(path)

    def _touch(self, path: str) -> None:
        self.changed.add(path)
        self.model.versions += 1
        if path in self.entries:
            self.entries[path].version = self.model.versions

    def _nearest(self, path: str) -> Entry:
        while True:
            path = above(path)
            entry = self._get(path)
            if entry:
                return entry

    def _look(self, who: int, path: str, wanted: int) -> Entry | None:
        """The node; None if it is missing and the caller may know."""
        entry = self._get(path)
        if entry and rights(entry, who) & wanted == wanted:
            return entry
        if not rights(self._nearest(path), who) & wanted or entry:
            raise RefusedError("EACCES")
        return None

    def _need(self, who: int, path: str, wanted: int) -> Entry:
        entry = self._look(who, path, wanted)
        if not entry:
            raise RefusedError("ENOENT")
        return entry

    def read(self, who: int, path: str) -> bytes:
        """READ."""
        return self._need(who, path, READ).value

    def directory(self, who: int, path: str) -> bytes:
        """DIRECTORY."""
        names = self._need(who, path, READ).children
        return "".join(f"{name}\0" for name in names).encode()

    def get_permissions(self, who: int, path: str) -> bytes:
        """GET_PERMS."""
        entries = self._need(who, path, READ).permissions
        return "".join(f"{letter}{domid}\0" for letter, domid in entries).encode()

    def write(self, who: int, path: str, value: bytes) -> None:
        """WRITE."""
        entry = self._look(who, path, WRITE)
        if entry:
            entry.value = value
            self._touch(path)
        else:
            self._create(who, path, value)

    def mkdir(self, who: int, path: str) -> None:
        """MKDIR."""
        if not self._look(who, path, WRITE):
            self._create(who, path, b"")

    def _create(self, who: int, path: str, value: bytes) -> None:
        directory = above(path)
        if not self._get(directory):
            self._create(who, directory, b"")
        holder = self.entries[directory]
        permissions = list(holder.permissions)
        if who:
            permissions[0] = (permissions[0][0], who)
        self.entries[path] = Entry(value, permissions, 0)
        holder.children.append(path.rpartition("/")[2])
        self._touch(path)
        self._touch(directory)

    def remove(self, who: int, path: str) -> None:
        """RM."""
        if not self._look(who, path, WRITE):
            if not self._get(above(path)):
                raise RefusedError("ENOENT")
            return
        self._get(above(path))
        for gone in [p for p in self.entries if p == path or p.startswith(path + "/")]:
            self._get(gone)
            del self.entries[gone]
            self._touch(gone)
        self.entries[above(path)].children.remove(path.rpartition("/")[2])
        self._touch(above(path))

    def set_permissions(self, who: int, path: str, permissions: list[tuple[str, int]]) -> None:
        """SET_PERMS."""
        entry = self._look(who, path, WRITE)
        if entry and who and entry.permissions[0][1] != who:
            self._nearest(path)
            raise RefusedError("EACCES")
        if not entry:
            raise RefusedError("ENOENT")
        if who and permissions[0][1] != who:
            raise RefusedError("EPERM")
        entry.permissions = permissions
        self._touch(path)

    def commit(self) -> None:
        """Bring the copy into the live nodes."""
        live = self.model.entries
        for path in self.looked_at:
            now = live[path].version if path in live else None
            if now != self.started_with.get(path):
                raise RefusedError("EAGAIN")
        for path in self.changed:
            self.model.versions += 1
            if path in self.entries:
                live[path] = copy.deepcopy(self.entries[path])
                live[path].version = self.model.versions
            else:
                live.pop(path, None)


def rights(entry: Entry, who: int) -> int:
    """What a domain may do; 0 is privileged."""
    bits = {"n": 0, "r": READ, "w": WRITE, "b": ALL}
    (default, owner), *others = entry.permissions
    if who in (0, owner):
        return ALL
    return next((bits[letter] for letter, domid in others if domid == who), bits[default])
