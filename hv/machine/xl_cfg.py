"""The language of xl.cfg(5): settings of strings, numbers and lists. A file is parsed, never executed.

Rules:

1. `NAME = VALUE` or `NAME += VALUE`, ended by a line's end or `;`. A value is a quoted string, a number, or a list in
   brackets, which may go over several lines and end with a comma. `#` begins a comment.
2. Every value is a string or a list, as in xl; who wants a number converts it.
3. Of two settings of one name the later counts.
4. A mistake is a ConfigError with file, line and what is wrong.

Specification: xl.cfg(5); tools/libs/util/libxlu_cfg_l.l and libxlu_cfg_y.y of Xen 4.17 (the tokens and the grammar).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from hv.errors import ConfigError

Value = str | list["Value"]
TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+) | (?P<newline>\n|\#[^\n]*(?:\n|$))
      | (?P<name>[a-z][._0-9a-z]*) | (?P<number>[0-9][0-9a-fx]*)
      | (?P<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
      | (?P<mark>\+=|[\[\],=;])""",
    re.VERBOSE,
)
ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)")
ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "'": "'", "\\": "\\"}
MAX_DEPTH = 16  # lists in lists: nothing of xl needs more than two


class Token(NamedTuple):
    kind: str
    text: str
    line: int


class Setting(NamedTuple):
    """A value, where it stands ("FILE:LINE"), and whether += made it."""

    value: Value
    place: str
    added: bool = False


def parse(text: str, source: str, before: Mapping[str, Setting] | None = None) -> dict[str, Setting]:
    """The settings of a file, in its order, behind those of `before`; `source` is its name in messages."""
    return _Parser(list(_tokens(text, source)), source).settings(dict(before or {}))


def _mistake(source: str, line: int, what: str) -> ConfigError:
    return ConfigError(f"{source}:{line}: {what}")


def _tokens(text: str, source: str) -> Iterator[Token]:
    position, line = 0, 1
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            word = text[position:].split(None, 1)[0][:20]
            rule = "names are in lower case" if word[:1].isupper() else "write NAME = VALUE, strings in quotes"
            raise _mistake(source, line, f"{word!r} is not xl.cfg syntax: {rule}")
        kind, found = str(match.lastgroup), match.group()
        if kind == "string":
            found = _unquoted(found, source, line)
        if kind != "space":
            yield Token(kind, found, line)
        line += match.group().count("\n")
        position = match.end()
    yield Token("newline", "", line)
    yield Token("end", "", line)


def _unquoted(text: str, source: str, line: int) -> str:
    return ESCAPE.sub(lambda escape: _escaped(escape[1], source, line), text[1:-1])


def _escaped(code: str, source: str, line: int) -> str:
    if code[0] == "x" and len(code) == 3:
        return chr(int(code[1:], 16))
    if code[0] in "01234567":
        return chr(int(code, 8) & 0xFF)
    if code not in ESCAPES:
        raise _mistake(source, line, f"\\{code} is no escape in a string: write \\\\ for a backslash")
    return ESCAPES[code]


class _Parser:
    """Recursive descent over the tokens; one method a rule of the grammar."""

    def __init__(self, tokens: list[Token], source: str) -> None:
        self._tokens = tokens
        self._at = 0
        self._source = source

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._next
        self._at += token.kind != "end"
        return token

    def _fail(self, expected: str) -> ConfigError:
        token = self._next
        found = "the line's end" if token.kind in ("newline", "end") else repr(token.text)
        return _mistake(self._source, token.line, f"{expected} is missing before {found}")

    def settings(self, result: dict[str, Setting]) -> dict[str, Setting]:
        while self._next.kind != "end":
            if self._next.kind == "newline" or self._next.text == ";":
                self._take()
                continue
            self._assignment(result)
            if self._next.kind != "newline" and self._next.text != ";":
                raise self._fail("the line's end or ;")
        return result

    def _assignment(self, result: dict[str, Setting]) -> None:
        if self._next.kind != "name":
            raise self._fail("a setting's name")
        name = self._take()
        if self._next.kind != "mark" or self._next.text not in ("=", "+="):
            raise self._fail("=")
        adds = self._take().text == "+="
        value = self._value(0)
        if adds and name.text in result:
            value = self._sum(name, result[name.text].value, value)
        result[name.text] = Setting(value, f"{self._source}:{name.line}", adds)

    def _sum(self, name: Token, before: Value, more: Value) -> Value:
        if isinstance(before, list) and isinstance(more, list):
            return before + more
        if isinstance(before, str) and isinstance(more, str):
            return before + more
        raise _mistake(self._source, name.line, f"{name.text} += joins two strings or two lists, not one of each")

    def _value(self, depth: int) -> Value:
        if self._next.kind in ("string", "number"):
            return self._take().text
        if self._next.kind == "mark" and self._next.text == "[" and depth < MAX_DEPTH:
            return self._list(depth)
        raise self._fail("a value (a string in quotes, a number or a list)")

    def _list(self, depth: int) -> list[Value]:
        self._take()
        self._lines()
        values: list[Value] = []
        while not self._is("]"):
            values.append(self._value(depth + 1))
            self._lines()
            if self._is(","):
                self._take()
                self._lines()
            elif not self._is("]"):
                raise self._fail("] or ,")
        self._take()
        return values

    def _is(self, mark: str) -> bool:
        return self._next.kind == "mark" and self._next.text == mark

    def _lines(self) -> None:
        while self._next.kind == "newline":
            self._take()
