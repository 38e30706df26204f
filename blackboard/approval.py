"""What a person is asked before a task goes on: how long it may take, who may answer, and what silence means."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from blackboard.errors import BadInput
from blackboard.settings_file import FileSettings
from blackboard.types import Settings

SECONDS = 3600.0
"""How long a person has, where nobody says."""
MOST_SECONDS = 30 * 86_400.0

_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Names = Annotated[tuple[_Name, ...], Field(max_length=20)]
_Time = Annotated[float, Field(gt=0, le=MOST_SECONDS)]


class Approval(Settings):
    """How a person is asked. What is left out is as the operator's :class:`ApprovalPolicy` has it.

    Raises:
        BadInput: a delegate where everybody may answer, or a time out of its range.
    """

    seconds: _Time | None = None
    """How long the person has, on the server's clock; at most what the policy allows."""
    otherwise: Literal["refuse", "approve"] | None = None
    """What it means when nobody answers in that time; ``refuse`` unless the policy says something else."""
    by: _Names = ()
    """Who may answer, as the audit names them: ``ann@desk``, ``token:finance``. Empty: whoever can reach the board."""
    delegate: _Names = ()
    """Who may answer as well once ``delegate_seconds`` have passed without an answer."""
    delegate_seconds: _Time | None = None
    """Default: half of ``seconds``."""

    @model_validator(mode="after")
    def _has_somebody_to_stand_in_for(self) -> Self:
        if self.delegate and not self.by:
            raise BadInput(
                "delegate", [*self.delegate], "Say in by who is asked first; without it everybody may answer."
            )
        return self

    @model_serializer(mode="wrap")
    def _only_what_is_said(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value not in (None, (), [])}

    @classmethod
    def of(cls, given: Approval | Mapping[str, Any] | bool | None) -> Approval | None:
        """What somebody wrote where an approval is asked for: its terms, or just that it is."""
        if given is None or given is False:
            return None
        if isinstance(given, Approval):
            return given
        return cls(**({} if given is True else given))


class Terms(NamedTuple):
    """How a person is asked, with everything said."""

    seconds: float
    otherwise: str
    by: tuple[str, ...]
    delegate: tuple[str, ...]
    delegate_seconds: float


class ApprovalPolicy(FileSettings):
    """For which tasks an operator wants a person asked, whatever their manifests say, and how.

    Raises:
        BadInput: something in it is malformed.
    """

    called: ClassVar[str] = "approval"
    variable: ClassVar[str] = "ARBITER_APPROVAL_POLICY"
    remedies: ClassVar[Mapping[str, str]] = {
        "effects": "Give a list of pure, reads, writes, irreversible.",
        "capabilities": "Give a list of names; '*' stands for any characters.",
    }

    effects: tuple[Literal["pure", "reads", "writes", "irreversible"], ...] = ()
    """Every task of a capability that has one of these effects waits for a person."""
    capabilities: tuple[_Name, ...] = ()
    """So does one of these; ``*`` stands for any characters."""
    questions: bool = False
    """Whether the planning model may ask a person, with the tool ``ask_person``."""
    terms: Approval = Approval()
    """How a person is asked where a manifest does not say it."""
    most_seconds: _Time = 7 * 86_400.0
    """Nobody is given longer, whatever a manifest or a model says."""

    def needed(self, name: str, effects: str, declared: Approval | None) -> Approval | None:
        """How a person is to be asked about a task of this capability; None where nobody is."""
        if declared is not None:
            return declared
        wanted = effects in self.effects or any(fnmatch.fnmatchcase(name, one) for one in self.capabilities)
        return Approval() if wanted else None

    def settle(self, asked: Approval) -> Terms:
        """The terms of a question, what it leaves out filled in."""
        own = self.terms
        seconds = min(asked.seconds or own.seconds or SECONDS, self.most_seconds)
        who = asked if asked.by else own
        after = min(who.delegate_seconds or seconds / 2, seconds)
        return Terms(seconds, asked.otherwise or own.otherwise or "refuse", who.by, who.delegate, after)


class Said(NamedTuple):
    """What became of a question to a person."""

    state: str
    """``approved``, ``refused``, ``answered``, or ``expired``: nobody said anything in time."""
    by: str = ""
    """Who answered; empty where the time was over."""
    text: str = ""
    """The answer to a question, or why it was refused."""
