"""The operations: one row each.

Rules: a request of an unknown number is ENOSYS, of a privileged one from a guest EACCES, with an
unknown transaction ENOENT, in this order and before its payload is looked at; what a handler
returns is the payload of the reply; what it raises is the error. WATCH_EVENT and ERROR are replies
only.

The operations on domains are in `domain_operations`. Source: docs/misc/xenstore.txt;
public/io/xs_wire.h of Xen 4.17 for the numbers to 22, of current Xen for those above. The depth of
WATCH is in 4.17's specification, and in current Xen; 4.17's daemon has no third argument.
"""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

from hv.abi.io import xs_wire as xs
from hv.core.xenstore import payload as shape
from hv.core.xenstore import permissions as perms
from hv.core.xenstore import quotas
from hv.core.xenstore.access import Access
from hv.core.xenstore.control import control
from hv.core.xenstore.domain_operations import (
    existing,
    get_domain_path,
    get_feature,
    introduce,
    is_domain_introduced,
    release,
    resume,
    set_feature,
    set_target,
)
from hv.core.xenstore.errors import XenStoreError
from hv.core.xenstore.numbers import atoi
from hv.core.xenstore.paths import absolute, is_valid
from hv.core.xenstore.transactions import Transaction

OK = b"OK\0"


class InTransaction(Enum):
    """What a tx_id other than 0 means to an operation."""

    ALLOWED = "it must be known; what concerns nodes happens in it"
    REFUSED = "it must be known; the answer is EBUSY"
    IGNORED = "it is not looked at"


class Operation(NamedTuple):
    """One row. `handler(access, *shape(payload))` returns the payload of the reply."""

    number: int
    name: str
    shape: shape.Shape
    privileged: bool
    in_transaction: InTransaction
    handler: Callable[..., bytes]

    @property
    def names_node(self) -> bool:
        """Whether the first argument is a path."""
        return self.number in _NODE_OPERATIONS


_NODE_OPERATIONS = frozenset(
    (
        xs.XS_DIRECTORY,
        xs.XS_READ,
        xs.XS_GET_PERMS,
        xs.XS_WATCH,
        xs.XS_UNWATCH,
        xs.XS_WRITE,
        xs.XS_MKDIR,
        xs.XS_RM,
        xs.XS_SET_PERMS,
        xs.XS_DIRECTORY_PART,
    )
)


def _control(access: Access, words: list[str]) -> bytes:
    if not words:
        raise XenStoreError("EINVAL")
    return control(access.state, words[0], words[1:])


def _directory(access: Access, path: str) -> bytes:
    node = access.lookup(path, perms.READ)[1]
    if node.children_size > xs.XENSTORE_PAYLOAD_MAX:
        raise XenStoreError("E2BIG")
    return node.listing()


def _part(access: Access, path: str, offset: str) -> bytes:
    node = access.lookup(path, perms.READ)[1]
    generation = b"%d\0" % node.generation
    start = atoi(offset) & 0xFFFFFFFF
    if start >= node.children_size:
        return generation + b"\0"
    # A name must end before the last byte that the empty name at the end of the list may need.
    room = xs.XENSTORE_PAYLOAD_MAX - len(generation) - 1
    rest = node.listing()[start:]
    if len(rest) <= room:
        return generation + rest + b"\0"
    return generation + rest[: rest.rfind(b"\0", 0, room) + 1]


def _read(access: Access, path: str) -> bytes:
    return access.lookup(path, perms.READ)[1].value


def _get_perms(access: Access, path: str) -> bytes:
    node = access.lookup(path, perms.READ)[1]
    return "".join([text + "\0" for text in perms.render(node.permissions)]).encode()


def _write(access: Access, path: str, value: bytes) -> bytes:
    access.write(path, value)
    return OK


def _mkdir(access: Access, path: str) -> bytes:
    access.make(path)
    return OK


def _rm(access: Access, path: str) -> bytes:
    access.remove(path)
    return OK


def _set_perms(access: Access, texts: list[str]) -> bytes:
    if len(texts) < 2:
        raise XenStoreError("EINVAL")
    state, connection = access.state, access.connection
    if not connection.privileged and connection.domain is not None:
        limit = connection.domain.quotas.permissions
        if limit and len(texts) - 1 > limit:
            raise XenStoreError("ENOSPC")
    entries = [
        entry if state.existing(entry.domid) else entry._replace(bits=entry.bits | perms.IGNORED)
        for entry in perms.parse(texts[1:])
    ]
    if entries[0].bits & perms.IGNORED:
        raise XenStoreError("ENOENT")
    if texts[0].startswith("@"):
        _set_special(access, texts[0], tuple(entries))
    else:
        access.set_permissions(texts[0], tuple(entries))
    return OK


def _set_special(access: Access, name: str, permissions: perms.Permissions) -> None:
    state = access.state
    if name not in state.special:
        raise XenStoreError("EINVAL")
    rights = state.granted(access.connection, state.special[name], state.tree.generation)
    if rights & (perms.WRITE | perms.OWNER) != perms.WRITE | perms.OWNER:
        raise XenStoreError("EACCES")
    state.special[name] = permissions


def _may_be_watched(access: Access, path: str) -> bool:
    if path.startswith("@"):  # any such name: those that nothing fires wait for ever
        return len(path) <= xs.XENSTORE_REL_PATH_MAX
    return is_valid(path, access.state.quotas.path_max)


def _depth(name: str, text: str | None) -> int | None:
    """How many levels a watch looks down; of a special event only 1 means something."""
    if text is None:
        return None
    depth = atoi(text)
    if depth < 0 or (name.startswith("@") and depth != 1):
        raise XenStoreError("EINVAL")
    return depth


def _watch(access: Access, name: str, token: str, levels: str | None = None) -> bytes:
    connection, state = access.connection, access.state
    path = absolute(name, connection.base)
    if not _may_be_watched(access, path):
        raise XenStoreError("EINVAL")
    depth = _depth(name, levels)
    key = (path, token.encode("latin-1"))
    if key in connection.watches:
        raise XenStoreError("EEXIST")
    domain = connection.domain
    if domain is not None:
        limit = domain.quotas.watches
        if not connection.privileged and limit and domain.watches > limit:
            raise XenStoreError("E2BIG")
        domain.watches += 1
    relative = not name.startswith(("/", "@"))
    watch = state.watches.add(connection, *key, relative, depth)
    state.first_event = watch
    return OK


def _unwatch(access: Access, name: str, token: str) -> bytes:
    connection = access.connection
    key = (absolute(name, connection.base), token.encode("latin-1"))
    watch = connection.watches.get(key)
    if watch is None:
        raise XenStoreError("ENOENT")
    access.state.watches.remove(watch)
    if connection.domain is not None:
        connection.domain.watches -= 1
    return OK


def _reset_watches(access: Access) -> bytes:
    access.state.end_watches_and_transactions(access.connection)
    return OK


def _start(access: Access) -> bytes:
    connection = access.connection
    touched = 0  # no limit
    if not connection.privileged and connection.domain is not None:
        limits = connection.domain.quotas
        if limits.transactions and len(connection.transactions) > limits.transactions:
            raise XenStoreError("ENOSPC")
        touched = limits.transaction_nodes
    number = connection.last_transaction
    while number == 0 or number in connection.transactions:
        number = (number + 1) & 0xFFFFFFFF
    connection.last_transaction = (number + 1) & 0xFFFFFFFF
    connection.transactions[number] = Transaction(access.state, touched)
    return b"%d\0" % number


def _end(access: Access, verdict: str) -> bytes:
    if verdict not in ("T", "F"):
        raise XenStoreError("EINVAL")
    connection, transaction = access.connection, access.transaction
    if transaction is None:
        raise XenStoreError("ENOENT")
    number = next(n for n, known in connection.transactions.items() if known is transaction)
    del connection.transactions[number]
    if verdict == "T":
        transaction.commit(connection.privileged)
    else:
        transaction.discard()
    return OK


def _get_quota(access: Access, words: list[str]) -> bytes:
    if not words:
        return " ".join(quotas.DESCRIPTIONS).encode() + b"\0"
    if len(words) > 2:
        raise XenStoreError("EINVAL")
    limits = access.state.quotas
    if len(words) == 2:
        limits = existing(access.state, words[0]).quotas
    value = quotas.by_name(limits).get(words[-1])
    if value is None:
        raise XenStoreError("EINVAL")
    return b"%d\0" % value


def _set_quota(access: Access, words: list[str]) -> bytes:
    if not 2 <= len(words) <= 3:
        raise XenStoreError("EINVAL")
    # Domains share the global limits until either of the two is set: so a copy is set here.
    domain = existing(access.state, words[0]) if len(words) == 3 else None
    limits = replace(domain.quotas if domain else access.state.quotas)
    value = atoi(words[-1])
    if value < 0 or not quotas.set_by_name(limits, words[-2], value):
        raise XenStoreError("EINVAL")
    if domain:
        domain.quotas = limits
    else:
        access.state.quotas = limits
    return OK


_ALLOWED, _REFUSED, _IGNORED = InTransaction

# fmt: off
OPERATIONS = (
    #         number, name, argument shape, privileged, in a transaction, handler
    Operation(xs.XS_CONTROL, "CONTROL", shape.texts, True, _ALLOWED, _control),
    Operation(xs.XS_DIRECTORY, "DIRECTORY", shape.one_text, False, _ALLOWED, _directory),
    Operation(xs.XS_READ, "READ", shape.one_text, False, _ALLOWED, _read),
    Operation(xs.XS_GET_PERMS, "GET_PERMS", shape.one_text, False, _ALLOWED, _get_perms),
    Operation(xs.XS_WATCH, "WATCH", shape.exactly(2, 3), False, _IGNORED, _watch),
    Operation(xs.XS_UNWATCH, "UNWATCH", shape.exactly(2), False, _IGNORED, _unwatch),
    Operation(xs.XS_TRANSACTION_START, "TRANSACTION_START", shape.nothing, False, _REFUSED, _start),
    Operation(xs.XS_TRANSACTION_END, "TRANSACTION_END", shape.one_text, False, _ALLOWED, _end),
    Operation(xs.XS_INTRODUCE, "INTRODUCE", shape.at_least(3), True, _ALLOWED, introduce),
    Operation(xs.XS_RELEASE, "RELEASE", shape.one_text, True, _ALLOWED, release),
    Operation(
        xs.XS_GET_DOMAIN_PATH, "GET_DOMAIN_PATH", shape.one_text, False, _ALLOWED, get_domain_path),
    Operation(xs.XS_WRITE, "WRITE", shape.text_and_bytes, False, _ALLOWED, _write),
    Operation(xs.XS_MKDIR, "MKDIR", shape.one_text, False, _ALLOWED, _mkdir),
    Operation(xs.XS_RM, "RM", shape.one_text, False, _ALLOWED, _rm),
    Operation(xs.XS_SET_PERMS, "SET_PERMS", shape.texts, False, _ALLOWED, _set_perms),
    Operation(
        xs.XS_IS_DOMAIN_INTRODUCED, "IS_DOMAIN_INTRODUCED", shape.one_text, True, _ALLOWED,
        is_domain_introduced),
    Operation(xs.XS_RESUME, "RESUME", shape.one_text, True, _ALLOWED, resume),
    Operation(xs.XS_SET_TARGET, "SET_TARGET", shape.at_least(2), True, _ALLOWED, set_target),
    Operation(xs.XS_RESET_WATCHES, "RESET_WATCHES", shape.nothing, False, _ALLOWED, _reset_watches),
    Operation(xs.XS_DIRECTORY_PART, "DIRECTORY_PART", shape.exactly(2), False, _ALLOWED, _part),
    # These four are in 4.17's specification, but not in its header and its daemon.
    Operation(23, "GET_FEATURE", shape.texts, True, _ALLOWED, get_feature),
    Operation(24, "SET_FEATURE", shape.at_least(2), True, _ALLOWED, set_feature),
    Operation(25, "GET_QUOTA", shape.texts, True, _ALLOWED, _get_quota),
    Operation(26, "SET_QUOTA", shape.texts, True, _ALLOWED, _set_quota),
)
# fmt: on


Handler = Callable[..., bytes]
Dispatch = dict[int, tuple[shape.Shape, bool, InTransaction, Handler]]


def dispatch() -> Dispatch:
    """What serving a request needs of its row, by number."""
    return {row.number: (row.shape, row.privileged, row.in_transaction, row.handler) for row in OPERATIONS}


def by_number() -> dict[int, Operation]:
    """The rows by their numbers."""
    return {row.number: row for row in OPERATIONS}
