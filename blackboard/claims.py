"""A claim: one attempt at one task, as the worker that holds it sees it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import JsonValue

from blackboard import references
from blackboard.types import Completion, Failure, RetryPolicy, Status


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker was handed. ``fence`` proves that it still holds the task; only the latest fence is accepted."""

    task_id: str
    run_id: str
    kind: str
    """``step``, ``fabrication`` or ``capability``."""
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

    def input(self) -> JsonValue:
        """The input with references to earlier tasks replaced by what those tasks returned.

        Raises:
            BadInput: a reference leads nowhere in the data it points into.
        """
        value = cast(JsonValue, json.loads(self.raw_input))
        if not self.dependencies:
            return value
        return references.resolve(value, {key: json.loads(raw).get("data") for key, raw in self.dependencies})

    def completion(
        self, status: Status, data: JsonValue = None, error: Failure | None = None, **more: Any
    ) -> Completion:
        """A completion of this claim, with the identity taken from the claim and not from whoever did the work."""
        return Completion(
            orchestration_id=self.run_id,
            tool_use_id=self.tool_use_id,
            node=self.capability,
            status=status,
            data=data,
            error=error,
            version=more.pop("version", self.version),
            attempts=self.attempt,
            worker=self.worker,
            **more,
        )


def task_key(task_id: str) -> str:
    """``run/2.load`` → ``load``."""
    return task_id.rsplit("/", 1)[1].partition(".")[2]


def parse(row: Sequence[str], worker: str) -> Claim:
    """A claim from a row of the claim script: id, header, input, checkpoint, then id and completion per dependency."""
    task_id, header, raw_input, checkpoint, *outputs = row
    t: dict[str, Any] = json.loads(header)
    policy = t.get("rp")
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
        retry=RetryPolicy(max_attempts=int(t["max"]), interval_seconds=policy[0], rate=policy[1], cap_seconds=policy[2])
        if policy
        else RetryPolicy(max_attempts=int(t["max"])),
        lanes=tuple(t.get("olanes", ())),
        worker=worker,
        raw_input=raw_input,
        checkpoint=json.loads(checkpoint) if checkpoint else None,
        dependencies=tuple((task_key(outputs[i]), outputs[i + 1]) for i in range(0, len(outputs), 2)),
    )
