"""Which grants a fabricated capability gets, which a person must approve first, and which it never gets."""

from __future__ import annotations

from typing import Literal, NamedTuple

from blackboard.taint import Gate, Taint, TaintPolicy
from blackboard.topics import covers
from blackboard.types import Settings
from registry import Grants

Ruling = Literal["allow", "ask", "deny"]


class Ruled(NamedTuple):
    """What a policy says about the grants a specification asks for, one text for each."""

    asks: tuple[str, ...]
    """Wait for a person."""
    denied: tuple[str, ...]


class GrantPolicy(Settings):
    """The operator's rule for each kind of grant: ``allow`` it, ``ask`` a person, or ``deny`` it."""

    model: Ruling = "allow"
    http: Ruling = "ask"
    files: Ruling = "ask"
    secrets: Ruling = "ask"
    topics: Ruling = "ask"

    def rule(self, asked: Grants, listed: Grants) -> Ruled:
        """Judge what is asked for.

        Args:
            asked: by a specification.
            listed: what is allowed by name, whatever the rule for its kind is; without ``model`` there, none is allowed. A
                certain model that is not named there waits for a person at least.
        """
        sorted_out: dict[Ruling, list[str]] = {"allow": [], "ask": [], "deny": []}
        if asked.model:
            rule: Ruling = "deny" if self.model == "allow" and not listed.model else self.model
            sorted_out[rule].append("model")
        for named in sorted(set(asked.models) - set(listed.models)):
            # What a certain model costs is for a person to weigh, even where some model is allowed to all.
            sorted_out["ask" if self.model == "allow" else self.model].append(f"models: {named!r}")
        for host in sorted(set(asked.http_hosts) - set(listed.http_hosts)):
            sorted_out[self.http].append(f"http_hosts: {host!r}")
        if asked.http_hosts:
            for method in sorted(set(asked.http_methods) - set(listed.http_methods)):
                sorted_out[self.http].append(f"http_methods: {method!r}")
        for path in sorted(set(asked.files) - set(listed.files)):
            sorted_out[self.files].append(f"files: {path!r}")
        for handle in sorted(set(asked.secrets) - set(listed.secrets)):
            sorted_out[self.secrets].append(f"secrets: {handle!r}")
        for name in ("read", "write"):
            wanted, there = getattr(asked.topics, name), getattr(listed.topics, name)
            for pattern in sorted(set(wanted)):
                if not any(covers(wide, pattern) for wide in there):
                    sorted_out[self.topics].append(f"topics.{name}: {pattern!r}")
        return Ruled(tuple(sorted_out["ask"]), tuple(sorted_out["deny"]))


def reaches(grants: Grants) -> bool:
    """Whether anything beside computing is granted; packages of the operator's are no more than that."""
    return grants.model_copy(update={"packages": ()}) != Grants()


def suspicions(asked: Grants, policy: TaintPolicy, taint: Taint) -> tuple[str, ...]:
    """Why a person must look at what was asked for by content from a taint, whatever grants it asks for by rule."""
    gates: tuple[Gate, ...] = ("fabricate", "approve") if reaches(asked) else ("fabricate",)
    rulings = [ruling for gate in gates if (ruling := policy.judge(gate, taint)) is not None and ruling.rule != "allow"]
    return tuple(dict.fromkeys(asked_by(ruling.untrusted) for ruling in rulings))


def asked_by(untrusted: Taint) -> str:
    """The reason as a person reads it."""
    return f"it was asked for by content from {', '.join(untrusted)}"
