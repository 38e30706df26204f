"""The plain data every room speaks: statuses, errors, usage, completions, task specifications, limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

type_name = r"^[a-z0-9][a-z0-9._-]{0,63}$"
"""Pattern of tenant, lane and namespace names: they become parts of keys and of agenda members."""

type_capability = r"^[^\x00-\x1f\x7f]{1,128}$"
"""Pattern of a capability's name on the board, where it may be part of an agenda member; the registry allows less."""


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


class Stored(BaseModel):
    """Base of what events carry: fields a later version adds are ignored, so that processes of two versions can work together."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Failure(Stored):
    """Why something did not succeed. ``type`` is a stable machine-readable word such as ``handler_error``."""

    type: str
    message: str
    retryable: bool = False
    evidence: dict[str, JsonValue] = Field(default_factory=dict)


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


class RetryPolicy(Record):
    """When a failed attempt is tried again: only retryable failures, with full jitter, a bounded number of times."""

    max_attempts: int = Field(default=3, ge=1, le=100)
    interval_seconds: float = Field(default=0.5, ge=0)
    rate: float = Field(default=2.0, ge=1)
    cap_seconds: float = Field(default=30.0, ge=0)


class Limits(Record):
    """Finite bounds of one run. Reaching one ends the run with a clear outcome, except for ``fabrications``: a request beyond
    it is refused to the model, which goes on with what there is."""

    rounds: int = Field(default=20, ge=1, le=1000)
    tasks: int = Field(default=200, ge=1, le=100_000)
    fabrications: int = Field(default=5, ge=0, le=1000)
    tokens: int = Field(default=1_000_000, ge=1)
    seconds: float = Field(default=900.0, gt=0, le=86_400 * 30)
    task_seconds: float = Field(default=300.0, gt=0, le=86_400)
    """Deadline of one task from posting to its end, waiting and retries included."""
    attempt_seconds: float = Field(default=60.0, gt=0, le=86_400)
    """Deadline of one attempt at a task."""
    invalid_decisions: int = Field(default=5, ge=0, le=100)
    """How many rounds may bring a decision that could not be carried out before the run fails."""


class TaskSpec(Record):
    """One task to be posted by an arbiter step.

    ``key`` names it inside its round (unique there); ``after`` lists keys of tasks of the same round it waits for.
    ``input`` may hold references ``{"$ref": "<key>#/json/pointer"}`` to the data of tasks in ``after``.
    """

    key: str
    tool_use_id: str
    kind: Literal["capability", "fabrication"] = "capability"
    capability: str = Field(pattern=type_capability)
    version: str | None = None
    lane: str = Field(pattern=type_name)
    input: JsonValue = None
    after: Sequence[str] = ()
    priority: int = Field(default=5, ge=0, le=9)
    retry: RetryPolicy = RetryPolicy()
    seconds: float | None = None
    attempt_seconds: float | None = None


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
