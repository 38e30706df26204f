"""What the system can do: manifests, immutable versions, artifacts, and which of them fits a need.

* :mod:`registry.manifest`: what a capability is; checked when made.
* :mod:`registry.reading`, :mod:`registry.vouching`, :mod:`registry.listing`, :mod:`registry.finding`, :mod:`registry.reflecting`,
  :mod:`registry.store`: what a registry does, one built on the other: reads versions, vouches for them, lists what is offered,
  finds it, acts on how it did, registers.
* :mod:`registry.illustrating`, :mod:`registry.example_needs`: examples of what it is for, written by a model; which are good.
* :mod:`registry.offered`: what is offered, in a matcher, as each tenant sees it; :mod:`registry.records`: how versions did;
  :mod:`registry.reflection`: what follows from that.
* :mod:`registry.versions`: a version, and whether what is stored is what was registered under its content hash.
* :mod:`registry.signing`, :mod:`registry.keyfile`: who vouches for a version, and where the key for that comes from.
* :mod:`registry.lineage`: which sources a fabricated capability owes its words to.
* :mod:`registry.schema`: whether a value fits a schema, in words a planner can act on.
* :mod:`registry.signature`, :mod:`registry.declare`: capabilities out of typed functions and Strands agents.
* :mod:`registry.matching`: which capabilities fit a need.
* :mod:`registry.openapi`, :mod:`registry.tables`: descriptions and records of the reference pattern, in and out.

Enters: manifests, source code, exam records. Leaves: versions, verified sources, shortlists. May import ``blackboard``
and nothing to the right of it.
"""

from registry.declare import Capability, capability
from registry.finding import Match
from registry.grants import Grants, TopicGrants
from registry.lineage import origin, suspects
from registry.manifest import CapabilityLimits, Example, ExamRecord, Manifest
from registry.matching import (
    Candidate,
    Contract,
    Document,
    Findings,
    LexicalMatcher,
    MatchDecision,
    Matcher,
    Prices,
    Signals,
)
from registry.schema import validate_input, validate_output
from registry.signature import ResultNotJson
from registry.signing import Signature, SignatureRefused, Signer
from registry.store import Registry
from registry.versions import HashMismatch, Version
from registry.vouching import Loaded

__all__ = [
    "Candidate",
    "Capability",
    "CapabilityLimits",
    "Contract",
    "Document",
    "ExamRecord",
    "Example",
    "Findings",
    "Grants",
    "HashMismatch",
    "LexicalMatcher",
    "Loaded",
    "Manifest",
    "Match",
    "MatchDecision",
    "Matcher",
    "Prices",
    "Registry",
    "ResultNotJson",
    "Signals",
    "Signature",
    "SignatureRefused",
    "Signer",
    "TopicGrants",
    "Version",
    "capability",
    "origin",
    "suspects",
    "validate_input",
    "validate_output",
]
