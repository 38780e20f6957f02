"""Expressions over a stopped guest: registers, symbols, memory, and what the stop itself names.

Rules:

1. Python's own parser reads the text; of its tree only the nodes of `NODES` are evaluated, by this file. Nothing of the
   text is ever run, and there is no name that reaches into hv.
2. Values are 64-bit words without sign. Comparisons are unsigned; `s32(x)` and `s64(x)` compare signed.
3. Looking changes nothing in the guest.

The language, in the order in which names are looked up:

    what the stop names         port, vector, error, address, result, number, arg1..arg6, old, new
    registers                   rax .. r15, rip (pc), rsp (sp), rflags, cs .. gs, fs_base, gs_base, cr2, cr3, eax..r15d
    others                      vcpu, domid, kernel_mode, now (ns); numbers of sub-operations (SCHEDOP_block)
    symbols                     of the image: their addresses; 'a.name' in quotes where it is no word
    memory                      [address] is the 8 bytes there; u8() .. u64(), s8() .. s64() of an address
    operators                   + - * / % << >> & | ^ ~ == != < <= > >= and or not, also && || !; a if c else b
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from hv.abi.hypercalls import HYPERCALLS
from hv.errors import ConditionError

if TYPE_CHECKING:
    from hv.machine.domain import Domain
    from hv.machine.stops import Hit

WORD = (1 << 64) - 1
LONGEST = 2000
DEEPEST = 64
ALIASES = {"pc": "rip", "sp": "rsp", "eflags": "rflags"}
HALVES = {f"e{name}": f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip")}
HALVES |= {f"r{i}d": f"r{i}" for i in range(8, 16)}
SIZES = {f"{sign}{8 * size}": (size, sign == "s") for sign in "us" for size in (1, 2, 4, 8)}
OPERATIONS = {op.name: op.number for row in HYPERCALLS for op in row.operations}
C_SPELLING = (
    (re.compile(r"\$(?=[A-Za-z])"), ""),
    (re.compile(r"&&"), " and "),
    (re.compile(r"\|\|"), " or "),
    (re.compile(r"!(?!=)"), " not "),
)
BINARY: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: lambda a, b: a << b if b < 64 else 0,
    ast.RShift: lambda a, b: a >> b if b < 64 else 0,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.floordiv,
    ast.Mod: operator.mod,
}
COMPARISONS: dict[type, Callable[[int, int], bool]] = {
    ast.Eq: lambda a, b: a & WORD == b & WORD,
    ast.NotEq: lambda a, b: a & WORD != b & WORD,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
UNARY: dict[type, Callable[[int], int]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
    ast.Not: lambda a: int(not a),
}


class Scope:
    """What names and memory mean: one vCPU of a domain, and what a stop adds."""

    def __init__(self, domain: Domain, vcpu: int, names: dict[str, int] | None = None) -> None:
        self._domain, self._vcpu, self._names = domain, vcpu, names or {}
        self._registers: dict[str, Any] = domain.guest.registers(vcpu)

    def value(self, name: str) -> int:
        if name in self._names:
            return self._names[name]
        register = ALIASES.get(name, name)
        if register in self._registers:
            return int(self._registers[register])
        if name in HALVES:
            return int(self._registers[HALVES[name]]) & 0xFFFFFFFF
        if name in ("vcpu", "domid", "now"):
            return {"vcpu": self._vcpu, "domid": self._domain.domid, "now": self._domain.machine.now_ns}[name]
        if name in OPERATIONS:
            return int(OPERATIONS[name])
        return self.symbol(name)

    def symbol(self, name: str) -> int:
        address = self._domain.symbols.address(name)
        if address is None:
            raise ConditionError(f"{name!r} is no register, symbol or other name here")
        return address

    def memory(self, address: int, size: int, signed: bool) -> int:
        data = self._domain.guest.peek(address & WORD, size, self._vcpu, kernel=bool(self._registers["kernel_mode"]))
        if len(data) < size:
            raise ConditionError(f"nothing can be read at {address & WORD:#x}")
        return int.from_bytes(data, "little", signed=signed)


# --- evaluation: a function for each kind of node


def _constant(node: ast.Constant, scope: Scope) -> int:
    if isinstance(node.value, str):
        return scope.symbol(node.value)
    assert isinstance(node.value, int)
    return node.value


def _binary(node: ast.BinOp, scope: Scope) -> int:
    left, right = _evaluate(node.left, scope), _evaluate(node.right, scope)
    if isinstance(node.op, (ast.Div, ast.FloorDiv, ast.Mod)) and right == 0:
        raise ConditionError("a division by 0")
    if isinstance(node.op, (ast.LShift, ast.RShift)):
        return BINARY[type(node.op)](left & WORD, right & WORD) & WORD
    return BINARY[type(node.op)](left, right) & WORD


def _compare(node: ast.Compare, scope: Scope) -> int:
    values = [_evaluate(part, scope) for part in (node.left, *node.comparators)]
    pairs = zip(node.ops, values, values[1:], strict=False)
    return int(all(COMPARISONS[type(op)](left, right) for op, left, right in pairs))


def _boolean(node: ast.BoolOp, scope: Scope) -> int:
    wanted = isinstance(node.op, ast.Or)
    return int(any(bool(_evaluate(v, scope)) == wanted for v in node.values) == wanted)


def _call(node: ast.Call, scope: Scope) -> int:
    assert isinstance(node.func, ast.Name)
    value = _evaluate(node.args[0], scope)
    return scope.memory(value, *SIZES[node.func.id])


NODES: dict[type, Callable[[Any, Scope], int]] = {
    ast.Expression: lambda node, scope: _evaluate(node.body, scope),
    ast.Constant: _constant,
    ast.Name: lambda node, scope: scope.value(node.id),
    ast.BinOp: _binary,
    ast.UnaryOp: lambda node, scope: UNARY[type(node.op)](_evaluate(node.operand, scope)),
    ast.Compare: _compare,
    ast.BoolOp: _boolean,
    ast.IfExp: lambda node, scope: _evaluate(node.body if _evaluate(node.test, scope) else node.orelse, scope),
    ast.List: lambda node, scope: scope.memory(_evaluate(node.elts[0], scope), 8, False),
    ast.Call: _call,
}


def _evaluate(node: ast.AST, scope: Scope) -> int:
    value: int = NODES[type(node)](node, scope)
    return value


# --- reading


def _check(node: ast.AST, text: str, depth: int = 0) -> None:
    """Refuse what the language does not have, before anything is evaluated."""
    known = (
        (type(node) in NODES and depth < DEEPEST)
        and not (isinstance(node, ast.Constant) and type(node.value) not in (int, str))
        and not (isinstance(node, ast.BinOp) and type(node.op) not in BINARY)
        and not (isinstance(node, ast.UnaryOp) and type(node.op) not in UNARY)
        and not (isinstance(node, ast.Compare) and any(type(op) not in COMPARISONS for op in node.ops))
        and not (isinstance(node, ast.List) and (len(node.elts) != 1 or isinstance(node.elts[0], ast.Starred)))
        and not (isinstance(node, ast.Call) and not _is_memory(node))
    )
    if not known:
        raise ConditionError(f"{text!r} is not an expression of hv: help expressions says what is")
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.expr_context)) and not (
            isinstance(node, ast.Call) and child is node.func
        ):
            _check(child, text, depth + 1)


def _is_memory(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id in SIZES and len(node.args) == 1 and not node.keywords


@cache
def parse(text: str) -> ast.Expression:
    """The tree of an expression; ConditionError where it is none."""
    python = text.strip()
    for pattern, replacement in C_SPELLING:
        python = pattern.sub(replacement, python)
    try:
        if len(text) > LONGEST:
            raise ValueError
        tree = ast.parse(python.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConditionError(f"{text!r} is not an expression of hv: help expressions says what is") from None
    _check(tree, text)
    return tree


def evaluate(text: str, domain: Domain, vcpu: int = 0, names: dict[str, int] | None = None) -> int:
    """The value of an expression, a 64-bit word; ConditionError where it has none."""
    return _evaluate(parse(text), Scope(domain, vcpu, names)) & WORD


def condition(text: str) -> Callable[[Hit], bool]:
    """What a breakpoint asks: whether the expression is not 0 at the hit."""
    tree = parse(text)
    return lambda hit: bool(_evaluate(tree, Scope(hit.domain, hit.vcpu, hit.names)))
