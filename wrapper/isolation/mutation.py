"""Small mistakes to be planted in source, one at a time: a comparison turned, a number one higher, a step left out.

Whoever examines code learns from them how much its exam proves: of what a program does, that part is examined whose change is
noticed. The source is parsed and nothing of it is imported or run; a mistake is given as the bytes it replaces.

Source: DeMillo, Lipton and Sayward, "Hints on Test Data Selection" (1978), for mutation testing and its claim that tests which
notice small mistakes notice most larger ones.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import cast

_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_OTHER: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Add,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
_SKIPPED = (ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Raise, ast.Assert)
"""Texts in braces have no places of their own before Python 3.12; what an error says is not examined."""

_Found = tuple[ast.expr | ast.stmt, str, str]
"""What is replaced, by which text, and what kind of mistake that is."""


def mistakes(source: str, most: int) -> list[dict[str, object]]:
    """At most so many mistakes, spread evenly over the source: ``{line, what, start, end, text}``, places as bytes.

    Each leaves source that can be parsed and is another program than it was. None where the source cannot be parsed.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    data = source.encode()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    before = ast.dump(tree)
    found: list[dict[str, object]] = []
    for node, text, what in sorted(_all(tree), key=lambda each: (each[0].lineno, each[0].col_offset)):
        end_line, end_column = node.end_lineno, node.end_col_offset
        if end_line is None or end_column is None:
            continue
        start, end = starts[node.lineno - 1] + node.col_offset, starts[end_line - 1] + end_column
        found.append({"line": node.lineno, "what": what, "start": start, "end": end, "text": text})
    step = max(1.0, len(found) / most) if most > 0 else 1.0
    usable: list[dict[str, object]] = []
    at = 0.0
    while at < len(found) and len(usable) < most:
        each = found[int(at)]
        if _differs(data, each, before):
            usable.append(each)
        at += step
    return usable


def _differs(data: bytes, mistake: Mapping[str, object], before: str) -> bool:
    try:
        return ast.dump(ast.parse(planted(data, mistake))) != before
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def planted(data: bytes, mistake: Mapping[str, object]) -> bytes:
    """Source with a mistake in it."""
    start, end, text = mistake["start"], mistake["end"], mistake["text"]
    assert isinstance(start, int)
    assert isinstance(end, int)
    assert isinstance(text, str)
    return data[:start] + text.encode() + data[end:]


def _all(tree: ast.AST) -> Iterator[_Found]:
    for node in _nodes(tree):
        match node:
            case ast.Compare(ops=[op]) if type(op) in _TURNED:
                yield _changed(
                    node, "a comparison turned", lambda one, op=op: setattr(one, "ops", [_TURNED[type(op)]()])
                )
            case ast.BinOp(op=op) if type(op) in _OTHER:
                yield _changed(node, "another operator", lambda one, op=op: setattr(one, "op", _OTHER[type(op)]()))
            case ast.AugAssign(op=op) if type(op) in _OTHER:
                yield _changed(
                    node, "another operator", lambda one, op=op: setattr(one, "op", _OTHER[type(op)]()), "{}"
                )
            case ast.BoolOp(op=op):
                other = ast.Or() if isinstance(op, ast.And) else ast.And()
                yield _changed(node, "and for or", lambda one, other=other: setattr(one, "op", other))
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) if not isinstance(test, ast.Constant):
                yield test, f"(not ({ast.unparse(test)}))", "a condition reversed"
            case ast.Constant(value=bool() as value):
                yield node, repr(not value), "true for false"
            case ast.Constant(value=int() | float() as value):
                yield node, f"({value + 1!r})", "a number changed"
            case ast.Constant(value=str() as value):
                yield node, repr(value + "x"), "a text changed"
            case ast.Expr(value=ast.Call() | ast.Await()) | ast.Delete() | ast.Continue() | ast.Break():
                yield node, "pass", "a step left out"
            case _:
                pass


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes in which a mistake may be planted: not in annotations, nor in texts that only document."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in cast("list[object]", value) if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, _SKIPPED):
                continue
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            yield child
            yield from _nodes(child)


def _changed(node: ast.expr | ast.stmt, what: str, change: Callable[[ast.AST], None], form: str = "({})") -> _Found:
    """A node with something about it changed, as source."""
    other = copy(node)
    change(other)
    return node, form.format(ast.unparse(other)), what
