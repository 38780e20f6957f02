"""Who may read and write a node.

Rules: the first entry names the owner, who may do everything, and the access of everybody who is
in no other entry; a domain may also act as the owner its SET_TARGET names; an entry for a domain
that was created after the node was last written, or that is gone, counts for nobody, so that a new
domain never inherits the rights of an old one with its number.

Theory of operation: a permission list is an immutable tuple. `births` maps each known domain to
the generation of the store at its creation, which is compared with the generation of the node.
Rewriting a node would hide the comparison, so `current` marks dead entries first.

Source: docs/misc/xenstore.txt (SET_PERMS), https://wiki.xen.org/wiki/XenBus.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hv.core.xenstore.errors import XenStoreError

NONE = 0
READ = 1
WRITE = 2
OWNER = 4
IGNORED = 8
ALL = READ | WRITE | OWNER

_LETTERS = "nrwb"  # indexed by READ | WRITE
# What strtol with base 0 takes whole.
_NUMBER = re.compile(r"[ \t-\r]*([+-]?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))")
_LONG_MAX = (1 << 63) - 1


class Permission(NamedTuple):
    """One entry: a domain and what it may do (NONE, READ, WRITE, READ | WRITE; perhaps IGNORED)."""

    domid: int
    bits: int


Permissions = tuple[Permission, ...]


def _unsigned_int(text: str) -> int:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise XenStoreError("EINVAL")
    sign, hexadecimal, octal, decimal = match.groups()
    magnitude = int(hexadecimal, 16) if hexadecimal else int(octal, 8) if octal else int(decimal)
    value = max(-magnitude, -_LONG_MAX - 1) if sign == "-" else min(magnitude, _LONG_MAX)
    return value & 0xFFFFFFFF


def parse(texts: Iterable[str]) -> Permissions:
    """Entries such as "n0", "r1". Raises EINVAL."""
    entries = []
    for text in texts:
        bits = _LETTERS.find(text[:1]) if text else -1
        if bits < 0:
            raise XenStoreError("EINVAL")
        entries.append(Permission(_unsigned_int(text[1:]), bits))
    return tuple(entries)


def render(permissions: Permissions) -> list[str]:
    """The entries as text; numbers as a signed 32-bit integer."""
    return [
        _LETTERS[bits & (READ | WRITE)] + str(domid - ((domid & 0x80000000) << 1))
        for domid, bits in permissions
    ]


def granted(
    permissions: Permissions,
    generation: int,
    births: Mapping[int, int],
    domid: int,
    target: int | None,
) -> int:
    """What an unprivileged domain may do with a node last written at `generation`."""
    owner, default = permissions[0]
    if owner in (domid, target):
        return ALL
    for index in range(1, len(permissions)):
        named, bits = permissions[index]
        if named in (domid, target) and not bits & IGNORED:
            birth = births.get(named)
            if birth is not None and birth <= generation:
                return bits
    return default


def current(permissions: Permissions, generation: int, births: Mapping[int, int]) -> Permissions:
    """The list to write again: entries that no longer count are marked for good."""
    if len(permissions) == 1:
        return permissions
    marked = [permissions[0]]
    for entry in permissions[1:]:
        birth = births.get(entry.domid)
        stale = birth is None or birth > generation
        marked.append(Permission(entry.domid, entry.bits | IGNORED) if stale else entry)
    return tuple(marked)


def inherited(permissions: Permissions, owner: int | None) -> Permissions:
    """The list of a new child: the parent's, but an unprivileged creator owns what it creates."""
    if owner is None or permissions[0].domid == owner:
        return permissions
    return (Permission(owner, permissions[0].bits), *permissions[1:])


def without(permissions: Permissions, domid: int) -> Permissions:
    """The list after a domain is gone; domain 0 inherits what it owned."""
    first = permissions[0]
    kept = tuple(entry for entry in permissions[1:] if entry.domid != domid)
    return (Permission(0, first.bits) if first.domid == domid else first, *kept)
