"""How events read: one file for each subject, found by itself.

A file of this package binds functions to what it knows:

* `@describes(EventClass)`: a function `(event) -> text`;
* `@describes_note("source")`: the same for what the host side reports under that name; with `fields=`, a function
  `(note) -> dict` says what JSON gets in the place of its data;
* `@fields_of(EventClass)`: what JSON gets beyond an event's attributes;
* `structures.special(layout)`, `structures.MEANINGS`: structures that arguments point at.

Nothing else has to know a new one. What nothing is bound to is shown by its attributes.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import struct
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from hv.trace.events import KINDS, Event, Note

E = TypeVar("E", bound=Event)
_texts: dict[type[Event], Callable[[Any], str]] = {}
_notes: dict[str, Callable[[Note], str]] = {}
_note_fields: dict[str, Callable[[Note], dict[str, Any]]] = {}
_fields: dict[type[Event], Callable[[Any], dict[str, Any]]] = {}
DAMAGE = (ValueError, KeyError, IndexError, TypeError, struct.error)  # of a file that somebody has changed
BASE = tuple(field.name for field in dataclasses.fields(Event))


def describes(kind: type[E]) -> Callable[[Callable[[E], str]], Callable[[E], str]]:
    def bind(function: Callable[[E], str]) -> Callable[[E], str]:
        _texts[kind] = function
        return function

    return bind


def describes_note(
    source: str, *, fields: Callable[[Note], dict[str, Any]] | None = None
) -> Callable[[Callable[[Note], str]], Callable[[Note], str]]:
    def bind(function: Callable[[Note], str]) -> Callable[[Note], str]:
        _notes[source] = function
        if fields is not None:
            _note_fields[source] = fields
        return function

    return bind


def fields_of(kind: type[E]) -> Callable[[Callable[[E], dict[str, Any]]], Callable[[E], dict[str, Any]]]:
    def bind(function: Callable[[E], dict[str, Any]]) -> Callable[[E], dict[str, Any]]:
        _fields[kind] = function
        return function

    return bind


@cache
def _load() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def text(event: Event) -> str:
    """One line about an event, without its time, place and cause."""
    _load()
    found: Callable[[Any], str] | None = _texts.get(type(event))
    if isinstance(event, Note):
        found = _notes.get(event.source)
    if found is None:
        return _plainly(event)
    try:
        return found(event)
    except DAMAGE:
        return _plainly(event)


def _plainly(event: Event) -> str:
    """What no decoder knows, or what is damaged."""
    shown = ", ".join(f"{name}={getattr(event, name)!r}" for name in _own_names[event.kind])
    return f"{event.kind} {shown}"


def fields(event: Event) -> dict[str, Any]:
    """What an event's class has beyond what all have, with numbers, text, lists and dictionaries only."""
    _load()
    try:
        if isinstance(event, Note) and event.source in _note_fields:
            return {"source": event.source, "what": event.what, **_note_fields[event.source](event)}
        if type(event) in _fields:
            return _fields[type(event)](event)
    except DAMAGE:
        pass
    return {name: getattr(event, name) for name in _own_names[event.kind]}


_own_names = {
    kind: tuple(field.name for field in dataclasses.fields(made) if field.name not in BASE)
    for kind, made in KINDS.items()
}
