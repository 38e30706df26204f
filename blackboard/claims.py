"""A claim: one attempt at one task, as the worker that holds it sees it."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, cast

from pydantic import JsonValue
from pydantic_core import from_json

from blackboard import references, retries
from blackboard.approval import Said
from blackboard.blobs import Blob, Blobs
from blackboard.errors import BlobError
from blackboard.taint import UNKNOWN, Taint, merged, read
from blackboard.types import Completion, Failure, Limits, RetryPolicy, Status


@dataclass(slots=True)
class Claim:
    """What a worker was handed. ``fence`` proves that it still holds the task; only the latest fence is accepted.

    Nobody changes one, but for :meth:`deciding`; it is not frozen because making a frozen one of so many fields takes a tenth of
    an attempt.
    """

    task_id: str
    run_id: str
    kind: str
    """``step``, ``control``, ``fabrication``, ``question`` or ``capability``."""
    capability: str
    version: str | None
    tool_use_id: str
    key: str
    round: int
    lane: str
    tenant: str
    attempt: int
    max_attempts: int
    fence: str
    deadline: float
    """When the task ends whatever happens, in seconds since the epoch on the server's clock."""
    attempt_seconds: float
    retry: RetryPolicy
    lanes: tuple[str, ...]
    """Lanes its completion may release work into."""
    worker: str
    raw_input: str
    """The input as JSON, references not yet resolved."""
    checkpoint: JsonValue = None
    dependencies: tuple[tuple[str, str], ...] = ()
    """Key and completion (JSON) of each task it waited for."""
    failures: Mapping[str, int] = field(default_factory=dict[str, int], compare=False)
    """How many earlier attempts failed under each rule of ``retry``; see :mod:`blackboard.retries`."""
    loaded: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue], compare=False)
    """Large results of those tasks, by key."""
    limits: Limits | None = None
    """Of the run, when it is a call: ``tokens``, ``money`` and ``seconds``. Elsewhere the arbiter's steps see to them."""
    trouble: BlobError | None = field(default=None, compare=False)
    """Why a large value of this claim could not be loaded; :meth:`input` raises it."""
    taint: Taint = UNKNOWN
    """Where its input comes from: what whoever posted it had seen, and what the tasks it waited for brought in."""
    entry: str = ""
    """Id of the entry that its result becomes, on the board of a planned run; empty where it becomes none."""
    watched: bool = False
    """Whether that entry may trigger: its run has an agenda."""
    said: Said | None = None
    """What a person said to this task, who was asked about exactly the input it has now."""
    usual: str = field(default="", compare=False, repr=False)
    """Of a call without anything unusual, its header as the claim left it: the end of such a call needs no look at more."""
    received: float = field(default_factory=time.monotonic, compare=False)
    """When this process was handed it, on its own clock that only grows."""
    ready_at: float = field(default=0.0, compare=False)
    """When it could be claimed first, in seconds since the epoch on the server's clock; of a call, when it was accepted."""
    claims: int = field(default=1, compare=False)
    """How many there were, this one included."""
    decided: bool = field(default=False, compare=False)
    """Whether whoever holds it ends the task on the board itself, or did: the answer to that says what became of it, and a
    heartbeat that finds the task gone must not stop what follows."""

    @property
    def label(self) -> str:
        """The capability where it is one, for metrics; decisions and fabrications are told by their kind."""
        return self.capability if self.kind == "capability" else ""

    def claimed_at(self) -> float:
        """When it was claimed, in seconds since the epoch on the server's clock."""
        return int(self.fence) / 1e6  # a fence is the server's microsecond, or just behind the last one

    def now(self) -> float:
        """Seconds since the epoch on the server's clock, as far as this process knows without asking."""
        return self.claimed_at() + time.monotonic() - self.received

    @contextmanager
    def deciding(self) -> Generator[None, None, None]:
        """Around a call that ends the task on the board, unless it raises."""
        self.decided = True
        try:
            yield
        except BaseException:
            self.decided = False
            raise

    def input(self) -> JsonValue:
        """The input with references to earlier tasks replaced by what those tasks returned.

        Raises:
            BadInput: a reference leads nowhere in the data it points into.
            BlobError: a large value could not be loaded.
        """
        if self.trouble is not None:
            raise self.trouble
        value = cast(JsonValue, json.loads(self.raw_input))
        if not self.dependencies:
            return value
        return references.resolve(value, self.results())

    def results(self) -> dict[str, JsonValue]:
        """What the tasks it waited for returned, by key; a :class:`Blob` where a large result was not loaded."""
        data: dict[str, JsonValue] = {key: json.loads(raw).get("data") for key, raw in self.dependencies}
        return {key: Blob.of(value) or value for key, value in data.items()} | dict(self.loaded)

    def completion(
        self, status: Status, data: JsonValue = None, error: Failure | None = None, **more: Any
    ) -> Completion:
        """A completion of this claim, with the identity taken from the claim and not from whoever did the work.

        Args:
            more: further fields. ``sources``: what the attempt brought in, beside what the claim's taint says.
        """
        return Completion(
            orchestration_id=self.run_id,
            tool_use_id=self.tool_use_id,
            node=self.capability,
            status=status,
            data=data,
            error=error,
            version=more.pop("version", self.version),
            taint=merged(self.taint, more.pop("sources", ())),
            attempts=self.attempt,
            worker=self.worker,
            **more,
        )


async def load(claim: Claim, blobs: Blobs) -> Claim:
    """The claim with its large values: input, checkpoint, and the results its input refers to.

    Never raises a :class:`~blackboard.errors.BlobError`: a claim is held, and its task has to be ended by its holder. The
    error is in :attr:`Claim.trouble`.
    """
    checkpoint = Blob.of(claim.checkpoint)
    apart = claim.raw_input.startswith(_REFERENCE)
    if not (apart or checkpoint or any(_DATA in raw for _, raw in claim.dependencies)):
        return claim
    run = claim.run_id
    try:
        if apart and (given := Blob.of(json.loads(claim.raw_input))):
            claim = replace(claim, raw_input=await blobs.text(run, given))
        if checkpoint is not None:
            claim = replace(claim, checkpoint=await blobs.load(run, checkpoint))
        if claim.dependencies:
            named = set(references.keys(json.loads(claim.raw_input)))
            results = {key: data for key, data in claim.results().items() if key in named}
            claim = replace(claim, loaded={key: await blobs.load(run, data) for key, data in results.items()})
    except BlobError as error:
        return replace(claim, trouble=error)
    return claim


_REFERENCE = '{"$blob":'
_DATA = '"data":{"$blob":'


def task_key(task_id: str) -> str:
    """``run/2.load`` → ``load``."""
    return task_id.rsplit("/", 1)[1].partition(".")[2]


_USUAL = frozenset({
    "kind", "cap", "version", "lane", "run", "tenant", "tuid", "key", "round", "prio", "slot", "att", "clm", "max", "fence",
    "owner", "state", "ver", "at", "dl", "ats", "rp", "rr", "lim", "src",
})  # fmt: skip
"""Fields of a header that ask nothing of its end. Any other may: what waits on it, what counts it, who was told of it."""


@lru_cache(maxsize=256)
def _limits(**own: float) -> Limits:
    return Limits.model_validate(own)


def parse(row: Sequence[str], worker: str) -> Claim:
    """A claim from a row of the claim script: id, header, input, checkpoint, then id and completion per dependency."""
    task_id, header, raw_input, checkpoint, *outputs = row
    t: dict[str, Any] = from_json(header)
    brought = [read(json.loads(outputs[i + 1]).get("taint")) for i in range(0, len(outputs), 2)]
    return Claim(
        task_id=task_id,
        run_id=t["run"],
        kind=t["kind"],
        capability=t["cap"],
        version=t.get("version"),
        tool_use_id=t["tuid"],
        key=t["key"],
        round=int(t["round"]),
        lane=t["lane"],
        tenant=t["tenant"],
        attempt=int(t["att"]),
        max_attempts=int(t["max"]),
        fence=t["fence"],
        deadline=t["dl"] / 1000,
        attempt_seconds=t["ats"] / 1000,
        retry=retries.policy(t),
        failures={key: int(count) for key, count in t.get("rc", {}).items()},
        lanes=tuple(t.get("olanes", ())),
        limits=_limits(**t["lim"]) if "lim" in t else None,
        worker=worker,
        raw_input=raw_input,
        taint=merged(read(t.get("src")), *brought),
        entry=f"{t['run']}/e/{t['ent']}" if "ent" in t else "",
        watched="ag" in t,
        usual=header if t["round"] == 0 and t["kind"] == "capability" and t.keys() <= _USUAL else "",
        ready_at=t["at"] / 1000,
        claims=int(t.get("clm", 1)),
        said=Said(*(t["said"].get(name, "") for name in Said._fields)) if "said" in t else None,
        checkpoint=json.loads(checkpoint) if checkpoint else None,
        # What was answered is about the input as it is: nothing is filled in afterwards.
        dependencies=()
        if "said" in t
        else tuple((task_key(outputs[i]), outputs[i + 1]) for i in range(0, len(outputs), 2)),
    )
