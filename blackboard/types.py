"""The plain data every room speaks: statuses, errors, usage, completions, task specifications, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from blackboard.errors import BadInput
from blackboard.refusing import refused

type_name = r"^[a-z0-9][a-z0-9._-]{0,63}$"
"""Pattern of tenant, lane and namespace names: they become parts of keys and of agenda members."""

type_capability = r"^[^\x00-\x1f\x7f]{1,128}$"
"""Pattern of a capability's name on the board, where it may be part of an agenda member; the registry allows less."""

MOST_TOKENS = 10**15
"""Largest bound on tokens: every engine counts that far exactly."""
MOST_MONEY = 10**14 - 1
"""Largest bound on money, in millionths: 100 million of a currency."""


class Status(StrEnum):
    """How a task or a run ended. These five and no other."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


class Record(BaseModel):
    """Base of every stored record: unknown fields are refused, values are immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Settings(Record):
    """Base of records that people write: making one refuses what is malformed.

    Raises:
        BadInput: on construction, naming the field, the value and the remedy. (``model_validate``, and a record it is a field
            of, raise pydantic's ``ValidationError`` with the same words.)
    """

    if not TYPE_CHECKING:

        def __new__(cls, /, *unnamed: Any, **_: Any) -> Self:  # not in __init__, whose signature is what help shows
            if unnamed:
                names = ", ".join(f"{name}=…" for name in cls.model_fields)
                raise TypeError(f"{cls.__name__} takes its fields by name: {names}")
            return super().__new__(cls)

        def __init__(self, /, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise refused(error) from None

        # Tells pydantic that nothing else happens here, so that it does not come this way for a field of another record.
        __init__.__pydantic_base_init__ = True


class Stored(BaseModel):
    """Base of what events carry: fields a later version adds are ignored, so that processes of two versions can work together."""

    model_config = ConfigDict(frozen=True, extra="ignore")


LONGEST_RETRY_AFTER = 86_400.0
"""Longest wait another side may ask for, in seconds; a longer one is taken for this."""


class Failure(Stored):
    """Why something did not succeed. ``type`` is a stable machine-readable word such as ``handler_error``."""

    type: str
    message: str
    retryable: bool = False
    evidence: dict[str, JsonValue] = Field(default_factory=dict)
    names: tuple[str, ...] = ()
    """Further names a retry rule may know it by: the classes of the exception, its own first; a provider's code."""
    retry_after_seconds: float | None = Field(default=None, ge=0, le=LONGEST_RETRY_AFTER)
    """The wait the other side asked for before another attempt, 0 to 86,400; None when it said nothing."""


class Usage(Stored):
    """What work consumed. Tokens are counts, ``seconds`` is wall-clock time inside the attempt."""

    input_tokens: int = 0
    output_tokens: int = 0
    model_calls: int = 0
    seconds: float = 0.0
    estimated: bool = False
    """True when a model reported no usage and the tokens were estimated from text length."""

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            model_calls=self.model_calls + other.model_calls,
            seconds=round(self.seconds + other.seconds, 6),
            estimated=self.estimated or other.estimated,
        )

    def __sub__(self, part: Usage) -> Usage:
        """What is left without a part of it; never below nothing."""
        return Usage(
            input_tokens=max(0, self.input_tokens - part.input_tokens),
            output_tokens=max(0, self.output_tokens - part.output_tokens),
            model_calls=max(0, self.model_calls - part.model_calls),
            seconds=max(0.0, round(self.seconds - part.seconds, 6)),
            estimated=self.estimated,
        )


class Completion(Stored):
    """The typed end of one task: the pattern's four fields, a status, and what the framework measured.

    ``orchestration_id``, ``tool_use_id``, ``node`` and ``data`` are the names of the reference pattern; they are the
    run, the model's tool call, the capability and the result.
    """

    orchestration_id: str
    tool_use_id: str
    node: str
    status: Status
    data: JsonValue = None
    error: Failure | None = None
    version: str | None = None
    """Content hash of the capability version that ran, when one was resolved."""
    attempts: int = 0
    worker: str | None = None
    isolation: str | None = None
    """The isolation the code ran under, for example ``process`` or ``inprocess``."""
    usage: Usage = Usage()
    stdout: str = ""
    stderr: str = ""
    taint: tuple[str, ...] = ()
    """Where ``data`` and ``error`` come from; labels as ``blackboard.taint`` makes them; empty counts as unknown."""
    taken_over_from: str | None = None
    """The task of an earlier run whose result this is: nothing was done, or paid, for it here. ``version`` is of that one."""


class TakenOver(Record):
    """What a task came to in the run that its own goes on from."""

    task: str
    """Its id there."""
    data: JsonValue = None
    """What it returned, whole."""
    version: str | None = None
    """Content hash of the version that ran."""
    taint: tuple[str, ...] = ()


_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Rate = Annotated[float, Field(ge=1, allow_inf_nan=False)]
_Age = Annotated[float, Field(gt=0, le=86_400 * 30)]


class RetryRule(Settings):
    """How failures with certain errors are tried again. What a rule leaves out is as in its policy."""

    errors: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.*?!\[\]-]{1,100}$")], ...] = Field(
        min_length=1, max_length=20
    )
    """Which errors: types (``timeout``, ``lease_lost``), names of Python exceptions a function raised or of their bases
    (``ConnectionError``), codes of a model's provider; with ``*``, ``?`` and ``[…]`` as in file names (``http_5*``)."""
    retry: bool | None = None
    """True: even when the error says that it is permanent; False: never; None: as the error says."""
    max_attempts: int | None = Field(default=None, ge=1, le=100)
    """How many attempts of a task may fail under this rule; the last of them ends the task."""
    interval_seconds: _Seconds | None = None
    rate: _Rate | None = None
    cap_seconds: _Seconds | None = None
    max_age_seconds: _Age | None = None
    """No further attempt begins later than this after the task was posted."""

    @model_serializer(mode="wrap")
    def _only_what_is_set(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value is not None}


class RetryPolicy(Settings):
    """When a failed attempt is tried again: by the first rule that knows its error, else by the policy's own numbers.

    The wait before the next attempt is random between 0 and ``interval_seconds · rate^(n-1)``, at most ``cap_seconds``,
    after the n-th failure under the same rule. ``max_attempts`` and ``max_age_seconds`` bound the task as a whole.

    Raises:
        BadInput: a number out of its range, or a rule that is wider than the whole policy.
    """

    max_attempts: int = Field(default=3, ge=1, le=100)
    interval_seconds: _Seconds = 0.5
    rate: _Rate = 2.0
    cap_seconds: _Seconds = 30.0
    max_age_seconds: _Age | None = None
    """No further attempt begins later than this after the task was posted; None leaves it to the task's deadline."""
    rules: tuple[RetryRule, ...] = Field(default=(), max_length=20)
    """Asked in their order; the first that knows the error decides."""

    @model_validator(mode="after")
    def _rules_are_narrower(self) -> Self:
        for number, rule in enumerate(self.rules):
            if rule.max_attempts is not None and rule.max_attempts > self.max_attempts:
                raise BadInput(
                    f"rules.{number}.max_attempts", rule.max_attempts,
                    f"The policy allows {self.max_attempts} attempts in all: raise its max_attempts, or lower the rule's.",
                )  # fmt: skip
            if None not in (rule.max_age_seconds, self.max_age_seconds) and rule.max_age_seconds > self.max_age_seconds:  # type: ignore[operator]
                raise BadInput(
                    f"rules.{number}.max_age_seconds", rule.max_age_seconds,
                    f"The policy allows {self.max_age_seconds:g} s in all: raise its max_age_seconds, or lower the rule's.",
                )  # fmt: skip
        return self

    @model_serializer(mode="wrap")
    def _as_before_there_were_rules(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A policy without rules is written as it always was: manifests are known by the hash of their text."""
        said: dict[str, Any] = write(self)
        if not self.rules:
            del said["rules"]
        if self.max_age_seconds is None:
            del said["max_age_seconds"]
        return said


class Limits(Settings):
    """Finite bounds of one run. Reaching one ends the run with a clear outcome, except for ``fabrications``: a request beyond
    it is refused to the model, which goes on with what there is; and for ``round_seconds``, after which the model is asked."""

    rounds: int = Field(default=20, ge=1, le=1000)
    tasks: int = Field(default=200, ge=1, le=100_000)
    fabrications: int = Field(default=5, ge=0, le=1000)
    tokens: int = Field(default=1_000_000, ge=1, le=MOST_TOKENS)
    money: int | None = Field(default=None, ge=0, le=MOST_MONEY)
    """Millionths of the currency of the price table, which must know every model the run asks; None for no bound."""
    seconds: float = Field(default=900.0, gt=0, le=86_400 * 30)
    task_seconds: float = Field(default=300.0, gt=0, le=86_400)
    """Deadline of one task from posting to its end, waiting and retries included."""
    attempt_seconds: float = Field(default=60.0, gt=0, le=86_400)
    """Deadline of one attempt at a task."""
    round_seconds: float | None = Field(default=None, ge=1, le=86_400)
    """After so long the model is asked again though tasks are still at work, and at once when one of them fails. None: when all
    are over."""
    invalid_decisions: int = Field(default=5, ge=0, le=100)
    """How many rounds may bring a decision that could not be carried out before the run fails."""

    @model_serializer(mode="wrap")
    def _as_before_there_were_these(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a bound on money, and where a round lasts until it is over, they are written as they always were."""
        said: dict[str, Any] = write(self)
        for name in ("money", "round_seconds"):
            if getattr(self, name) is None:
                said.pop(name, None)
        return said


class TaskSpec(Record):
    """One task to be posted by an arbiter step.

    ``key`` names it inside its round (unique there); ``after`` lists keys of tasks of the same round it waits for.
    ``input`` may hold references ``{"$ref": "<key>#/json/pointer"}`` to the data of tasks in ``after``.
    """

    key: str
    tool_use_id: str
    kind: Literal["capability", "fabrication", "question"] = "capability"
    capability: str = Field(pattern=type_capability)
    version: str | None = None
    lane: str = Field(pattern=type_name)
    input: JsonValue = None
    after: Sequence[str] = ()
    priority: int = Field(default=5, ge=0, le=9)
    retry: RetryPolicy = RetryPolicy()
    seconds: float | None = None
    attempt_seconds: float | None = None
    delay_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """It may be claimed that long after it was posted, and its deadline is counted from then; only without ``after``."""
    taint: tuple[str, ...] = ()
    """Sources of all that whoever posts it had seen."""
    made_from: tuple[str, ...] = ()
    """Ids of entries it rests on: its result is ``derived_from`` them. The results of tasks in ``after`` need not be named."""
    awaited_by: tuple[str, ...] = ()
    """Names by which something waits for it that is not posted yet: see :class:`blackboard.plan.Awaited`."""
    taken_over: TakenOver | None = None
    """What it comes to at once, unless another task of the run has taken that over."""


class RunSummary(Record):
    """One line of a listing of runs."""

    id: str
    tenant: str
    status: str
    """``queued``, ``running``, ``paused``, ``cancelling`` or one of :class:`Status`."""
    created_at: float
    """Seconds since the epoch, on the server's clock."""
    round: int = 0
    tasks: int = 0
    ended_at: float | None = None
    request: str = ""
    """The first characters of the request, for people."""


def summarise(run_id: str, header: Mapping[str, Any]) -> RunSummary:
    """A line of a listing from a run's header."""
    resting = "pz" in header and header["state"] in ("queued", "running")
    return RunSummary.model_construct(
        id=run_id,
        tenant=header["tenant"],
        status="paused" if resting else header["state"],
        created_at=header["at"] / 1000,
        round=int(header["round"]),
        tasks=int(header["n"]),
        ended_at=header["ended"] / 1000 if "ended" in header else None,
        request=header["text"],
    )


JsonObject = Mapping[str, JsonValue]
