"""Where Strands' Bedrock model becomes the brokered one: as ``strands.models.bedrock`` is imported.

Every place that names ``BedrockModel`` (``strands.models``, the defaults inside ``Agent``) copies it from that module,
so replacing it there, before anyone copies, needs no list of places and works for any order of imports.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

_TARGET = "strands.models.bedrock"


class _Replacing(importlib.abc.Loader):
    def __init__(self, inner: importlib.abc.Loader) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        from wrapper.isolation.brokered_model import BrokeredModel

        module.BedrockModel = BrokeredModel  # type: ignore[attr-defined]


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _TARGET:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Replacing(spec.loader)
        return spec


def install() -> None:
    """Put the seam in place. Must come before the first import of Strands."""
    if _TARGET in sys.modules:
        raise RuntimeError("Strands was imported before its model could be replaced")
    sys.meta_path.insert(0, _Finder())
