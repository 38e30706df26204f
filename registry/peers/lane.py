"""Which peer a capability belongs to: its lane says so, which is part of the content hash, so nobody can change it.

Functions of a program wait in ``local.<name>``, tools of a peer in ``local.<kind>.<peer>``: one lane for all of them, served by
the processes that are connected to it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from blackboard.errors import BadInput

if TYPE_CHECKING:
    from registry.manifest import Manifest

KINDS = ("mcp", "a2a", "dynamodb")
_BROUGHT = ("dynamodb",)
"""Kinds whose capabilities run here, in the lanes that their code names."""
_PREFIX = "local."
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


def lane(kind: str, name: str) -> str:
    """The lane of a peer's tools.

    Raises:
        BadInput: no such kind, or a name that is none.
    """
    if kind not in KINDS:
        raise BadInput("peer.kind", kind, f"Use one of {', '.join(KINDS)}.")
    if not _NAME.fullmatch(name):
        raise BadInput(
            "peer.name", name, "Begin with a lower-case letter; then lower-case letters, digits and '_', at most 32."
        )
    return f"{_PREFIX}{kind}.{name}"


def peer_of(manifest: Manifest) -> tuple[str, str] | None:
    """Kind and name of the peer a capability belongs to; None for what belongs to none."""
    kind, dot, name = manifest.action.removeprefix(_PREFIX).partition(".")
    return (kind, name) if dot and manifest.action.startswith(_PREFIX) and kind in KINDS else None


def offered_by(manifest: Manifest) -> tuple[str, str, str] | None:
    """Kind and name of the peer a capability came from, also of one whose code runs here, and what the peer calls it.

    Of the latter it is only as true as whoever registered it: it serves to tell what to replace and to retire.
    """
    said = manifest.provenance.get("peer")
    if not isinstance(said, dict):
        return None
    found = str(said.get("kind")), str(said.get("name")), str(said.get("tool"))
    return found if found[:2] == peer_of(manifest) or (found[0] in _BROUGHT and manifest.kind == "artifact") else None


def label(kind: str, name: str) -> str:
    """The label of a peer: for people, for sources of content, and for what processes say of it on the board."""
    return f"{kind}:{name}"
