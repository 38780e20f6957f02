"""Structures of the ABI as values and as text.

Rules:

1. Layouts come from hv.abi, names of fields too. What a field means beyond a number is a row of `MEANINGS`.
2. A structure of which only a part could be read is shown as far as it goes, and an ellipsis.
3. Bytes are shown as strace shows them, cut after SHOWN.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

from hv.abi import event_channel, grant_table, sched, vcpu, xen
from hv.abi.emit import fields
from hv.trace import words
from hv.trace.records import Piece

SHOWN = 32  # bytes or elements of an array
Meaning = Callable[[int], str]


def _named(module: Any, prefix: str) -> Meaning:
    names = {value: name for name, value in vars(module).items() if name.startswith(prefix) and type(value) is int}
    return lambda value: names.get(value, words.number(value))


_GNTST = _named(grant_table, "GNTST_")
MEANINGS: dict[tuple[str, str], Meaning] = {  # (structure or *, field) -> text of its value
    ("*", "dom"): words.domid,
    ("*", "domid"): words.domid,
    ("*", "remote_dom"): words.domid,
    ("*", "domain_id"): words.domid,
    ("evtchn_bind_virq", "virq"): words.virq,
    ("evtchn_status", "status"): _named(event_channel, "EVTCHNSTAT_"),
    ("sched_shutdown", "reason"): _named(sched, "SHUTDOWN_"),
    ("sched_remote_shutdown", "reason"): _named(sched, "SHUTDOWN_"),
    ("vcpu_runstate_info", "state"): _named(vcpu, "RUNSTATE_"),
    ("mmuext_op", "cmd"): _named(xen, "MMUEXT_"),
}
for _name, _value in vars(grant_table).items():
    if _name.startswith("gnttab_"):
        MEANINGS[_name, "status"] = _GNTST


def shown_bytes(data: bytes, whole: int | None = None) -> str:
    """`"Hello\\n"`, with an ellipsis where there is more."""
    text = "".join(_character(byte) for byte in data[:SHOWN])
    return f'"{text}"' + ("…" if len(data) > SHOWN or (whole or 0) > len(data) else "")


def _character(byte: int) -> str:
    named = {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 92: "\\\\"}
    return named.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}")


# --- values -------------------------------------------------------------------------------------------------------


def value_of(layout: Any, data: bytes) -> Any:
    """A structure's bytes as numbers, text, lists and dictionaries; what is cut off is left out."""
    if issubclass(layout, ctypes.Structure | ctypes.Union):
        return {
            f.name: value_of(f.type if f.length is None else f.type * f.length, data[f.offset :])
            for f in fields(layout)
            if f.offset < len(data) and not f.name.startswith("_")
        }
    if issubclass(layout, ctypes.Array):
        if layout._type_ is ctypes.c_char:
            return data[: ctypes.sizeof(layout)].split(b"\0")[0].decode(errors="backslashreplace")
        return list(elements(layout._type_, data[: ctypes.sizeof(layout)]))
    if len(data) < ctypes.sizeof(layout):
        return None
    value = layout.from_buffer_copy(data).value
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def elements(layout: Any, data: bytes) -> Iterator[Any]:
    """The elements of an array, as far as its bytes go."""
    size = ctypes.sizeof(layout)
    for at in range(0, len(data) - size + 1, size):
        yield value_of(layout, data[at : at + size])


# --- text ---------------------------------------------------------------------------------------------------------


def text_of(layout: Any, data: bytes) -> str:
    """`{port=3}`; special structures have their own way (`SPECIAL`)."""
    special = SPECIAL.get(layout)
    if special is not None and len(data) >= ctypes.sizeof(layout):
        return special(layout.from_buffer_copy(data))
    return _text(layout.__name__, "", layout, data)


def _text(owner: str, name: str, layout: Any, data: bytes) -> str:
    if issubclass(layout, ctypes.Structure | ctypes.Union):
        return _structure_text(layout, data)
    if issubclass(layout, ctypes.Array):
        if layout._type_ is ctypes.c_char:
            return shown_bytes(data[: ctypes.sizeof(layout)].split(b"\0")[0])
        return _array_text(layout._type_, data[: ctypes.sizeof(layout)], ctypes.sizeof(layout))
    if len(data) < ctypes.sizeof(layout):
        return "…"
    value = layout.from_buffer_copy(data).value
    if isinstance(value, bytes):
        return shown_bytes(value)
    meaning = MEANINGS.get((owner, name)) or MEANINGS.get(("*", name))
    return meaning(value) if meaning else words.number(value)


def _structure_text(layout: Any, data: bytes) -> str:
    parts = []
    for f in fields(layout):
        if f.name.startswith("_") or f.name.startswith("pad"):
            continue
        if f.offset >= len(data):
            parts.append("…")
            break
        kind = f.type if f.length is None else f.type * f.length
        parts.append(f"{f.name}={_text(layout.__name__, f.name, kind, data[f.offset :])}")
    return "{" + ", ".join(parts) + "}"


def changes_text(layout: Any, before: bytes, after: bytes) -> str:
    """The fields of a structure that have another value now: `{port=3}`; all of it where it has a way of its own."""
    if layout in SPECIAL or not issubclass(layout, ctypes.Structure):
        return text_of(layout, after)
    changed = []
    for f in fields(layout):
        kind = f.type if f.length is None else f.type * f.length
        end = f.offset + ctypes.sizeof(kind)
        if before[f.offset : end] != after[f.offset : end]:
            changed.append(f"{f.name}={_text(layout.__name__, f.name, kind, after[f.offset :])}")
    return "{" + ", ".join(changed) + "}"


def _array_text(element: Any, data: bytes, whole: int) -> str:
    size = ctypes.sizeof(element)
    shown = [text_of(element, data[at : at + size]) for at in range(0, min(len(data), SHOWN * size), size)]
    if whole > len(shown) * size:
        shown.append(f"… {(whole + size - 1) // size} in all")
    return "[" + ", ".join(shown) + "]"


def piece_text(layout: Any, piece: Piece) -> str:
    """What a pointer points at; its address where nothing is readable there."""
    if not piece.data and piece.whole:
        return f"{piece.address:#x} (not readable)"
    if layout is ctypes.c_char:
        return shown_bytes(piece.data, piece.whole)
    if piece.whole == ctypes.sizeof(layout):
        return text_of(layout, piece.data)
    return _array_text(layout, piece.data, piece.whole)


def piece_value(layout: Any, piece: Piece) -> Any:
    """The same as numbers, text, lists and dictionaries; None where nothing is readable."""
    if not piece.data and piece.whole:
        return None
    if layout is ctypes.c_char:
        return piece.data.decode("latin-1")
    if piece.whole == ctypes.sizeof(layout):
        return value_of(layout, piece.data)
    return list(elements(layout, piece.data))


def special(layout: Any) -> Callable[[Callable[[Any], str]], Callable[[Any], str]]:
    """Bind a function to a structure that is not shown field by field."""

    def bind(function: Callable[[Any], str]) -> Callable[[Any], str]:
        SPECIAL[layout] = function
        return function

    return bind


SPECIAL: dict[Any, Callable[[Any], str]] = {}
