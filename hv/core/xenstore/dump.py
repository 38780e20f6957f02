"""The store as text, and back.

Rules: one node a line, parents before children, children in their order; what is loaded has the
same nodes, values, permissions and order; a text is loaded whole or not at all.

A line is what `xenstore-ls -f -p` prints, so that its output can be loaded too:

    /local/domain/1/name = "g"   (n0,r1)

In a value a printable ASCII character stands for itself, also the quotation mark; the others, and
the backslash, are \\\\ \\t \\n \\r, three octal digits below 8, and \\xNN. An entry of a domain that is
gone, which counts for nobody, ends with "!"; "/" has a line too. Empty lines and those that begin
with "#" are skipped; a line without permissions inherits them.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from hv.core.xenstore import permissions as perms
from hv.core.xenstore.access import Access
from hv.core.xenstore.errors import XenStoreError
from hv.core.xenstore.paths import is_valid, join
from hv.core.xenstore.permissions import Permission, Permissions
from hv.core.xenstore.state import State
from hv.core.xenstore.tree import Node

HEADER = "# XenStore, as xenstore-ls -f -p prints it: path = value, permissions.\n"
_LINE = re.compile(r'(/[^ ]*) = "(.*)"(?:[ \t]+\(([^()"]*)\))?[ \t]*')
_ESCAPE = re.compile(r"\\(?:([\\tnr])|([0-7]{3})|x([0-9a-fA-F]{2}))")
_NAMED = {"\t": "t", "\n": "n", "\r": "r", "\\": "\\"}
_MEANT = {letter: character for character, letter in _NAMED.items()}
_GONE = "!"


class DumpError(ValueError):
    """A text that is no dump; one sentence with the line's number."""


def _escape(character: str) -> str:
    name = _NAMED.get(character)
    if name is not None:
        return "\\" + name
    number = ord(character)
    return f"\\{number:03o}" if number < 8 else f"\\x{number:02x}"


# The spelling of every byte, as str.translate takes it.
_SPELLING = {n: _escape(chr(n)) for n in range(256) if not 0x20 <= n <= 0x7E or chr(n) == "\\"}


def escaped(value: bytes) -> str:
    """A value in printable ASCII, as the stock tools print it."""
    return value.decode("latin-1").translate(_SPELLING)


def unescaped(text: str) -> bytes:
    """The value that `escaped` spelt. Raises ValueError."""
    plain = _ESCAPE.sub("", text)
    if "\\" in plain or not text.isascii():
        raise ValueError("a value has an escape sequence that is none")

    def meant(match: re.Match[str]) -> str:
        named, octal, hexadecimal = match.groups()
        return _MEANT[named] if named else chr(int(octal, 8) if octal else int(hexadecimal, 16))

    return _ESCAPE.sub(meant, text).encode("latin-1")


# --- writing


def dump(state: State) -> Iterator[str]:
    """The lines of a store, each with its newline. The store must not change meanwhile."""
    yield HEADER
    root = state.tree.get("/")
    assert root is not None
    stack = [("/", root)]
    while stack:
        path, node = stack.pop()
        yield f'{path} = "{escaped(node.value)}"   ({_permissions(state, node)})\n'
        for name in reversed(node.children):
            below = join(path, name)
            child = state.tree.get(below)
            assert child is not None
            stack.append((below, child))


def _permissions(state: State, node: Node) -> str:
    entries = perms.current(node.permissions, node.generation, state.births)
    texts = perms.render(entries)
    return ",".join(
        text + _GONE if entry.bits & perms.IGNORED else text
        for text, entry in zip(texts, entries, strict=True)
    )


# --- reading


class _Line(NamedTuple):
    number: int
    path: str
    value: bytes
    permissions: Permissions | None


def load(state: State, text: str) -> None:
    """Replace all nodes of a store by those of a dump. Raises DumpError, and changes nothing then."""
    lines = [_parse(n, line, state) for n, line in enumerate(text.split("\n"), 1) if line.strip() and line[0] != "#"]
    host = Access(state, state.connection(None, privileged=True), None)
    root = state.tree.get("/")
    assert root is not None
    for name in list(root.children):
        host.remove(f"/{name}")
    for line in lines:
        host.write(line.path, line.value)
        if line.permissions is not None:
            for entry in line.permissions:
                if not entry.bits & perms.IGNORED:
                    state.domain(entry.domid)
            host.set_permissions(line.path, line.permissions)


def _parse(number: int, text: str, state: State) -> _Line:
    match = _LINE.fullmatch(text.rstrip("\r"))
    if match is None:
        raise DumpError(f'line {number} is not of the form: /path = "value"   (permissions)')
    path, value, entries = match.groups()
    if not is_valid(path, state.quotas.path_max):
        raise DumpError(f"line {number}: {path!r} is no path that XenStore allows")
    try:
        return _Line(number, path, unescaped(value), None if entries is None else _entries(entries))
    except (ValueError, XenStoreError) as error:
        reason = error if isinstance(error, ValueError) else "the permissions are not of the form n0,r1"
        raise DumpError(f"line {number}: {reason}") from None


def _entries(text: str) -> Permissions:
    texts = text.split(",")
    found = perms.parse(entry.removesuffix(_GONE) for entry in texts)
    return tuple(
        Permission(domid, bits | perms.IGNORED) if entry.endswith(_GONE) else Permission(domid, bits)
        for (domid, bits), entry in zip(found, texts, strict=True)
    )
