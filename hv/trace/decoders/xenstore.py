"""XenStore: requests, replies and watch events (hv/machine/xenstore_trace.py makes the notes)."""

from __future__ import annotations

import struct
from typing import Any

from hv.abi.io import xs_wire as xs
from hv.core.xenstore.operations import by_number
from hv.trace.decoders import describes_note
from hv.trace.events import Note
from hv.trace.structures import shown_bytes

_HEADER = struct.Struct("<4I")
_OPERATIONS = by_number()


def message(event: Note) -> dict[str, Any]:
    """The parts of a message."""
    if event.what == "event":
        return {"parts": _parts(event.data)}
    kind, number, transaction, _ = _HEADER.unpack_from(event.data)
    name = "ERROR" if kind == xs.XS_ERROR else _name(kind)
    return {"type": name, "request": number, "transaction": transaction, "parts": _parts(event.data[_HEADER.size :])}


def _parts(payload: bytes) -> list[str]:
    """What zero bytes separate; a value at the end needs none."""
    return [part.decode("latin-1") for part in payload.removesuffix(b"\0").split(b"\0")] if payload else []


@describes_note("xenstore", fields=message)
def xenstore(event: Note) -> str:
    """`request` and `reply` are whole messages, `event` is path and token."""
    if event.what == "event":
        path, _, token = event.data.rstrip(b"\0").partition(b"\0")
        return f"XenStore: watch event {_text(path)}, token {shown_bytes(token)}"
    kind, _, transaction, _ = _HEADER.unpack_from(event.data)
    payload = event.data[_HEADER.size :]
    within = f" in transaction {transaction}" if transaction else ""
    if event.what == "request":
        return f"XenStore: {_name(kind)}{_arguments(kind, payload)}{within}"
    if kind == xs.XS_ERROR:
        return f"XenStore: = {_text(payload.rstrip(bytes(1)))}{within}"
    return f"XenStore: {_name(kind)} = {_result(kind, payload)}{within}"


def _name(kind: int) -> str:
    row = _OPERATIONS.get(kind)
    return row.name if row is not None else f"operation {kind}"


def _text(data: bytes) -> str:
    """A word without quotation marks, unless it needs them."""
    plain = data.decode("latin-1")
    return plain if plain.isascii() and plain.isprintable() and " " not in plain else shown_bytes(data)


def _arguments(kind: int, payload: bytes) -> str:
    first, nul, rest = payload.partition(b"\0")
    if kind == xs.XS_WRITE and nul:
        return f" {_text(first)} = {shown_bytes(rest)}"
    words = payload.rstrip(b"\0").split(b"\0")
    return "".join(f" {_text(word)}" for word in words if word)


def _result(kind: int, payload: bytes) -> str:
    if kind in (xs.XS_DIRECTORY, xs.XS_GET_PERMS):
        return shown_bytes(payload.rstrip(b"\0").replace(b"\0", b" "))
    return shown_bytes(payload) if kind == xs.XS_READ else _text(payload.rstrip(b"\0"))
