"""Manifests in and out: what other systems offer as capabilities here, and capabilities as others read them.

* :mod:`registry.peers.lane`: which peer a capability belongs to.
* :mod:`registry.peers.naming`: legal, unique names for what remote systems call their tools.
* :mod:`registry.peers.offers`: what a peer offers, and what of it could not be taken.
* :mod:`registry.peers.mcp`, :mod:`registry.peers.a2a`: tools of MCP servers and agent cards, in and out.
* :mod:`registry.peers.records`: rows of a table of the reference pattern.

Everything here is data; who calls a peer is :mod:`wrapper.peers`.
"""

from registry.peers.lane import KINDS, label, lane, offered_by, peer_of
from registry.peers.offers import Listing, Offer, Refused

__all__ = ["KINDS", "Listing", "Offer", "Refused", "label", "lane", "offered_by", "peer_of"]
