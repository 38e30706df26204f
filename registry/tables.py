"""The reference pattern's table records, in and out.

A record is ``{"toolId" | "agentId", "filename", "schema", "description", "action"}``. Some tables keep all but the id
in a field ``config``, a mapping or its JSON text; ``schema`` and ``action`` may be JSON text as well. What a record
says that a manifest has no place for goes to ``provenance`` and comes back on export.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from pydantic import JsonValue

from blackboard import strict_json
from blackboard.errors import BadInput
from registry.manifest import Manifest
from registry.openapi import describe

_IDS = ("toolId", "agentId")
_FIELDS = ("filename", "schema", "description", "action")


class Imported(NamedTuple):
    """A manifest from a record, and the file that holds its code."""

    manifest: Manifest
    filename: str


def from_record(record: Mapping[str, JsonValue], *, tenant: str = "*") -> Imported:
    """The manifest a table record describes.

    Args:
        record: one row; see the module.
        tenant: who may use the capability.

    Returns:
        The manifest, under a legal name made from the id, and the record's ``filename``.

    Raises:
        BadInput: a field is missing, is no JSON where it should be, or does not make a valid manifest.
    """
    fields: dict[str, Any] = {**_object("config", record.get("config") or {}), **record}
    fields.pop("config", None)
    key = next((key for key in _IDS if fields.get(key)), None)
    if key is None:
        raise BadInput("record.toolId", None, "Give the record a toolId or an agentId.")
    for field in ("filename", "schema", "description"):
        if not fields.get(field):
            raise BadInput(f"record.{field}", fields.get(field), "It is required.")
    described = describe(_object("schema", fields["schema"]))
    identity = str(fields[key])
    manifest = Manifest.of(
        {
            "name": legal_name(identity),
            "description": str(fields["description"]),
            "input_schema": described.input_schema,
            "output_schema": described.output_schema,
            "action": _lane(fields.get("action")),
            "tenant": tenant,
            "provenance": {"record": {name: each for name, each in fields.items() if name != "schema"}},
        }
    )
    return Imported(manifest, str(fields["filename"]))


def to_record(manifest: Manifest, *, filename: str | None = None) -> dict[str, JsonValue]:
    """The table record of a manifest; the inverse of :func:`from_record` up to the form of the schema.

    Args:
        manifest: of the capability.
        filename: default: the imported record's, or ``<name>.py``.
    """
    known = cast(dict[str, JsonValue], manifest.provenance.get("record") or {})
    key = next((key for key in _IDS if key in known), "agentId" if manifest.kind == "agent" else "toolId")
    return {
        **{name: each for name, each in known.items() if name not in (*_IDS, *_FIELDS)},
        key: known.get(key, manifest.name),
        "filename": filename or known.get("filename") or f"{manifest.name}.py",
        "schema": manifest.input_schema,
        "description": manifest.description,
        "action": known.get("action", manifest.action),
    }


def legal_name(text: str) -> str:
    """A capability name made from any identifier: ``Order-Validator v2`` becomes ``order_validator_v2``.

    Raises:
        BadInput: nothing usable is left.
    """
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text)
    name = re.sub(r"[^a-z0-9]+", "_", split.lower()).strip("_")
    name = re.sub(r"^[0-9_]+", "", name)[:64].rstrip("_")
    if not name:
        raise BadInput("name", text, "Use a name with at least one letter from a to z.")
    return name


def _lane(action: object) -> str:
    """The lane of an action: a name, a queue's URL or ARN, or an object that holds one as its target."""
    if isinstance(action, str) and action.lstrip().startswith("{"):
        action = _object("action", action)
    if isinstance(action, Mapping):
        holder = cast(Mapping[str, object], action)
        action = next((holder[key] for key in ("target", "queue", "queueUrl", "lane", "name") if key in holder), None)
    if action is None or action == "":
        return "generic"
    if not isinstance(action, str):
        raise BadInput("record.action", action, "Give the name of a lane or the URL of a queue.")
    last = re.split(r"[/:]", action.rstrip("/"))[-1]
    return re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("-._")[:64] or "generic"


def _object(field: str, value: object) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = strict_json.loads(value)
        except ValueError as error:
            raise BadInput(f"record.{field}", value, f"Give an object or its strict JSON text: {error}.") from None
    if not isinstance(value, Mapping):
        raise BadInput(f"record.{field}", value, "Give an object or its JSON text.")
    return dict(cast(Mapping[str, Any], value))
