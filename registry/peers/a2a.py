"""Skills of A2A agents as manifests, and manifests as skills. Plain data: nothing here needs the library.

A skill takes words, and perhaps data, and gives words or data back: A2A knows no schema for either. So each skill of a card is a
capability with one input, ``message``, and an optional ``data``, and its result is not checked.

Source: Agent2Agent Protocol 1.0, "Agent Card" and "Skills".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import JsonValue

from blackboard.errors import BadInput
from registry.manifest import CapabilityLimits, Example, Manifest
from registry.peers.lane import label, lane
from registry.peers.mcp import ONCE, REPEATED, Effects
from registry.peers.naming import names
from registry.peers.offers import Listing, Offer, Refused, told_apart, words

_EXAMPLES = 5

INPUT: dict[str, JsonValue] = {
    "type": "object",
    "properties": {
        "message": {"type": "string", "minLength": 1, "description": "What the agent is asked to do, in plain words."},
        "data": {"description": "What it needs for that as data: any JSON."},
    },
    "required": ["message"],
    "additionalProperties": False,
}


def listing(
    peer: str,
    card: Mapping[str, Any],
    *,
    tenant: str = "*",
    effects: Effects = "writes",
    seconds: float = 60.0,
    only: Sequence[str] | None = None,
) -> Listing:
    """The capabilities that the skills on an agent's card make; the agent itself, where it names no skill.

    Args:
        peer: name of the agent here; the beginning of each capability's name.
        card: the card as JSON, ``{"name", "description", "skills": [{"id", "name", "description", "tags", "examples"}, …]}``.
        tenant: who may use them.
        effects: what asking the agent does; a card does not say. ``reads`` may be asked again after a failure.
        seconds: bound of one attempt.
        only: take no other skills, by id.
    """
    offers: list[Offer] = []
    skills = card.get("skills") or [{"id": "ask", "name": card.get("name"), "description": card.get("description")}]
    known, refused = told_apart(_listed(skills), "id", only)
    called = names(peer, sorted(known))
    for identity, skill in known.items():
        try:
            manifest = Manifest.of(
                {
                    "name": called[identity],
                    "description": _description(peer, identity, skill, card),
                    "input_schema": INPUT,
                    "examples": [Example(input={"message": each}, description=each) for each in _examples(skill)],
                    "effects": effects,
                    "retry": REPEATED if effects in ("pure", "reads") else ONCE,
                    "action": lane("a2a", peer),
                    "kind": "function",
                    "limits": CapabilityLimits(attempt_seconds=seconds),
                    "tenant": tenant,
                    "provenance": {"peer": {"kind": "a2a", "name": peer, "tool": identity}},
                }
            )
        except BadInput as error:
            refused.append(Refused(identity[:200], str(error)))
            continue
        offers.append(Offer(identity, manifest))
    return Listing(tuple(offers), tuple(refused))


def _description(peer: str, identity: str, skill: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    tags = [each for each in _listed(skill.get("tags")) if isinstance(each, str)]
    said = [
        words(skill.get("name")),
        words(skill.get("description"), f"{identity}, a skill of {label('a2a', peer)}."),
        f"The agent: {about}" if (about := words(card.get("description"))) else "",
        f"Tags: {', '.join(tags)}" if tags else "",
    ]
    return words("\n".join(each for each in said if each))


def _examples(skill: Mapping[str, Any]) -> list[str]:
    return [words(each)[:500] for each in _listed(skill.get("examples")) if words(each)][:_EXAMPLES]


def _listed(said: Any) -> list[Any]:
    return cast("list[Any]", said) if isinstance(said, list) else []


def skill_of(manifest: Manifest) -> dict[str, JsonValue]:
    """A capability as a skill: ``{"id", "name", "description", "tags", "examples"}``."""
    return {
        "id": manifest.name,
        "name": manifest.name.replace("_", " "),
        "description": manifest.description,
        "tags": [manifest.effects],
        "examples": [example.description for example in manifest.examples if example.description],
    }
