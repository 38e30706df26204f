"""Where content comes from, and what content from elsewhere may set off.

A **source** is a short label of a place content came from: ``person``, ``event:/orders``, ``http:api.example.com``,
``model:<label>``, ``generated:<capability>``, ``file:<handle>``. The **taint** of a piece of content is the sorted set of
its sources. It only ever grows on the way: a task has the sources of all that its decision had seen, a completion those of
its task and of what the attempt itself brought in. A taint is bounded: sources of one kind that are too many become one
label that stands for all of that kind, so nothing is ever dropped, and no trust is ever gained by there being many.

Source of the idea: information-flow control by labels that join (Denning, A Lattice Model of Secure Information Flow, 1976).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple, cast
from urllib.parse import quote

from pydantic import JsonValue, field_validator

from blackboard.errors import BadInput
from blackboard.settings_file import FileSettings

Taint = tuple[str, ...]
"""Sources, sorted, each once."""

PERSON = "person"
"""Whoever submits through the SDK or the command line."""
UNKNOWN: Taint = ("unknown",)
"""What content has whose sources nobody wrote down: an earlier version did not."""
EVERYTHING = "(many)"
"""Stands for sources of too many kinds to be told."""

PER_KIND = 8
"""Most sources of one kind; more become ``<kind>:(many)``."""
MOST = 32
"""Most sources of one taint."""
LABEL_CHARACTERS = 120

Gate = Literal["fabricate", "secret", "approve"]
Rule = Literal["allow", "ask", "refuse"]

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_SAFE = "/@+~:._-"
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,31}(:([A-Za-z0-9/@+~:._%-]+|\(many\)))?")
_PATTERN = re.compile(r"[A-Za-z0-9/@+~:._%*-]{1,120}")


def source(kind: str, what: str = "") -> str:
    """The label of one place.

    Args:
        kind: a word such as ``event``, ``http``, ``mail``.
        what: which one of them, from outside: whatever is no plain character is percent-encoded, so that a label can be
            printed and put into a prompt. One that is too long becomes the label of all of its kind.

    Raises:
        BadInput: a kind that is no word.
    """
    if not _KIND.fullmatch(kind):
        raise BadInput("source", kind, "Begin with a lower-case letter; then letters, digits, '_' and '-', at most 32.")
    if not what:
        return kind
    label = f"{kind}:{quote(what.encode('utf-8', 'replace').decode(), safe=_SAFE)}"
    return label if len(label) <= LABEL_CHARACTERS else _all_of(kind)


def of_request(request: JsonValue) -> Taint:
    """Where a request comes from by its own word: a CloudEvents event from its ``source``, anything else from a person."""
    if isinstance(request, Mapping) and "specversion" in request and isinstance(request.get("source"), str):
        return (source("event", str(request["source"])),)
    return (PERSON,)


def given(sources: Iterable[str], field: str = "sources") -> Taint:
    """A taint from labels that a program gives: ``("mail:inbox",)``.

    Raises:
        BadInput: no label at all, or one that is none.
    """
    found = [sources] if isinstance(sources, str) else list(sources)
    for each in found:
        if not isinstance(cast(object, each), str) or len(each) > LABEL_CHARACTERS or not _LABEL.fullmatch(each):
            raise BadInput(
                field,
                each,
                "Write a label such as 'mail:inbox': a kind, a colon, and plain characters, at most 120 in all.",
            )
    if not found:
        raise BadInput(field, found, "Name at least one source; 'person' is whoever submits.")
    return merged(found)


def read(stored: Sequence[str] | None) -> Taint:
    """The taint of something stored; :data:`UNKNOWN` where none was written down."""
    return merged(stored) if stored else UNKNOWN


def merged(*parts: Iterable[str]) -> Taint:
    """The taint of what was made of several pieces."""
    return _merged(*map(tuple, parts))


@lru_cache(maxsize=1024)  # few are ever seen, each very often
def _merged(*parts: Taint) -> Taint:
    kinds: dict[str, set[str]] = {}
    for part in parts:
        for label in part:
            kinds.setdefault(label.partition(":")[0], set()).add(label)
    if EVERYTHING in kinds:
        return (EVERYTHING,)
    for kind, labels in kinds.items():
        if _all_of(kind) in labels or len(labels) > PER_KIND:
            kinds[kind] = {_all_of(kind)}
    if sum(map(len, kinds.values())) > MOST:
        kinds = {kind: {_all_of(kind)} if len(labels) > 1 else labels for kind, labels in kinds.items()}
    if len(kinds) > MOST:
        return (EVERYTHING,)
    return tuple(sorted(label for labels in kinds.values() for label in labels))


def _all_of(kind: str) -> str:
    return f"{kind}:(many)"


class Ruling(NamedTuple):
    """What a policy says about content at a gate."""

    gate: Gate
    rule: Rule
    untrusted: Taint
    """The sources that are not trusted; there is at least one."""

    def evidence(self) -> dict[str, JsonValue]:
        """For a failure or an event."""
        return {"gate": self.gate, "rule": self.rule, "sources": [*self.untrusted]}

    def __str__(self) -> str:
        return f"content from {', '.join(self.untrusted)}, which is not trusted"


class TaintPolicy(FileSettings):
    """Which sources the operator trusts, and what content from the others may do.

    Raises:
        ValueError: a pattern that is none, or a rule a gate does not have. :meth:`of` says it as ``BadInput``.
    """

    called: ClassVar[str] = "taint"
    variable: ClassVar[str] = "ARBITER_TAINT_POLICY"
    remedies: ClassVar[Mapping[str, str]] = {
        "trusted": "Give a list of labels such as 'event:/orders' or 'http:*.example.com'; '*' stands for any characters.",
        "fabricate": "Use allow, ask or refuse.",
        "secret": "Use allow, ask or refuse.",
        "approve": "Use allow, ask or refuse.",
    }

    trusted: tuple[str, ...] = (PERSON, "model:*", "generated:*")
    """Patterns of labels; ``*`` stands for any characters. What fits none is not trusted."""
    fabricate: Rule = "ask"
    """May it have a capability made? ``ask``: made and examined, reaching nothing outside, and then it waits for a person."""
    secret: Rule = "refuse"
    """May a secret be filled into a request of a task it led to? ``ask``: the run rests until a person has seen the request."""
    approve: Rule = "ask"
    """May a capability it asked for get grants by rule? ``ask``: only a person gives them. ``refuse``: nobody does."""

    @field_validator("trusted")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not _PATTERN.fullmatch(pattern):
                raise ValueError("write labels such as 'event:/orders' or 'http:*.example.com'")
        return value

    def untrusted(self, taint: Iterable[str]) -> Taint:
        """The sources of a taint that no pattern fits."""
        return tuple(label for label in taint if not any(_fits(pattern, label) for pattern in self.trusted))

    def judge(self, gate: Gate, taint: Iterable[str]) -> Ruling | None:
        """What holds for content at a gate; None where all of its sources are trusted."""
        found = self.untrusted(taint)
        return Ruling(gate, getattr(self, gate), found) if found else None


def _fits(pattern: str, label: str) -> bool:
    # No pattern can hold the parentheses of the labels that stand for many: only one that fits all of the kind fits those.
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), label) is not None
