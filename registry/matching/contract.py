"""Whether a capability can be used for a sub-task at all, whatever its words say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

from pydantic import JsonValue

from blackboard.types import Record
from registry.manifest import Manifest

GrantName = Literal["model", "http_hosts", "files", "secrets"]


class Contract(Record):
    """What the sub-task brings, needs and allows. None does not look."""

    inputs: tuple[str, ...] | None = None
    """Names of the inputs that can be supplied."""
    output: str | None = None
    """JSON type the next task needs: ``object``, ``array``, ``string``, ``number``, ``integer``, ``boolean``."""
    effects: tuple[str, ...] | None = None
    """Effects that are allowed."""
    without: tuple[GrantName, ...] = ()
    """Grants that policy forbids."""

    def objections(self, manifest: Manifest) -> list[str]:
        """Why a capability cannot be used; empty when it can."""
        said: list[str] = []
        if self.inputs is not None:
            required = manifest.input_schema.get("required")
            names = cast("list[str]", required) if isinstance(required, list) else []
            missing = [name for name in names if name not in self.inputs]
            if missing:
                said.append(f"needs {', '.join(missing[:5])}")
        if self.output is not None:
            given = _types(manifest.output_schema)
            if given and not _fits(self.output, given):
                said.append(f"returns {' or '.join(sorted(given))}, not {self.output}")
        if self.effects is not None and manifest.effects not in self.effects:
            said.append(f"{manifest.effects} is not allowed")
        asked = [name for name in self.without if getattr(manifest.grants, name)]
        if asked:
            said.append(f"asks for {', '.join(asked)}")
        return said


def _types(schema: Mapping[str, JsonValue] | None) -> set[str]:
    """The JSON types a schema names at its top; empty when it names none."""
    kind = (schema or {}).get("type")
    if isinstance(kind, str):
        return {kind}
    return {str(each) for each in kind} if isinstance(kind, list) else set()


def _fits(wanted: str, given: set[str]) -> bool:
    return wanted in given or (wanted == "number" and "integer" in given)
