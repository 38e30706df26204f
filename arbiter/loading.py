"""Capabilities and strategies out of modules and files, named on a command line: ``module[:ATTR]`` or ``path.py[:ATTR]``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from blackboard.errors import BadInput
from blackboard.strategies import Rate
from registry import Capability


def capabilities(places: Iterable[str]) -> list[Capability[..., Any]]:
    """The capabilities in modules and files: ``module[:ATTR]`` or ``path.py[:ATTR]``.

    Without ATTR they are what ``CAPABILITIES`` lists, or else every capability that has a public name in the module.

    Raises:
        BadInput: something that cannot be imported, is not there, or is no capability.
    """
    return [one for where in places for one in _capabilities(where)]


def strategies(places: Iterable[str]) -> dict[str, Rate]:
    """The functions that rate in modules and files, by name: what ``STRATEGIES`` maps, or ATTR.

    Raises:
        BadInput: something that cannot be imported, is not there, or is no such mapping.
    """
    found: dict[str, Rate] = {}
    for where in places:
        source, attribute = _parted(where)
        name = attribute or "STRATEGIES"
        said = cast(object, getattr(_module("strategies", where, source), name, None))
        named = cast("dict[object, object]", said) if isinstance(said, dict) else {}
        if not named or not all(isinstance(key, str) and callable(rate) for key, rate in named.items()):
            raise BadInput("strategies", where, f'Let {source} have {name} = {{"name": a function that rates}}.')
        found |= cast("dict[str, Rate]", named)
    return found


def _parted(where: str) -> tuple[str, str]:
    """Module or file, and the attribute if one is named."""
    match = re.fullmatch(r"(.+):([A-Za-z_]\w*)", where)
    return (match.group(1), match.group(2)) if match else (where, "")


def _capabilities(where: str) -> list[Capability[..., Any]]:
    source, attribute = _parted(where)
    module = _module("capabilities", where, source)
    every = _public(module)
    found = getattr(module, attribute or "CAPABILITIES", None if attribute else list(every.values()) or None)
    if found is None and attribute:
        there = f"It has {', '.join(every)}." if every else "Nothing in it is decorated with arbiter.capability."
        raise BadInput("capabilities", where, f"{source} has no {attribute}. {there}")
    if found is None:
        raise BadInput("capabilities", where, "Nothing in it is decorated with arbiter.capability, or made with it.")
    listed: Sequence[Any] = cast("Sequence[Any]", found) if isinstance(found, list | tuple) else [found]
    for one in listed:
        if not isinstance(one, Capability):
            raise BadInput(
                "capabilities",
                where,
                f"{attribute or 'CAPABILITIES'} holds {one!r:.80}; decorate it with arbiter.capability.",
            )
    return list(listed)


def _public(module: ModuleType) -> dict[str, Capability[..., Any]]:
    named = vars(module).items()
    return {name: value for name, value in named if isinstance(value, Capability) and not name.startswith("_")}


def _module(field: str, where: str, source: str) -> ModuleType:
    file = Path(source)
    try:
        if file.suffix != ".py":
            _reachable(Path.cwd())
            return importlib.import_module(source)
        path = file.resolve(strict=True)
        _reachable(path.parent)
        name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # type hints of what it defines are looked up there
        spec.loader.exec_module(module)
        return module
    except Exception as error:  # the user's code: whatever it raises is reported as what it is
        raise BadInput(field, where, f"It cannot be imported: {_why(error)}.") from error


def _reachable(folder: Path) -> None:
    """Let modules of a folder be imported, behind everything that is installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _why(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}".removesuffix(".")
