"""Tools of MCP servers as manifests, and manifests as MCP tools. Plain data: nothing here needs the library.

Source: Model Context Protocol, revisions 2025-06-18 to 2026-07-28, "Tools".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from pydantic import JsonValue

from blackboard.errors import BadInput
from blackboard.types import RetryPolicy, RetryRule
from registry.manifest import CapabilityLimits, Manifest
from registry.peers.lane import label, lane
from registry.peers.naming import names
from registry.peers.offers import Listing, Offer, Refused, schema, told_apart, words

Effects = Literal["pure", "reads", "writes", "irreversible"]

UNREACHED = "peer_unavailable"
"""The type of a failure before anything was sent: trying again cannot do anything twice."""

REPEATED = RetryPolicy(
    max_attempts=5,
    rules=(RetryRule(errors=(UNREACHED,), interval_seconds=1.0), RetryRule(errors=("*",), max_attempts=3)),
)
"""For what reads, or may be done twice."""
ONCE = RetryPolicy(
    max_attempts=5,
    rules=(RetryRule(errors=(UNREACHED,), interval_seconds=1.0), RetryRule(errors=("*",), max_attempts=1)),
)
"""For everything else: sent once."""


def listing(
    peer: str,
    tools: Sequence[Mapping[str, Any]],
    *,
    tenant: str = "*",
    effects: Mapping[str, Effects] | None = None,
    seconds: float = 60.0,
    only: Sequence[str] | None = None,
) -> Listing:
    """The capabilities that an MCP server's tools make.

    Args:
        peer: name of the server here; the beginning of each capability's name.
        tools: as ``tools/list`` gives them, ``{"name", "description", "inputSchema", "outputSchema", "annotations", …}``.
        tenant: who may use them.
        effects: what running a tool does, by the tool's name; what the server says of itself counts for the others.
        seconds: bound of one attempt.
        only: take no other tools.
    """
    offers: list[Offer] = []
    known, refused = told_apart(tools, "name", only)
    called = names(peer, sorted(known))
    for name, tool in known.items():
        try:
            manifest = _manifest(peer, name, called[name], tool, tenant, (effects or {}).get(name), seconds)
        except BadInput as error:
            refused.append(Refused(name[:200], str(error)))
            continue
        offers.append(Offer(name, manifest))
    return Listing(tuple(offers), tuple(refused))


def _manifest(
    peer: str, tool: str, name: str, said: Mapping[str, Any], tenant: str, effects: Effects | None, seconds: float
) -> Manifest:
    annotations: Any = said.get("annotations")
    hints: Mapping[str, Any] = cast("Mapping[str, Any]", annotations) if isinstance(annotations, Mapping) else {}
    does, retry = (effects, ONCE if effects == "irreversible" else REPEATED) if effects else _effects(hints)
    output = said.get("outputSchema")
    return Manifest.of(
        {
            "name": name,
            "description": words(
                said.get("description"),
                said.get("title"),
                hints.get("title"),
                f"{tool}, a tool of {label('mcp', peer)}.",
            ),
            "input_schema": schema(said.get("inputSchema")),
            "output_schema": None if output is None else schema(output),
            "effects": does,
            "retry": retry,
            "action": lane("mcp", peer),
            "kind": "function",
            "limits": CapabilityLimits(attempt_seconds=seconds),
            "tenant": tenant,
            "provenance": {"peer": {"kind": "mcp", "name": peer, "tool": tool}},
        }
    )


def _effects(hints: Mapping[str, Any]) -> tuple[Effects, RetryPolicy]:
    """What a tool does by its own word. Never ``pure``: what answers elsewhere may answer differently tomorrow.

    A word that is not true costs the server that gave it: the most that comes of it is a call sent to it twice. Without a
    word a tool is taken for what the protocol takes it for, destructive and not to be repeated.
    """
    if hints.get("readOnlyHint") is True:
        return "reads", REPEATED
    if hints.get("idempotentHint") is True:
        return "writes", REPEATED
    return ("writes" if hints.get("destructiveHint") is False else "irreversible"), ONCE


def tool_of(manifest: Manifest) -> dict[str, JsonValue]:
    """A capability as an MCP tool: ``{"name", "description", "inputSchema", "outputSchema"?, "annotations"}``.

    MCP wants an object as structured result; a capability that returns something else is offered without an output schema.
    """
    tool: dict[str, JsonValue] = {
        "name": manifest.name,
        "description": manifest.description,
        "inputSchema": manifest.input_schema,
        "annotations": {
            "readOnlyHint": manifest.effects in ("pure", "reads"),
            "destructiveHint": manifest.effects == "irreversible",
            "idempotentHint": manifest.effects == "pure",
        },
    }
    if manifest.output_schema is not None and manifest.output_schema.get("type") == "object":
        tool["outputSchema"] = manifest.output_schema
    return tool
