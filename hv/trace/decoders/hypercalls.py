"""Hypercalls: named arguments, what they point at, the result."""

from __future__ import annotations

from typing import Any

from hv.abi.hypercalls import BY_NUMBER
from hv.trace import capture, decode, structures, words
from hv.trace.capture import Capture
from hv.trace.decoders import describes, fields_of
from hv.trace.events import Hypercall
from hv.trace.records import Piece


def _layouts(event: Hypercall, pieces: tuple[Piece, ...]) -> list[tuple[Piece, Any]]:
    """Each piece of memory with the layout of what is there."""
    by_register: dict[int, Capture] = {c.register: c for c in capture.of_call(event.number, event.registers)}
    found = []
    for piece in pieces:
        row = by_register[piece.register]
        found.append((piece, row.nested.element if piece.nested and row.nested else row.layout))
    return found


def _pointed_at(event: Hypercall, pieces: tuple[Piece, ...]) -> dict[int, str]:
    """Texts of what registers point at; what a pointer in a structure points at stands behind it."""
    texts: dict[int, str] = {}
    for piece, layout in _layouts(event, pieces):
        text = structures.piece_text(layout, piece)
        texts[piece.register] = f"{texts[piece.register]} → {text}" if piece.nested else text
    return texts


@describes(Hypercall)
def hypercall(event: Hypercall) -> str:
    row = BY_NUMBER.get(event.number)
    count = len(row.arguments) if row else len(event.registers)
    before, after = _pointed_at(event, event.memory), _pointed_at(event, event.written)
    shown = {i: _both(before.get(i), after.get(i)) for i in before.keys() | after.keys()}
    text = decode.call_text(event.number, event.registers[:count], shown)
    if event.result is None and not event.again:
        return f"{text} (not finished)"
    return f"{text} = {words.result(event.result)}"


def _both(before: str | None, after: str | None) -> str:
    """In and out: one where nothing has changed."""
    if before is None or after is None or before == after:
        return after or before or ""
    return f"{before} ⇒ {after}"


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
