"""What the API answers, as models: for its description and for tests of what is really answered. Nothing is made of them.

What the rooms have as records is told as it is; here is what is put together for an answer.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, JsonValue, create_model
from pydantic.fields import FieldInfo

from blackboard.budgets import UnitReport
from blackboard.events import (
    ApprovalAskedData,
    Author,
    Call,
    CallbackWaitingData,
    Called,
    Erasure,
    FabricationStageData,
    Link,
    RunPausedData,
)
from blackboard.schedule import Scheduled
from blackboard.standing import Stood
from blackboard.subscriptions import Subscribed
from blackboard.triggers import AgendaTerms
from blackboard.types import Completion, Failure, Limits, Record, RunSummary, Usage
from blackboard.webhooks import Hooked

LogPosition = str


def flat(outer: type[BaseModel], inner: str = "", without: tuple[str, ...] = (), **more: Any) -> Any:
    """A model with the fields of another one, and those of one of its fields in the place of that."""
    fields: dict[str, FieldInfo] = dict(outer.model_fields)
    if inner:
        held: Any = fields.pop(inner).annotation
        fields = {**held.model_fields, **fields}
    kept: dict[str, Any] = {field: (info.annotation, info) for field, info in fields.items() if field not in without}
    return create_model(outer.__name__, __base__=Record, __module__=__name__, **kept, **more)


class ProcessStatus(Record):
    status: str


class Removed(Record):
    name: str
    status: Literal["removed"]


# ---- runs --------------------------------------------------------------------------------------------------------------


class Accepted(Record):
    run_id: str


class RunLine(flat(RunSummary, without=("id",), run_id=(str, ...))):
    pass


class Runs(Record):
    runs: list[RunLine]
    after: str | None
    """Give it back for the next page; null: this was the last one."""


class Cost(flat(UnitReport, left=(float, ...))):
    pass


class Round(Record):
    round: int
    at: str
    message: JsonValue
    calls: list[Call]
    usage: Usage
    model: str | None
    attending: bool
    considered: list[str]
    matches: list[JsonValue]
    sources: list[str]


class PersonAsked(flat(ApprovalAskedData, without=("task", "input"))):
    pass


class OutsideAwaited(flat(CallbackWaitingData, without=("task",))):
    pass


class Task(Record):
    task: str
    key: str
    kind: Literal["step", "control", "fabrication", "question", "capability"]
    capability: str
    version: str | None
    round: int
    state: str
    attempts: int
    after: list[str]
    posted_at: str
    ended_at: str | None
    input: JsonValue
    sources: list[str]
    completion: Completion | None
    retries: list[Failure]
    stages: list[FabricationStageData]
    activation: str | None
    """On the agenda: what it was made of."""
    asked: PersonAsked | None
    """While it waits for a person."""
    awaited: OutsideAwaited | None
    """While it waits for an answer from outside."""


class PlanStep(Record):
    """A step of a plan, and how far it is."""

    round: int
    key: str
    capability: str
    state: str
    why: str
    after: list[str]
    items: int | None
    """Of a step for each of some values: how many they are."""
    tasks: list[str]
    succeeded: int
    failed: int
    wait_seconds: float | None


class Run(Record):
    run_id: str
    status: str
    """``queued``, ``running``, ``paused``, ``cancelling``, or how it ended."""
    answer: str | None
    error: Failure | None
    seconds: float | None
    rounds: int
    tasks: int
    fabrications: int
    usage: Usage
    sources: list[str]
    model: str | None
    call: Called | None = None
    data: JsonValue = None
    """Of a call: its result."""
    plan: list[dict[str, JsonValue]] | None = None
    redrive_of: str | None = None
    rerun_of: str | None = None
    request: JsonValue
    tenant: str
    limits: Limits
    accepted_at: str | None
    ended_at: str | None
    paused: RunPausedData | None
    pins: dict[str, str]
    agenda: AgendaTerms | None
    round_list: list[Round]
    task_list: list[Task]
    step_list: list[PlanStep]
    cost: Cost | None = None


class RunStatus(Record):
    run_id: str
    task: str | None = None
    status: str


# ---- agendas and open requests -----------------------------------------------------------------------------------------


class Activation(Record):
    """What says nothing is left out."""

    id: str
    trigger: str
    capability: str
    version: str = ""
    lane: str = ""
    entry: str = ""
    entry_version: int = 0
    topic: str = ""
    confidence: float = 0.0
    priority: float = 0.0
    cost: float = 0.0
    depth: int = 0
    serial: int = 0
    made_at: float = 0.0
    seconds: float | None = None
    parent: int | None = None
    chain: tuple[str, ...] = ()
    state: str
    rating: float | None = None
    pin: float | None = None
    meaning: float | None = None
    task: str | None = None
    why: str = ""


class Recommendation(Activation):
    why: str = ""


class AgendaStep(Record):
    position: str
    what: str


class ExplainedActivation(Activation):
    outcome: str | None
    steps: list[AgendaStep]


class Activations(Record):
    activations: list[Activation]
    after: int | None


class Recommendations(Record):
    recommended: list[Recommendation]


class ActivationState(Record):
    id: str
    state: str


class Strategy(Record):
    strategy: str
    weights: dict[str, float]
    version: str
    """Of the entry that says so, or ``terms``."""
    trouble: str
    built_in: list[str]


class StrategyEntry(Record):
    entry: str
    version: int


class RequestAsked(Record):
    run_id: str
    name: str


class RequestSaid(Record):
    entry: str
    confidence: float
    content: JsonValue
    considered: bool | None = None
    """Of a bid, once there is an award."""


class RequestState(Record):
    run_id: str
    name: str
    status: Literal["open", "answered", "unanswered", "ended"]
    bids: list[RequestSaid]
    award: RequestSaid | None = None
    answer: JsonValue = None
    reason: str | None = None


# ---- what is set up ------------------------------------------------------------------------------------------------------


class StandingWatch(flat(Stood, "standing", ("nonce",))):
    pass


class ScheduleState(flat(Scheduled, "schedule")):
    pass


class WebhookState(flat(Hooked, "webhook", ("nonce",))):
    pass


class StandingWatches(Record):
    standing: list[StandingWatch]


class Schedules(Record):
    schedules: list[ScheduleState]


class WebhookStates(Record):
    webhooks: list[WebhookState]


class Subscriptions(Record):
    subscriptions: list[Subscribed]


# ---- entries -------------------------------------------------------------------------------------------------------------


class Written(Record):
    id: str
    version: int
    position: LogPosition
    new: bool
    """False: it was there already, by the same key."""


class Entry(Record):
    """What says nothing is left out."""

    id: str
    topic: str
    version: int
    state: str
    content: JsonValue = None
    confidence: float
    author: Author
    links: tuple[Link, ...] = ()
    taint: tuple[str, ...] = ()
    position: LogPosition
    posted: LogPosition
    expires_at: float | None = None
    supersedes: str | None = None
    erased: Erasure | None = None
    fence: int | None = None
    leased_until: float | None = None


class FoundEntry(Entry):
    score: float | None = None
    """With ``about``: how well it fits."""
    reasons: tuple[str, ...] = ()


class FoundEntries(Record):
    entries: list[FoundEntry]
    after: str | None
    position: LogPosition


class EntryHistory(Record):
    entries: list[Entry]


class TakenEntry(Record):
    entry: Entry | None


class TopicSchemaState(Record):
    pattern: str
    status: Literal["set", "removed"]


# ---- errors --------------------------------------------------------------------------------------------------------------


class PlanProblem(Record):
    field: str
    detail: str


class Problem(Record):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    value: str | None = None
    remedy: str | None = None
    problems: list[PlanProblem] | None = None
    scope: str | None = None
    subject: str | None = None
    retry_after_seconds: float | None = None
