"""Filters: which events are shown.

    event_channel_op and error                        a word is a kind, a hypercall, a sub-operation, or an attribute
    kind == upcall and latency > 1000                 an attribute of an event (hv.trace.events), compared
    domain == 1 and not (iret or runstate)            and, or, not, parentheses
    op ~ EVTCHNOP_*                                   ~ and !~ match a pattern with * and ?

Grammar:

    expression  = conjunction {"or" conjunction}
    conjunction = negation {"and" negation}
    negation    = "not" negation | "(" expression ")" | word [operator value]
    operator    = "==" | "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~"
    value       = number (decimal, 0x…, negative; _ between digits) | word | "text" | 'text'

Rules:

1. A word alone means, in this order: a kind of event (`upcall`); a hypercall (`sched_op`) or a sub-operation
   (`EVTCHNOP_send`) of that name; an attribute that is there and neither 0, false nor empty (`error`, `masked`).
2. A comparison with an attribute that an event does not have is false, whatever the operator.
3. A word that can be none of these is a user's mistake, said when the filter is read.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import operator
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from hv.abi.hypercalls import HYPERCALLS
from hv.errors import ConfigError
from hv.trace.events import KINDS, Event

Predicate = Callable[[Event], bool]
TOKEN = re.compile(r"""\s*(?:(==|!=|<=|>=|!~|[=<>~()])|"([^"]*)"|'([^']*)'|([^\s=<>~!()"']+))""")
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
DEEPEST = 100
KEYWORDS = ("and", "or", "not")


@cache
def attributes() -> frozenset[str]:
    """Every attribute that some event has."""
    names = {"kind", "ns", "name", "op", "error"}
    for kind in KINDS.values():
        names |= {field.name for field in dataclasses.fields(kind)}
    return frozenset(names - {"registers", "memory", "written"})


@cache
def _call_names() -> frozenset[str]:
    return frozenset({row.name for row in HYPERCALLS} | {op.name for row in HYPERCALLS for op in row.operations})


def parse(text: str) -> Predicate:
    """The filter as a function of an event; ConfigError says what is wrong with it."""
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, bool]] = []  # (token, quoted)
        at = 0
        while text[at:].strip():
            found = TOKEN.match(text, at)
            if found is None:
                raise self._error(f"{text[at:].strip()!r} cannot be read")
            sign, double, single, word = found.groups()
            quoted = double if double is not None else single
            self._tokens.append((quoted, True) if quoted is not None else (sign or word, False))
            at = found.end()
        self._at = 0
        self._depth = 0

    def _error(self, what: str) -> ConfigError:
        shown = self._text if len(self._text) <= 80 else self._text[:79] + "…"
        return ConfigError(f"the filter {shown!r}: {what}; docs/trace.md has its grammar")

    def _next(self) -> str | None:
        """The next token if it is not quoted."""
        if self._at == len(self._tokens) or self._tokens[self._at][1]:
            return None
        return self._tokens[self._at][0]

    def parse(self) -> Predicate:
        made = self._either()
        if self._at != len(self._tokens):
            raise self._error(f"{self._tokens[self._at][0]!r} is not expected there")
        return made

    def _either(self) -> Predicate:
        terms = [self._both()]
        while self._next() == "or":
            self._at += 1
            terms.append(self._both())
        return terms[0] if len(terms) == 1 else lambda event: any(term(event) for term in terms)

    def _both(self) -> Predicate:
        terms = [self._negation()]
        while self._next() == "and":
            self._at += 1
            terms.append(self._negation())
        return terms[0] if len(terms) == 1 else lambda event: all(term(event) for term in terms)

    def _negation(self) -> Predicate:
        self._depth += 1
        if self._depth > DEEPEST:
            raise self._error("it is nested too deeply")
        made = self._term()
        self._depth -= 1
        return made

    def _term(self) -> Predicate:
        token = self._next()
        if self._at == len(self._tokens):
            raise self._error("something is missing at its end")
        self._at += 1
        if token == "not":
            negated = self._negation()
            return lambda event: not negated(event)
        if token == "(":
            inner = self._either()
            if self._next() != ")":
                raise self._error("a parenthesis is not closed")
            self._at += 1
            return inner
        if token is None or token in KEYWORDS or not re.match(r"\w", token):
            raise self._error(f"{self._tokens[self._at - 1][0]!r} is not expected there")
        sign = self._next()
        if sign in OPERATORS or sign in ("~", "!~"):
            self._at += 1
            return self._comparison(token, sign)
        return self._word(token)

    def _word(self, word: str) -> Predicate:
        if word in KINDS:
            return lambda event: event.kind == word
        if word in _call_names():
            return lambda event: word in (getattr(event, "name", None), getattr(event, "op", None))
        if word in attributes():
            return lambda event: bool(getattr(event, word, None))
        raise self._error(f"{word!r} is no kind of event, hypercall, sub-operation or attribute")

    def _comparison(self, name: str, sign: str) -> Predicate:
        if name not in attributes():
            raise self._error(f"events have no attribute {name!r}")
        if self._at == len(self._tokens) or self._next() in (*OPERATORS, "~", "!~", "(", ")", *KEYWORDS):
            raise self._error(f"a value is missing behind {sign}")
        text, quoted = self._tokens[self._at]
        self._at += 1
        if sign in ("~", "!~"):
            pattern = re.compile(fnmatch.translate(text))
            wanted = sign == "~"
            return lambda event: (value := getattr(event, name, None)) is not None and (
                (pattern.match(_as_text(value)) is not None) == wanted
            )
        value = text if quoted else _number(text)
        if value is None or isinstance(value, str):
            return _compare_text(name, OPERATORS[sign], text)
        return _compare_number(name, OPERATORS[sign], value)


def _number(text: str) -> int | None:
    if text in ("true", "false"):
        return int(text == "true")
    try:
        return int(text, 0)
    except ValueError:
        return None


def _as_text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _compare_number(name: str, compare: Callable[[Any, Any], bool], wanted: int) -> Predicate:
    def predicate(event: Event) -> bool:
        value = getattr(event, name, None)
        return isinstance(value, int) and compare(value, wanted)

    return predicate


def _compare_text(name: str, compare: Callable[[Any, Any], bool], wanted: str) -> Predicate:
    def predicate(event: Event) -> bool:
        value = getattr(event, name, None)
        return isinstance(value, str | bytes) and compare(_as_text(value), wanted)

    return predicate
