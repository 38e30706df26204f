"""What a capability's words and results owe to where the capability itself came from."""

from __future__ import annotations

from blackboard.taint import Taint, merged, source
from registry.manifest import Manifest
from registry.peers.lane import offered_by, peer_of

FABRICATOR = "fabricator"
"""The value of ``made_by`` in the provenance of what was fabricated."""


def origin(manifest: Manifest) -> Taint:
    """The sources of a capability: none for what a person registered, ``generated:<name>`` for what was fabricated, and the
    peer, such as ``mcp:files``, for what a peer offers.

    What it was fabricated for counts as well, unless a person had to look at it before it was offered.
    """
    if (peer := offered_by(manifest) or peer_of(manifest)) is not None:
        return (source(*peer[:2]),)
    made = manifest.provenance
    if made.get("made_by") != FABRICATOR:
        return ()
    own = (source("generated", manifest.name),)
    return own if made.get("waits") is True else merged(own, _listed(manifest, "sources"))


def suspects(manifest: Manifest) -> Taint:
    """The sources that were not trusted when it was fabricated; whoever approves it has to be shown them."""
    return merged(_listed(manifest, "untrusted"))


def _listed(manifest: Manifest, field: str) -> list[str]:
    found = manifest.provenance.get(field)
    return [str(each) for each in found] if isinstance(found, list) else []
