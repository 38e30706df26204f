"""Every event of a board, as CloudEvents 1.0 with typed data.

Events are appended by the script that makes the change they tell of. A run's log holds its history with data, enough
to rebuild its state; the shard's feed names every event and adds the volatile ones (``task.ready``, ``task.claimed``,
``task.released``). Constants are not stored; :func:`parse` puts them back. ``id`` is the subject and its version, so
``source`` + ``id`` identifies an event and a duplicate is recognisable without state.

Source of the envelope: CloudEvents 1.0 specification, with the extensions ``sequence`` and ``partitionkey``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, cast

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter

from blackboard.blobs import Blob
from blackboard.triggers import AgendaTerms
from blackboard.types import Completion, Failure, Limits, Record, Stored, Usage

PREFIX = "dev.arbiter."
SUFFIX = ".v1"


class Event(Record):
    """One CloudEvents 1.0 envelope; see the subclasses for the data of each type."""

    kind: ClassVar[str] = ""
    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    sequence: str
    """Position in the log or feed it was read from; sorts as text."""
    partitionkey: str
    """The run."""
    data: Any

    @property
    def run_id(self) -> str:
        return self.partitionkey

    def __str__(self) -> str:
        """What happened to what: ``task.completed r1a2/1.price``. The whole envelope is its ``repr``."""
        return f"{self.kind or self.type} {self.subject}"


class StoredLimits(Limits):
    """Limits as they were accepted, read by this version whatever the version that wrote them knew."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StoredAgendaTerms(AgendaTerms):
    """Terms of an agenda, read by this version whatever the version that wrote them knew."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Called(Stored):
    """The one capability a run without decisions was accepted to call."""

    capability: str
    version: str | None = None
    """Content hash; None leaves the choice to the worker."""
    priority: int = 5


class ReplayOf(Stored):
    """The archived event a run was made from again."""

    name: str
    """Of the replay; empty for one without."""
    source: str
    """Of the archived event."""
    id: str
    """The same."""


class RerunOf(Stored):
    """The run another one goes on from: what succeeded there is taken over and not done again."""

    run: str
    """Its id."""
    current_versions: bool = False
    """Only results of the versions that would be called now are taken over."""


class RunAcceptedData(Stored):
    request: JsonValue = None
    tenant: str
    limits: StoredLimits
    pins: dict[str, str] = Field(default_factory=dict)
    """Capability versions (name to content hash) the run was started with."""
    call: Called | None = None
    """Set for a run that calls one capability without a model. Its input is in the ``task.posted`` that follows."""
    redrive_of: str | None = None
    """The dead letter this run was made of: the id of a task or of a run that was given up."""
    replay_of: ReplayOf | None = None
    """Where the request came from when it was replayed from an archive."""
    rerun_of: RerunOf | None = None
    """The run it goes on from."""
    agenda: StoredAgendaTerms | None = None
    """Terms of its agenda; a run without any has none, and its entries trigger nothing."""
    plan: tuple[dict[str, JsonValue], ...] = ()
    """Steps of the plan that is carried out without a model, as `post_plan` takes them; none where a model plans."""
    taint: tuple[str, ...] = ()
    """Sources of the request; labels as ``blackboard.taint`` makes them; empty counts as unknown."""


class RunAccepted(Event):
    """A request was durably accepted. Subject: the run."""

    kind: ClassVar[str] = "run.accepted"
    data: RunAcceptedData


class Shown(Stored):
    """An entry a model was shown, and what it said then."""

    entry: str
    """Its id."""
    position: str
    """Of the fact with what it said."""
    whole: bool = False
    """Whether it was to be shown as far as a result is, and not its beginning only."""


class Context(Stored):
    """What a conversation with a planning model began with, from a round on, beside the request."""

    first: int
    """The first round whose messages it had."""
    entries: tuple[Shown, ...] = ()
    """What stood in for the rounds before, and what was remembered of earlier runs, in this order."""


class StepSettled(Stored):
    """What the engine decided about a step of a plan, beside the tasks it posted for it."""

    key: str
    """Of the step."""
    state: Literal["mapped", "skipped", "cancelled", "failed"]
    """``mapped``: it became a task for each item; ``skipped``: it was not its turn; ``cancelled``: what it depends on did not
    succeed; ``failed``: no task could be made of it."""
    items: int = 0
    """How many there are, of a step that was mapped."""
    why: str = ""
    """Of one that was skipped or cancelled."""
    error: Failure | None = None
    """Of one that failed."""


class Call(Stored):
    """One tool call of the model in a round and what became of it."""

    tool_use_id: str
    name: str
    tasks: tuple[str, ...] = ()
    """Ids of the tasks it was turned into; empty when it was answered in the same step."""
    answer: JsonValue = None
    """The immediate answer of a call that needed no task, or the reason it was invalid."""
    valid: bool = True
    shown: tuple[Shown, ...] = ()
    """Entries that the answer shows, which it does not repeat."""
    steps: tuple[StepSettled, ...] = ()
    """In a round that carries a plan on: what was decided about steps of the plan that this call posted."""


class RoundPlannedData(Stored):
    round: int
    message: dict[str, JsonValue]
    """The model's message, in Bedrock Converse shape."""
    calls: tuple[Call, ...] = ()
    usage: Usage = Usage()
    model: str = ""
    pins: dict[str, str] = Field(default_factory=dict)
    """Versions pinned by this round, in addition to earlier ones; an empty one: the run is not pinned to any more."""
    considered: tuple[str, ...] = ()
    """Capabilities offered to the model."""
    taint: tuple[str, ...] = ()
    """Sources of all that the model had seen, and the model itself."""
    matches: tuple[dict[str, JsonValue], ...] = ()
    """What the registry's matcher decided for this round: about the request in the first one, then about each search."""
    context: Context | None = None
    """What the conversation began with from this round on, where that was chosen anew."""
    attending: bool = False
    """Taken without asking a model, for open requests or to carry a plan on; in a planned run its calls say what became of those
    of the model."""
    carrying: bool = False
    """Taken to carry on the plan of the last round of the model, or the one the run was given; ``attending`` is true as well."""
    instructions: str = ""
    """SHA-256 of the operator's instructions that the model was given with the system prompt; empty without any."""
    seen: str | None = None
    """How far the log was read for it, where the model was asked though tasks were still at work."""


class RoundPlanned(Event):
    """The arbiter took one decision; its tasks were posted by the same script. Subject: the run."""

    kind: ClassVar[str] = "round.planned"
    data: RoundPlannedData


class TaskPostedData(Stored):
    task: str
    kind: Literal["step", "control", "fabrication", "question", "capability"]
    capability: str
    version: str | None = None
    lane: str
    tool_use_id: str
    key: str
    round: int
    after: tuple[str, ...] = ()
    state: Literal["ready", "blocked"]
    deadline_ms: float
    """When it ends whatever happens, in milliseconds since the epoch on the server's clock."""
    input: JsonValue = None
    taint: tuple[str, ...] = ()
    """Sources of all that whoever posted it had seen; what the tasks it waits for bring in comes on top."""
    activation: int | None = None
    """The activation of the run's agenda that it carries out."""


class TaskPosted(Event):
    """A task was put on the board. Subject: the task, as in every ``task.*`` event."""

    kind: ClassVar[str] = "task.posted"
    data: TaskPostedData


class TaskReady(Event):
    """A waiting task may be claimed now. Feed only."""

    kind: ClassVar[str] = "task.ready"


class TaskClaimedData(Stored):
    attempt: int
    worker: str
    fence: str
    capability: str
    kind: str
    key: str = ""
    version: str | None = None


class TaskClaimed(Event):
    """An attempt began. Feed only; the completion repeats how many attempts there were."""

    kind: ClassVar[str] = "task.claimed"
    data: TaskClaimedData


class TaskReleased(Event):
    """A worker gave a task back unfinished, for example while draining. Feed only."""

    kind: ClassVar[str] = "task.released"


class TaskRetriedData(Stored):
    attempt: int
    delay_ms: float
    error: Failure
    usage: Usage = Usage()
    """What the failed attempt consumed, apart from what its checkpoint carries on into the next."""


class TaskRetried(Event):
    """An attempt ended without a result; another follows after the delay."""

    kind: ClassVar[str] = "task.retried"
    data: TaskRetriedData


class TaskProgressed(Event):
    """Something a running attempt reported about itself."""

    kind: ClassVar[str] = "task.progressed"


class FabricationStageData(Stored):
    stage: str
    outcome: Literal["started", "passed", "failed", "skipped"]
    detail: str = ""
    round: int = 0
    """Which generation: 0 the first, then one for each repair."""
    seconds: float = 0.0
    usage: Usage = Usage()
    evidence: dict[str, JsonValue] = Field(default_factory=dict)


class FabricationStage(Event):
    """The fabricator began or ended a stage. Subject: the fabrication's task."""

    kind: ClassVar[str] = "fabrication.stage"
    data: FabricationStageData


class TaskCompleted(Event):
    """A task ended, in one of the five statuses; exactly once for every task."""

    kind: ClassVar[str] = "task.completed"
    data: Completion


class TaskCancellingData(Stored):
    reason: str


class TaskCancelling(Event):
    """The cancellation of a running task was accepted; its attempt is being stopped."""

    kind: ClassVar[str] = "task.cancelling"
    data: TaskCancellingData


class ApprovalAskedData(Stored):
    task: str
    kind: Literal["approval", "question"]
    """``approval``: may the task be done with this input? ``question``: the planning model asks something."""
    capability: str
    version: str | None = None
    input: JsonValue = None
    """What is asked about: the task's whole input, references to other tasks filled in, or the question."""
    until_ms: float
    """When the time is over, in milliseconds since the epoch on the server's clock; a pause of the run moves it on."""
    otherwise: str | None = None
    """What counts then: ``approve``, or the answer to a question; nothing where it is refused or stays unanswered."""
    by: tuple[str, ...] = ()
    """Who may answer; empty for whoever can reach the board."""
    delegate: tuple[str, ...] = ()
    """Who may answer as well from ``delegate_ms`` on."""
    delegate_ms: float | None = None
    """The same as ``until_ms``, of the delegates."""
    taint: tuple[str, ...] = ()
    """Sources of what is asked about."""


class ApprovalAsked(Event):
    """A task waits for a person. Subject: the task."""

    kind: ClassVar[str] = "approval.asked"
    data: ApprovalAskedData


class ApprovalAnsweredData(Stored):
    task: str
    state: Literal["approved", "refused", "answered", "expired"]
    """``expired``: nobody answered in time, and nothing counts instead."""
    by: str = ""
    """Who answered; empty where the time was over."""
    text: str = ""
    """The answer to a question, or why it was refused."""
    input: JsonValue = None
    """What the task is given instead of what was asked about, where whoever approved it changed that."""


class ApprovalAnswered(Event):
    """A person answered, or the time for it was over; the task is ready again. Subject: the task."""

    kind: ClassVar[str] = "approval.answered"
    data: ApprovalAnsweredData


class CallbackWaitingData(Stored):
    task: str
    attempt: int
    until_ms: float
    """When the time is over, in milliseconds since the epoch on the server's clock."""
    heartbeat_seconds: float | None = None
    """After how long without a sign of life the attempt fails; nothing where none is asked for."""


class CallbackWaiting(Event):
    """A task waits for an answer from outside, which whoever holds the token of its attempt gives. Subject: the task."""

    kind: ClassVar[str] = "callback.waiting"
    data: CallbackWaitingData


class CallbackAnsweredData(Stored):
    task: str
    attempt: int
    status: Literal["succeeded", "failed"]
    by: str = ""
    """Who showed the token: a user of a machine, or an address."""


class CallbackAnswered(Event):
    """The answer came from outside; what it comes to is told next. Subject: the task."""

    kind: ClassVar[str] = "callback.answered"
    data: CallbackAnsweredData


class RunPausedData(Stored):
    reason: str
    until_ms: float
    """When it goes on by itself, in milliseconds since the epoch on the server's clock."""


class RunPaused(Event):
    """A run rests: what runs is left to end, nothing else of it is handed out."""

    kind: ClassVar[str] = "run.paused"
    data: RunPausedData


class RunResumedData(Stored):
    deadline_ms: float
    """The run's deadline from here on, moved by the time it rested."""


class RunResumed(Event):
    """A paused run goes on, by request or because its pause was over."""

    kind: ClassVar[str] = "run.resumed"
    data: RunResumedData


class RunCancellingData(Stored):
    reason: str


class RunCancelling(Event):
    """A cancellation was accepted; running tasks are being stopped."""

    kind: ClassVar[str] = "run.cancelling"
    data: RunCancellingData


class RunCompletedData(Stored):
    status: Literal["succeeded", "failed", "refused", "timed_out", "cancelled"]
    rounds: int = 0
    answer: str | None = None
    error: Failure | None = None


class RunCompleted(Event):
    """The run ended; nothing of it happens after this."""

    kind: ClassVar[str] = "run.completed"
    data: RunCompletedData


class Author(Stored):
    """Who wrote on the board."""

    kind: Literal["task", "person", "program", "event"]
    """A ``task`` is named by the script from the lease it holds, never by whoever calls."""
    name: str
    """The capability of a task, the name of a person or a program, the source of an outside event."""
    version: str | None = None
    """Content hash of the capability's version."""
    task: str | None = None
    run: str | None = None
    attempt: int | None = None
    id: str | None = None
    """Of the outside event."""


Relation = Literal["supports", "contradicts", "answers", "derived_from"]


class Link(Stored):
    """What an entry says about an older one."""

    rel: Relation
    to: str
    """Id of that entry."""


class Erasure(Stored):
    """That what a fact said was erased: its author's name, its content or reason, and what would tell them."""

    by: Author
    """Who had it erased."""
    at_ms: float
    """When, in milliseconds since the epoch on the server's clock."""
    reason: str = ""
    """As given."""


class EntryFactData(Stored):
    """What every fact about an entry says."""

    topic: str
    version: int
    """Of the entry: 1 when it was posted, one more with each fact about it."""
    topic_version: int
    """How many facts were written on its topic, this one included."""
    author: Author
    at_ms: float
    """When, in milliseconds since the epoch on the server's clock; times to live are measured by it."""
    erased: Erasure | None = None
    """What it said was erased; nothing where it was not."""


class EntryPostedData(EntryFactData):
    content: JsonValue = None
    confidence: float
    """0 to 1."""
    links: tuple[Link, ...] = ()
    taint: tuple[str, ...] = ()
    """Where it came from, as labels; those of entries it was derived from are among them."""
    expires_ms: float | None = None
    """End of its time to live, in milliseconds since the epoch on the server's clock."""
    salt: str = ""
    """Random; what it is hashed with, so that nobody can guess an erased content by its hash. Erased with it."""
    sha256: str = ""
    """Of the salt and the content as canonical JSON; empty in what an earlier version wrote."""


class EntryPosted(Event):
    """Something was written on the board. Subject: the entry, as in every ``entry.*`` event."""

    kind: ClassVar[str] = "entry.posted"
    data: EntryPostedData


class EntryAmendedData(EntryPostedData):
    supersedes: str
    """Position of the fact whose place this one takes."""
    posted: str = ""
    """Position of the first fact about the entry, which may be gone; empty in what an earlier version wrote."""


class EntryAmended(Event):
    """An entry says something else from here on; all of it is in the data."""

    kind: ClassVar[str] = "entry.amended"
    data: EntryAmendedData


class EntryRetractedData(EntryFactData):
    reason: str = ""


class EntryRetracted(Event):
    """What an entry said counts no more."""

    kind: ClassVar[str] = "entry.retracted"
    data: EntryRetractedData


class EntryLeasedData(EntryFactData):
    fence: int
    """Names the lease: the version of the entry with which it was taken. The same where the lease was renewed."""
    until_ms: float
    """When it lapses unless it is renewed, in milliseconds since the epoch on the server's clock."""


class EntryLeased(Event):
    """An entry was taken for a time, or that time was prolonged: it comes back when it lapses, and no fact tells that it did."""

    kind: ClassVar[str] = "entry.leased"
    data: EntryLeasedData


class EntryReturnedData(EntryFactData):
    pass


class EntryReturned(Event):
    """Whoever held an entry under a lease gave it back before the end."""

    kind: ClassVar[str] = "entry.returned"
    data: EntryReturnedData


class EntryTakenData(EntryFactData):
    fence: int | None = None
    """Of the lease under which it was held before; nothing where it was taken for good at once."""


class EntryTaken(Event):
    """An entry was taken off the board by exactly one taker."""

    kind: ClassVar[str] = "entry.taken"
    data: EntryTakenData


class EntryErasedData(EntryFactData):
    reason: str = ""


class EntryErased(Event):
    """What an entry said was erased, here and from the facts before."""

    kind: ClassVar[str] = "entry.erased"
    data: EntryErasedData


class ScopeCompactedData(Stored):
    """What was taken out of a log. Counts are of all that ever was."""

    number: int
    """How many summaries there were, this one included."""
    readable_from: str
    """First position as of which the scope can be read; of what came before only this summary is left."""
    boundary_ms: float
    """The time of that position, in milliseconds since the epoch on the server's clock: what had ended by then is gone."""
    first: str = ""
    """Position of the oldest fact that is gone."""
    last: str = ""
    """Of the newest one."""
    facts: int = 0
    """How many facts are gone."""
    entries: int = 0
    """How many entries nothing is left of."""
    topics: Mapping[str, Mapping[str, int]] = {}
    """How many facts of each kind are gone, by topic, or by how topics begin where there were too many."""
    sha256: str = ""
    """Of what is gone: the sum, modulo 2^256, of the SHA-256 of a line for each fact, in whatever order."""
    kept: int | None = None
    """How many facts were left up to ``kept_upto``; nothing while more are being taken out."""
    kept_upto: str = ""
    kept_sha256: str = ""


class ScopeCompacted(Event):
    """Facts that count no more were taken out of a scope's log; it has the place of the summary before. Subject: the scope's
    owner with ``/compacted``."""

    kind: ClassVar[str] = "scope.compacted"
    data: ScopeCompactedData


class Activated(Stored):
    """One activation as it was made."""

    number: int
    """``<run>/a/<number>`` is its id."""
    trigger: str
    capability: str
    version: str
    lane: str
    priority: float
    cost: float
    seconds: float | None = None
    serial: int
    """The how manieth of its capability in this run."""
    state: Literal["waiting", "stopped"]
    why: str = ""
    """Which guard stopped it."""


class AgendaActivatedData(Stored):
    entry: str
    entry_version: int
    topic: str
    confidence: float
    depth: int
    """1 where no activation led to the entry."""
    parent: int | None = None
    """The activation whose task wrote the entry."""
    chain: tuple[str, ...] = ()
    """Triggers of the activations that led to it, the first of them first."""
    activations: tuple[Activated, ...]
    more: bool = False
    """More triggers fit than one call makes activations of; the rest follows."""
    at_ms: float
    """When, in milliseconds since the epoch on the server's clock."""


class AgendaActivated(Event):
    """An entry was written that capabilities had declared to wait for. Subject: the agenda, as in every ``agenda.*`` event."""

    kind: ClassVar[str] = "agenda.activated"
    data: AgendaActivatedData


class RatedActivation(Stored):
    number: int
    rating: float
    success: float | None = None
    """The part of its capability's tasks that succeeded, as it was known when it was rated."""
    meaning: float | None = None
    """How well the entry answers to what the trigger is about, 0 to 1; without one it asks for none."""


class SetAside(Stored):
    number: int
    state: Literal["parked", "obviated"]
    why: str


class PickedActivation(Stored):
    number: int
    task: str
    rating: float
    why: str
    bids: bool = False
    """It was asked to bid on an open request, for which there is room of its own."""


class AgendaDecidedData(Stored):
    strategy: str
    """By which the ratings were made."""
    strategy_version: str
    """Id and version of the entry that says so; ``terms`` for the terms of the run."""
    weights: dict[str, float] = Field(default_factory=dict)
    fallback: str = ""
    """Why another strategy than the one that was asked for rated."""
    rated: tuple[RatedActivation, ...] = ()
    """What was rated now, once and for all unless the strategy changes."""
    candidates: tuple[RatedActivation, ...] = ()
    """The first of those that waited, the best first; at most 20."""
    waiting: int = 0
    """How many waited."""
    room: int = 0
    """How many could be picked, beside those that are asked to bid."""
    aside: tuple[SetAside, ...] = ()
    picked: tuple[PickedActivation, ...] = ()
    told: tuple[str, ...] = ()
    """What was done for open requests, in words."""


class AgendaDecided(Event):
    """Control looked at the agenda: what it rated, set aside and picked. What was picked was posted by the same script."""

    kind: ClassVar[str] = "agenda.decided"
    data: AgendaDecidedData


class AgendaChangedData(Stored):
    number: int
    change: Literal["promote", "block", "unblock", "rerate"]
    rating: float | None = None
    by: str
    reason: str = ""
    at_ms: float


class AgendaChanged(Event):
    """Somebody overruled the strategy about one activation."""

    kind: ClassVar[str] = "agenda.changed"
    data: AgendaChangedData


TYPES: dict[str, type[Event]] = {
    cls.kind: cls
    for cls in (
        RunAccepted, RoundPlanned, TaskPosted, TaskReady, TaskClaimed, TaskReleased, TaskRetried, TaskProgressed,
        FabricationStage, TaskCancelling, TaskCompleted, ApprovalAsked, ApprovalAnswered, CallbackWaiting, CallbackAnswered,
        RunPaused, RunResumed, RunCancelling, RunCompleted,
        EntryPosted, EntryAmended, EntryRetracted, EntryLeased, EntryReturned, EntryTaken, EntryErased, ScopeCompacted,
        AgendaActivated, AgendaDecided, AgendaChanged,
    )
}  # fmt: skip


def source(namespace: str, board: str) -> str:
    """The ``source`` attribute of a board's events."""
    return f"/arbiter/{namespace}/{board}"


def parse(position: str, fields: Mapping[str, str], run_id: str, origin: str) -> Event:
    """The event stored at a stream position.

    Raises:
        pydantic.ValidationError: the stored data does not fit the type, which means another version wrote it.
    """
    ms, _, seq = position.partition("-")
    kind = fields["type"]
    cls = TYPES.get(kind, Event)
    envelope: dict[str, Any] = {
        "id": fields["id"],
        "source": origin,
        "type": f"{PREFIX}{kind}{SUFFIX}",
        "subject": fields["subject"],
        "time": datetime.fromtimestamp(int(ms) / 1000, UTC),
        "sequence": f"{int(ms):013d}-{int(seq):06d}",
        "partitionkey": run_id,
    }
    raw = fields.get("data") or "null"
    if cls in _UNTYPED:
        return cls.model_validate({**envelope, "data": _JSON.validate_json(raw)})
    data = cast(type[Stored], cls.model_fields["data"].annotation)
    return cls.model_construct(**envelope, data=_marked(cls, data.model_validate_json(raw)))


def _marked(cls: type[Event], data: Stored) -> Stored:
    """The data with a :class:`~blackboard.blobs.Blob` where a reference stands for a large value."""
    field = _MAY_BE_APART.get(cls)
    if field is None or (blob := Blob.of(getattr(data, field))) is None:
        return data
    return data.model_copy(update={field: blob})


def apart(event: Event) -> Blob | None:
    """The reference to a large value in an event's data."""
    field = _MAY_BE_APART.get(type(event))
    found = None if field is None else getattr(event.data, field)
    return found if isinstance(found, Blob) else None


_MAY_BE_APART: dict[type[Event], str] = {
    RunAccepted: "request", TaskPosted: "input", TaskCompleted: "data", EntryPosted: "content", EntryAmended: "content",
    ApprovalAsked: "input", ApprovalAnswered: "input",
}  # fmt: skip
_UNTYPED = {Event, TaskReady, TaskReleased, TaskProgressed}
_JSON: TypeAdapter[Any] = TypeAdapter(JsonValue)
