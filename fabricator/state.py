"""What a fabrication remembers between processes: what models answered and what came of it. The rest is computed again.

It is the checkpoint of the fabrication's task, replaced by the same script that appends the stage's event, so a process
that takes over continues after the last finished stage and asks no model twice for the same thing.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from blackboard.types import Record, Usage

MOST_BYTES = 900_000
"""Of a checkpoint; the board takes one mebibyte."""

_DROPPED = "(dropped to save space)"


class DraftAnswer(Record):
    """One answer of the examiner and what was objected; nothing objected means it stands."""

    text: str
    objections: tuple[str, ...] = ()
    refused: bool = False
    """It could be read, and its properties were of no use: nothing of it counts."""


class Verdict(Record):
    """What came of one candidate. ``feedback`` and ``evidence`` hold nothing of the sealed part but numbers."""

    stage: str
    """The stage it failed in, or ``exam_strength`` when it passed."""
    passed: bool
    reason: str = ""
    """One line for people."""
    feedback: str = ""
    """What the generator is told."""
    evidence: dict[str, JsonValue] = Field(default_factory=dict)
    public: tuple[int, int] = (0, 0)
    """Public cases passed and in all."""
    sealed: tuple[int, int] = (0, 0)
    mistakes: tuple[int, int] = (0, 0)
    """Mistakes planted in it that the exam noticed, and in all."""
    weak: bool = False
    """It passed an exam that noticed too few of them."""
    properties: tuple[int, int] = (0, 0)
    """Properties that held on inputs made by code, and in all."""
    inputs: int = 0
    """Those for which it had a result."""
    refused: int = 0
    """Those it refused with a ``ValueError``, of which nothing follows."""
    seconds: float = 0.0
    """How long that stage took."""
    when: float = 0.0
    """Seconds since the epoch, when it was given."""

    def counts(self) -> dict[str, JsonValue]:
        """The exam in numbers."""
        return {
            "public_cases": self.public[1],
            "public_passed": self.public[0],
            "sealed_cases": self.sealed[1],
            "sealed_passed": self.sealed[0],
            "mistakes_planted": self.mistakes[1],
            "mistakes_noticed": self.mistakes[0],
            "properties": self.properties[1],
            "properties_held": self.properties[0],
            "property_inputs": self.inputs,
            "property_refused": self.refused,
            "passed": self.passed,
        }


class Candidate(Record):
    """One answer of the generator."""

    text: str
    sha: str = ""
    """SHA-256 of the source in it; empty when there is none."""
    verdict: Verdict | None = None


class FabricationState(BaseModel):
    """The checkpoint."""

    model_config = ConfigDict(extra="forbid")

    layout: Literal[1] = 1
    drafts: list[DraftAnswer] = Field(default_factory=list[DraftAnswer])
    candidates: list[Candidate] = Field(default_factory=list[Candidate])
    usage: Usage = Usage()
    brought: list[str] = Field(default_factory=list[str])
    """Sources of what came in on the way: the models that were asked, and what candidates reached in their exams."""
    near: list[str] = Field(default_factory=list[str])
    """Existing capabilities that were close to the need."""

    @classmethod
    def load(cls, checkpoint: JsonValue) -> FabricationState:
        """The state in a checkpoint; a fresh one when there is none, or one of another layout."""
        if checkpoint is None:
            return cls()
        try:
            return cls.model_validate(checkpoint)
        except ValidationError:
            return cls()

    def dump(self) -> JsonValue:
        """The checkpoint. Texts that later turns only quote are dropped, oldest first, if it would not fit."""
        value: JsonValue = self.model_dump(mode="json")
        if _size(value) <= MOST_BYTES:
            return value
        drafts, candidates = list(self.drafts), list(self.candidates)
        for number in range(len(drafts) - 1):
            drafts[number] = drafts[number].model_copy(update={"text": _DROPPED})
        for number in range(len(candidates) - 1):
            candidates[number] = candidates[number].model_copy(update={"text": _DROPPED})
            value = self.model_copy(update={"drafts": drafts, "candidates": candidates}).model_dump(mode="json")
            if _size(value) <= MOST_BYTES:
                break
        return value


def plain(text: str) -> str:
    """Text that JSON can carry: a model may write half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


def _size(value: JsonValue) -> int:
    return len(json.dumps(value, separators=(",", ":")))
