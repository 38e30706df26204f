"""What source contains, read from its syntax tree, and what a loaded handler really accepts.

The facts a static policy and a contract check need. Runs in a child, because parsing hostile text can exhaust the
parser; collects and never judges.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator

_FACTS = 2_000
"""Most entries of one list; a longer one is cut and named in ``truncated``."""

_REACHING = frozenset(
    {
        "eval",
        "exec",
        "compile",
        "open",
        "__import__",
        "getattr",
        "setattr",
        "delattr",
        "globals",
        "locals",
        "vars",
        "dir",
        "input",
        "breakpoint",
        "exit",
        "quit",
    }
)
"""Builtins that reach around what the syntax shows."""


def syntax_evidence(error: BaseException) -> dict[str, object]:
    """Where a source text stops being Python."""
    if isinstance(error, SyntaxError):
        return {"line": error.lineno, "offset": error.offset, "text": (error.text or "")[:500].rstrip("\n")}
    return {}


def inspect_source(source: str, filename: str) -> dict[str, object]:
    """Facts about a source text; nothing of it is imported or run.

    Returns:
        ``syntax_error`` (None or ``{type, message, line, offset, text}``), ``handler`` (None or as
        :func:`describe`, plus ``line``), ``handler_assigned`` (bound other than by ``def``), ``imports``
        (``{module, names, level, line}``), ``calls`` (``{name, line}``, dotted), ``builtins`` (uses of builtins that
        reach around the language, called or not), ``attributes`` (dotted, rooted in a name), ``dunders``,
        ``non_ascii_identifiers``, ``strings`` naming dunders, ``top_level`` statement kinds, ``source_bytes``,
        ``lines``, ``truncated``.
    """
    facts: dict[str, object] = {"source_bytes": len(source.encode()), "lines": source.count("\n") + 1}
    try:
        tree = ast.parse(source, filename)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        syntax = {"type": type(error).__name__, "message": message, **syntax_evidence(error)}
        return {**facts, "syntax_error": syntax, "handler": None}
    handler, assigned = _find_handler(tree)
    lists = _Facts()
    for node in ast.walk(tree):
        lists.visit(node)
    return {
        **facts,
        "syntax_error": None,
        "handler": handler,
        "handler_assigned": assigned,
        "top_level": sorted({type(node).__name__ for node in tree.body}),
        **lists.result(),
    }


def _dotted(node: ast.AST) -> str | None:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def _dunder(name: str) -> bool:
    return len(name) > 4 and name.startswith("__") and name.endswith("__")


class _Facts:
    def __init__(self) -> None:
        names = ("imports", "calls", "builtins", "attributes", "dunders", "non_ascii_identifiers", "strings")
        self._lists: dict[str, dict[tuple[str, int], dict[str, object]]] = {name: {} for name in names}
        self._truncated: set[str] = set()

    def _add(self, kind: str, name: str, line: int, **more: object) -> None:
        entries = self._lists[kind]
        if len(entries) >= _FACTS:
            self._truncated.add(kind)
        else:
            entries.setdefault((name, line), {"name": name[:200], "line": line, **more})

    def visit(self, node: ast.AST) -> None:
        line: int = getattr(node, "lineno", 0)
        for name in _identifiers(node):
            if not name.isascii():
                self._add("non_ascii_identifiers", name, line)
            if _dunder(name):
                self._add("dunders", name, line)
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._add("imports", alias.name, line, module=alias.name, names=[], level=0)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [alias.name for alias in node.names]
            self._add("imports", "." * node.level + module, line, module=module, names=names, level=node.level)
        elif isinstance(node, ast.Call):
            self._add("calls", _dotted(node.func) or f"<{type(node.func).__name__}>", line)
        elif isinstance(node, ast.Attribute) and (dotted := _dotted(node)):
            self._add("attributes", dotted, line)
        elif isinstance(node, ast.Name) and node.id in _REACHING:
            self._add("builtins", node.id, line)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "__" in node.value:
            self._add("strings", node.value, line)

    def result(self) -> dict[str, object]:
        lists: dict[str, object] = {name: list(entries.values()) for name, entries in self._lists.items()}
        return {**lists, "truncated": sorted(self._truncated)}


def _identifiers(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.arg | ast.keyword) and node.arg:
        yield node.arg
    elif isinstance(node, ast.alias):
        yield from node.name.split(".")
        if node.asname:
            yield node.asname
    elif isinstance(node, ast.Global | ast.Nonlocal):
        yield from node.names
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest
    elif isinstance(node, ast.MatchClass):
        yield from node.kwd_attrs


def _find_handler(tree: ast.Module) -> tuple[dict[str, object] | None, bool]:
    found: dict[str, object] | None = None
    assigned = False
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "handler":
            found, assigned = _describe_definition(node), False
        elif any(
            isinstance(inner, ast.Name) and inner.id == "handler" and isinstance(inner.ctx, ast.Store)
            for inner in (ast.walk(node) if isinstance(node, ast.Assign | ast.AnnAssign) else ())
        ) or (
            isinstance(node, ast.Import | ast.ImportFrom)
            and any((alias.asname or alias.name) == "handler" for alias in node.names)
        ):
            found, assigned = None, True
    return found, assigned


def _describe_definition(node: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, object]:
    given = node.args
    parameters: list[dict[str, object]] = []

    def add(arg: ast.arg, kind: str, required: bool) -> None:
        annotation = None if arg.annotation is None else ast.unparse(arg.annotation)[:300]
        parameters.append({"name": arg.arg, "required": required, "annotation": annotation, "kind": kind})

    positional = [*given.posonlyargs, *given.args]
    first_default = len(positional) - len(given.defaults)
    for index, arg in enumerate(positional):
        kind = "positional_only" if index < len(given.posonlyargs) else "positional_or_keyword"
        add(arg, kind, index < first_default)
    if given.vararg:
        add(given.vararg, "var_positional", False)
    for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        add(arg, "keyword_only", default is None)
    if given.kwarg:
        add(given.kwarg, "var_keyword", False)
    return {
        "parameters": parameters,
        "is_async": isinstance(node, ast.AsyncFunctionDef),
        "accepts_kwargs": given.kwarg is not None,
        "docstring": ast.get_docstring(node),
        "returns": None if node.returns is None else ast.unparse(node.returns)[:300],
        "line": node.lineno,
    }


def describe(handler: Callable[..., object]) -> dict[str, object]:
    """What a loaded handler accepts: ``parameters`` (name, required, annotation, kind), ``is_async``,
    ``accepts_kwargs``, ``docstring``, ``returns``; ``parameters`` is None when Python cannot tell."""
    described: dict[str, object] = {
        "is_async": inspect.iscoroutinefunction(handler),
        "docstring": inspect.getdoc(handler),
    }
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return {**described, "parameters": None, "accepts_kwargs": None, "returns": None}
    parameters = [
        {
            "name": each.name,
            "required": each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD),
            "annotation": _annotation(each.annotation),
            "kind": each.kind.name.lower(),
        }
        for each in signature.parameters.values()
    ]
    return {
        **described,
        "parameters": parameters,
        "accepts_kwargs": any(each["kind"] == "var_keyword" for each in parameters),
        "returns": _annotation(signature.return_annotation),
    }


def _annotation(annotation: object) -> str | None:
    return None if annotation is inspect.Parameter.empty else inspect.formatannotation(annotation)[:300]
