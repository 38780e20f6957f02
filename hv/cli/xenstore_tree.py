"""What xenstore-ls prints: one line a node, as the stock tool has it.

The width of a terminal cuts long values, with --flat too; elsewhere a line has 80 columns without --flat. Permissions
begin at column 60 where the value leaves room.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from hv.core.xenstore.client import Nodes
from hv.core.xenstore.dump import escaped
from hv.errors import StoreError

WIDTH, PERMISSIONS_COLUMN = 80, 60
ENDLESS = 1 << 30
CUT = len(' = "..."')


class Tree:
    """Prints the nodes below a path with `write`."""

    def __init__(self, nodes: Nodes, flat: bool, permissions: bool, write: Callable[[str], None]) -> None:
        self._nodes = nodes
        self._flat = flat
        self._permissions = permissions
        self._write = write
        self._width = _width(flat)
        self._column = 0 if flat else min(PERMISSIONS_COLUMN, self._width)

    def show(self, top: str) -> None:
        """Print everything below a path. StoreError where it is not there."""
        output: list[str] = []
        stack = [(top, 0, iter(self._nodes.ls(top)))]
        while stack:
            path, depth, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                continue
            below = path + ("" if path.endswith("/") else "/") + name
            output.append(self._line(below, name, depth))
            stack.append((below, depth + 1, iter(self._children(below))))
            if len(output) >= 512:
                self._write("".join(output))
                output.clear()
        self._write("".join(output))

    def _children(self, path: str) -> list[str]:
        try:
            return self._nodes.ls(path)
        except StoreError as error:
            if error.name == "ENOENT":  # it has gone meanwhile
                return []
            raise

    def _line(self, path: str, name: str, depth: int) -> str:
        room = self._width - CUT - depth
        shown = path if self._flat else " " * depth + (name[:room] if room >= 0 else name)
        column = 0 if self._flat else len(shown)
        try:
            value = self._nodes.read(path)
        except StoreError:
            shown += ":\n"
        else:
            text = escaped(value)
            room = self._width - CUT - column
            if self._width < column + len(value) + CUT:
                shown += f' = "{text[:room] if room >= 0 else text}\\..."'
            else:
                shown += f' = "{text}"'
                column += len(text) + 5
                if self._permissions:
                    shown += " " + "".join("." if c & 1 else " " for c in range(column + 1, self._column))
        return shown + (self._modes(path) if self._permissions else "") + "\n"

    def _modes(self, path: str) -> str:
        try:
            return f"  ({','.join(self._nodes.get_permissions(path))})"
        except StoreError:
            return ""


def _width(flat: bool) -> int:
    try:
        columns = os.get_terminal_size(1).columns
    except OSError:
        return ENDLESS if flat else WIDTH
    return columns - 2 if columns >= 2 else ENDLESS
