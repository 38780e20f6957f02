"""Hypercalls: named arguments, what they point at, the result."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

from hv.abi.hypercalls import BY_NUMBER
from hv.trace import capture, decode, structures, words
from hv.trace.capture import Capture
from hv.trace.decoders import describes, fields_of
from hv.trace.events import Hypercall
from hv.trace.records import Piece


def _layouts(event: Hypercall, pieces: tuple[Piece, ...]) -> list[tuple[Piece, Any]]:
    """Each piece of memory with the layout of what is there."""
    if not pieces:
        return []
    by_register: dict[int, Capture] = {c.register: c for c in capture.of_call(event.number, event.registers)}
    found = []
    for piece in pieces:
        row = by_register.get(piece.register)
        if row is not None:
            element = row.nested.element if piece.nested and row.nested else row.layout
            found.append((_cut(piece, row) if row.last else piece, element))
    return found


def _cut(piece: Piece, row: Capture) -> Piece:
    """Only the elements up to the last one, of those that could be read."""
    size, field = ctypes.sizeof(row.layout), getattr(row.layout, row.last or "")
    for at in range(0, len(piece.data) - size + 1, size):
        if not any(piece.data[at + field.offset : at + field.offset + field.size]):
            return replace(piece, whole=at + size, data=piece.data[: at + size])
    return piece


def _pointed_at(event: Hypercall) -> dict[int, str]:
    """Texts of what registers point at, by register: `before ⇒ what has changed`.

    What a pointer in a structure points at stands behind it.
    """
    texts: dict[int, str] = {}
    read = _layouts(event, event.memory)
    for piece, layout in read:
        text = structures.piece_text(layout, piece)
        texts[piece.register] = f"{texts[piece.register]} → {text}" if piece.nested else text
    before = {(piece.register, piece.nested): piece for piece, _ in read}
    for piece, layout in _layouts(event, event.written):
        old = before.get((piece.register, piece.nested))
        if old is None:
            texts[piece.register] = structures.piece_text(layout, piece)
        elif old.data != piece.data:
            texts[piece.register] += f" ⇒ {_changed(layout, old, piece)}"
    return texts


def _changed(layout: Any, old: Piece, new: Piece) -> str:
    if len(old.data) == len(new.data) == new.whole == ctypes.sizeof(layout):
        return structures.changes_text(layout, old.data, new.data)
    return structures.piece_text(layout, new)


@describes(Hypercall)
def hypercall(event: Hypercall) -> str:
    row = BY_NUMBER.get(event.number)
    count = len(row.arguments) if row else len(event.registers)
    text = decode.call_text(event.number, event.registers[:count], _pointed_at(event))
    if event.result is None and not event.again:
        return f"{text} (not finished)"
    return f"{text} = {words.result(event.result)}"


@fields_of(Hypercall)
def fields(event: Hypercall) -> dict[str, Any]:
    row = BY_NUMBER.get(event.number)
    named = row.arguments if row else ()
    names = [argument.name for argument in named] if row else [f"r{i}" for i in range(len(event.registers))]
    return {
        "name": event.name,
        "number": event.number,
        "op": event.op,
        "arguments": dict(zip(names, event.registers, strict=False)),
        "memory": _values(event, event.memory, names),
        "written": _values(event, event.written, names),
        "result": event.result,
        "error": event.error,
        "inside": event.inside,
        "again": event.again,
        "duration": event.duration,
    }


def _values(event: Hypercall, pieces: tuple[Piece, ...], names: list[str]) -> dict[str, Any]:
    return {
        names[piece.register] + ("*" if piece.nested else ""): structures.piece_value(layout, piece)
        for piece, layout in _layouts(event, pieces)
    }
