"""Peers from a file: TOML or JSON, a table for each peer.

    [files]
    command = ["uvx", "mcp-server-files", "/srv/files"]

    [weather]
    url = "https://weather.example.com/mcp"
    headers = { Authorization = "Bearer {{secret:weather}}" }

    [helper]
    kind = "a2a"
    url = "https://helper.example.com"

The file is read by the process that serves the peers and is never put on a board: whoever may write to a board must not thereby
start programs on the machines of others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from blackboard import settings_file
from blackboard.errors import BadInput
from wrapper.peers.peer import Peer


def peers(path: Path | str) -> list[Peer]:
    """The peers in a file.

    Raises:
        BadInput: it cannot be read, or a setting cannot be right; the field is ``peers.<name>.<setting>``.
    """
    content = settings_file.table(path, "peers", "Write a table for each peer, named as the peer is called here.")
    return [peer(name, given) for name, given in content.items()]


def peer(name: str, given: object) -> Peer:
    """One peer from its settings: those of :class:`~wrapper.peers.mcp.McpPeer`, or, with ``kind = "a2a"``, of
    :class:`~wrapper.peers.a2a.A2aPeer`, or, with ``kind = "dynamodb"``, of :class:`~wrapper.peers.dynamodb.DynamoPeer`.

    Raises:
        BadInput: a setting that there is not, or that cannot be right.
    """
    from wrapper.peers.a2a import A2aPeer
    from wrapper.peers.dynamodb import DynamoPeer
    from wrapper.peers.mcp import McpPeer

    kinds: dict[str, type[McpPeer] | type[A2aPeer] | type[DynamoPeer]] = {
        "mcp": McpPeer, "a2a": A2aPeer, "dynamodb": DynamoPeer,
    }  # fmt: skip
    if not isinstance(given, Mapping):
        raise BadInput(f"peers.{name}", given, "Write its settings as a table.")
    settings = {str(key): value for key, value in cast("Mapping[object, Any]", given).items()}
    kind = settings.pop("kind", "mcp")
    if kind not in kinds:
        raise BadInput(f"peers.{name}.kind", kind, f"Use one of {', '.join(kinds)}.")
    known = {each.name: each for each in dataclasses.fields(kinds[kind])}
    for key, value in settings.items():
        if key not in known or key == "name":
            raise BadInput(f"peers.{name}.{key}", value, f"Use any of {', '.join(sorted(known.keys() - {'name'}))}.")
        if not _fits(str(known[key].type), value):
            raise BadInput(f"peers.{name}.{key}", value, f"It must be of the form {known[key].type}.")
    try:
        return kinds[kind](name=name, **settings)
    except BadInput as error:
        raise BadInput(f"peers.{name}.{error.field.removeprefix('peer.')}", error.value, error.remedy) from None


def _fits(wanted: str, value: object) -> bool:
    """Whether a value from a file is of the form a setting has."""
    if wanted.startswith("Mapping"):
        return isinstance(value, dict) and all(isinstance(each, str) for each in cast("dict[str, Any]", value).values())
    if wanted.startswith("Sequence"):
        return isinstance(value, list) and all(isinstance(each, str) for each in cast("list[Any]", value))
    if wanted == "bool":
        return isinstance(value, bool)
    if wanted.startswith("float"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str)
