"""Which modules code may import: the standard library, and the packages that its manifest names.

A rule of supply, not a wall: it is kept inside the child, where hostile code can go around it, and what such code could reach
that way is one more library in a process that can only compute. What it ensures is that a manifest says, signed, what its
code is made of.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType

PREFIX = "arb_cap_"
"""What names of modules of generated code begin with."""


def fence(packages: Iterable[str]) -> None:
    """Refuse all other imports by what is no library, from now on and for good: this process serves one run.

    Libraries import what they need. Every way in is covered that takes a name: the statement, ``__import__`` and
    ``importlib.import_module``.

    Args:
        packages: top-level names beside the standard library.
    """
    allowed = {*sys.stdlib_module_names, *packages}
    import_statement, import_module = builtins.__import__, importlib.import_module

    def check(name: str, fromlist: Sequence[str], asking: Mapping[str, object] | None) -> None:
        if name.partition(".")[0] in allowed or _library(asking):
            return
        if name == "wrapper.sdk" or (name == "wrapper" and tuple(fromlist) == ("sdk",)):
            return
        top = name.partition(".")[0]
        raise ImportError(
            f"{name} is neither in the standard library nor among the packages of this capability's manifest; "
            f"declare it: grants.packages = [{top!r}]",
            name=name,
        )

    def fenced_import(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        if level == 0:
            check(name, fromlist or (), globals)
        return import_statement(name, globals, locals, fromlist, level)

    def fenced_module(name: str, package: str | None = None) -> ModuleType:
        whole = f"{package}{name}" if name.startswith(".") else name
        check(whole, (), sys._getframe(1).f_globals)  # pyright: ignore[reportPrivateUsage]
        return import_module(name, package)

    builtins.__import__ = importlib.__import__ = fenced_import
    importlib.import_module = fenced_module


def _library(asking: Mapping[str, object] | None) -> bool:
    """Whether the globals of who asks are those of an imported module that is not the generated one."""
    name = asking.get("__name__") if asking is not None else None
    if not isinstance(name, str) or name.startswith(PREFIX):
        return False
    return getattr(sys.modules.get(name), "__dict__", None) is asking
